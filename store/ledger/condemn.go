package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"
)

// RecordAnswers writes what reviews came to: a State of Waiting is asked again
// when it is due, Condemned condemns, and "" ends the review of what is needed.
// Whether it is, is looked up once more. What is asked about for its own sake is
// asked about again when it is due. A review that changed since it was read is left
// as it is. What a condemned manifest refers to is asked about at once. It
// says which were condemned.
func (l *Ledger) RecordAnswers(ctx context.Context, answers []Review, now time.Time) (condemned []Review, err error) {
	err = l.update(ctx, func(tx *bolt.Tx) error {
		condemned = nil
		n, err := newNeed(tx, now, true)
		if err != nil {
			return err
		}
		for _, a := range answers {
			done, err := n.answer(a)
			if err != nil {
				return fmt.Errorf("%s: %w", a.Held, err)
			}
			if done {
				condemned = append(condemned, a)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("record answers: %w", err)
	}
	return condemned, nil
}

func (n need) answer(a Review) (condemned bool, err error) {
	k, err := a.key()
	if err != nil {
		return false, err
	}
	old, ok, err := getReview(n.tx, k)
	if err != nil || !ok || old.State == Deleting || old.Told.After(a.Told) || old.Left.After(a.Left) {
		return false, err
	}
	switch a.State {
	case Condemned:
		return n.condemn(k, old, a)
	case Waiting:
		return false, putReview(n.tx, k, old, a)
	}
	return false, n.end(k, old, a)
}

// end ends a review of what is needed. What would be asked about for its own sake
// if the need ended is asked again when a is due. What is needed no more by now is
// to be asked about at once.
func (n need) end(k []byte, old, a Review) error {
	why, err := n.of(a.Held)
	if err != nil || why == "" {
		return err
	}
	again, err := n.endsByItself(&a)
	if err != nil {
		return err
	}
	if again {
		a.State = Waiting
		return putReview(n.tx, k, old, a)
	}
	if err := dropReview(n.tx, k, old); err != nil || a.Repo == "" {
		return err
	}
	// While it was asked about, that may have been all that kept the content.
	if why, err = n.ofContent(a.Digest); err != nil || why != "" {
		return err
	}
	return queue(n.tx, Review{Held: Held{"", a.Digest}, Due: n.now, Why: a.Repo + " does not serve it"})
}

// endsByItself reports whether what keeps a's subject may end without anybody
// asking then, and sets when it is asked again. What the repository does not hold any
// more is not kept by what names it.
func (n need) endsByItself(a *Review) (bool, error) {
	removed, err := n.removed(a.Held)
	if removed || err != nil {
		return false, err
	}
	expires, err := n.expires(a.Held)
	if err != nil {
		return false, err
	}
	if !expires.IsZero() && expires.Before(a.Due) {
		a.Due = expires
	}
	return !expires.IsZero() || a.Root && !a.Early || !a.Left.IsZero() && !a.Gone, nil
}

// removed reports whether h is no manifest that its repository holds.
func (n need) removed(h Held) (bool, error) {
	if h.Repo == "" {
		return false, nil
	}
	k, err := repoDigestKey(h.Repo, h.Digest)
	return err == nil && n.g.link.Get(k) == nil, err
}

// expires is when the next protection of h ends; zero is never. It ends by itself:
// nobody asks then.
func (n need) expires(h Held) (first time.Time, err error) {
	if h.Repo == "" {
		return first, nil
	}
	prefix, err := repoDigestKey(h.Repo, h.Digest)
	if err != nil {
		return first, err
	}
	all, err := protectionsOf(n.tx, h.Repo, h.Digest, prefix)
	for _, p := range all {
		if p.Active(n.now) && !p.Expires.IsZero() && (first.IsZero() || p.Expires.Before(first)) {
			first = p.Expires
		}
	}
	return first, err
}

func (n need) condemn(k []byte, old, a Review) (bool, error) {
	why, err := n.of(a.Held)
	if err != nil {
		return false, err
	}
	if why != "" {
		return false, nil // it is asked about at once again
	}
	if err := putReview(n.tx, k, old, a); err != nil {
		return false, err
	}
	return true, n.askParts(a)
}

// askParts asks about what would be needed no more once a is gone.
func (n need) askParts(a Review) error {
	if a.Repo == "" {
		return nil
	}
	for _, part := range n.g.below(a.Repo, a.Digest) {
		if err := queue(n.tx, Review{Held: Held{a.Repo, part}, Due: n.now, Why: "it is part of " + a.Digest.String()}); err != nil {
			return err
		}
	}
	return queue(n.tx, Review{Held: Held{"", a.Digest}, Due: n.now, Why: "it is to leave " + a.Repo})
}

// RecordDeleting is the last look before something goes: what nothing needs,
// condemned or not, is Deleting from now on, and is returned. What is needed by
// something that stays is condemned no more; what is needed by something condemned
// waits for that. What is not condemned, not due, or was told to be here after
// asked, is passed over.
func (l *Ledger) RecordDeleting(ctx context.Context, hs []Held, now, asked time.Time) (deleting []Review, err error) {
	err = l.update(ctx, func(tx *bolt.Tx) error {
		deleting = nil
		n, err := newNeed(tx, now, false)
		if err != nil {
			return err
		}
		for _, h := range hs {
			r, doomed, err := n.doom(h, asked)
			if err != nil {
				return fmt.Errorf("%s: %w", h, err)
			}
			if doomed {
				deleting = append(deleting, r)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("record what is deleted: %w", err)
	}
	return deleting, nil
}

func (n need) doom(h Held, asked time.Time) (r Review, doomed bool, err error) {
	k, err := h.key()
	if err != nil {
		return r, false, err
	}
	r, ok, err := getReview(n.tx, k)
	if err != nil || !ok || r.State == Waiting || r.Due.After(n.now) || r.Told.After(asked) {
		return r, false, err
	}
	why, err := n.of(h)
	if err != nil {
		return r, false, err
	}
	old := r
	if why == "" {
		if r.State != Deleting {
			r.State, r.Since = Deleting, n.now
		}
		return r, true, putReview(n.tx, k, old, r)
	}
	stays, err := need{tx: n.tx, g: n.g, now: n.now, loose: true, asked: map[Held]bool{}}.of(h)
	if err == nil && stays != "" {
		r.State, r.Since, r.Due = Waiting, n.now, n.now
		err = n.end(k, old, r)
	}
	return r, false, err
}

// RecordDeleted records that hs are gone, durably: a repository holds them no
// more, the content is here no more. What they referred to is asked about at now.
// Those whose review is not Deleting are an error.
func (l *Ledger) RecordDeleted(ctx context.Context, hs []Held, now time.Time) error {
	err := l.update(ctx, func(tx *bolt.Tx) error {
		for _, h := range hs {
			if err := forget(tx, h, now); err != nil {
				return fmt.Errorf("%s: %w", h, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("record what is gone: %w", err)
	}
	return nil
}

func forget(tx *bolt.Tx, h Held, now time.Time) error {
	k, err := h.key()
	if err != nil {
		return err
	}
	r, ok, err := getReview(tx, k)
	if err != nil {
		return err
	}
	if !ok || r.State != Deleting {
		return errors.New("it was not to be deleted")
	}
	if err := dropReview(tx, k, r); err != nil {
		return err
	}
	if h.Repo == "" {
		return forgetContent(tx, h.Digest)
	}
	link, err := repoDigestKey(h.Repo, h.Digest)
	if err == nil {
		err = leave(tx, h, link, now)
	}
	if err != nil {
		return err
	}
	return queue(tx, Review{Held: Held{"", h.Digest}, Due: now, Why: "it left " + h.Repo})
}

// forgetContent takes a manifest that nobody holds out of the graph.
func forgetContent(tx *bolt.Tx, d digest.Digest) error {
	gs, err := writtenGraphs(tx)
	if err != nil {
		return err
	}
	for _, g := range gs {
		if err := g.remove(d); err != nil {
			return err
		}
	}
	return nil
}

func (g graph) remove(d digest.Digest) error {
	self, err := digestKey(d)
	if err != nil || g.node.Get(self) == nil {
		return err
	}
	held := false
	g.holders(self, func(string) bool { held = true; return true })
	if held {
		return nil
	}
	var node Node
	var edges []edge
	if err := errors.Join(getJSON(g.node, self, &node), getJSON(g.child, self, &edges)); err != nil {
		return err
	}
	for _, e := range edges {
		if err := deletePair(g.parent, e.Digest, d); err != nil {
			return err
		}
	}
	if node.Subject != "" {
		if err := deletePair(g.subject, node.Subject, d); err != nil {
			return err
		}
	}
	return errors.Join(g.node.Delete(self), g.child.Delete(self))
}

func deletePair(b *bolt.Bucket, from, to digest.Digest) error {
	k, err := digestsKey(from, to)
	if err != nil {
		return err
	}
	return b.Delete(k)
}

// LeftAt is when a tag of repo was last at d, and whether it was removed then; zero
// when none ever was. Tags that are at it now do not count.
func (l *Ledger) LeftAt(ctx context.Context, repo string, ds map[digest.Digest]bool) (map[digest.Digest]Review, error) {
	left := map[digest.Digest]Review{}
	prefix := namePrefix(repo)
	var tag []byte
	var at digest.Digest
	err := l.scanHistory(ctx, prefix, func(name []byte, t time.Time, d digest.Digest, kind byte) {
		if !bytes.Equal(name, tag) {
			tag, at = bytes.Clone(name), ""
		}
		if kind == entryNote {
			return
		}
		if ds[at] && d != at && !t.Before(left[at].Left) {
			left[at] = Review{Held: Held{repo, at}, Left: t, Gone: kind == entryRemoved, Why: "the tag " + string(name) + " left it"}
		}
		at = d
	})
	return left, err
}

// scanHistory reads a repository's history in pages, ordered by tag and time.
func (l *Ledger) scanHistory(ctx context.Context, prefix []byte, fn func(tag []byte, t time.Time, d digest.Digest, kind byte)) error {
	from := prefix
	for from != nil {
		err := l.view(ctx, func(tx *bolt.Tx) error {
			c := tx.Bucket([]byte(bucketHistory)).Cursor()
			k, v := c.Seek(from)
			from = nil
			for n := 0; bytes.HasPrefix(k, prefix); k, v = c.Next() {
				if n++; n > factPage {
					from = bytes.Clone(k)
					return nil
				}
				name, rest, found := bytes.Cut(k[len(prefix):], []byte{0})
				t, _, err := cutHistory(rest)
				if !found || err != nil {
					return errors.Join(errKey, err)
				}
				d, kind, err := cutEntry(v)
				if err != nil {
					return err
				}
				fn(name, t, d, kind)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("history of %s: %w", bytes.TrimRight(prefix, "\x00"), err)
		}
	}
	return nil
}
