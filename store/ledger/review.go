package ledger

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"

	"lastro/store/ledger/file"
)

// Held is a digest in a repository, whose links let it be pulled there; without a
// repository it is the content itself.
type Held struct {
	Repo   string        `json:"repo,omitempty"`
	Digest digest.Digest `json:"digest"`
}

func (h Held) String() string {
	if h.Repo == "" {
		return h.Digest.String()
	}
	return h.Repo + "@" + h.Digest.String()
}

// State is how far a review has come.
type State string

// A review waits until it is due. What nothing needs is condemned then: it is
// served as before, and whoever asks for it takes it back. What is condemned and
// due is deleting from the moment that it may be gone.
const (
	Waiting   State = "waiting"
	Condemned State = "condemned"
	Deleting  State = "deleting"
)

// Review is a question that is to be answered: does anything need this still?
type Review struct {
	Held
	State State     `json:"state"`
	Since time.Time `json:"since"`           // of the state
	Due   time.Time `json:"due"`             // when it is looked at next
	Told  time.Time `json:"told,omitzero"`   // when somebody was last told that it is here, or put it here
	Left  time.Time `json:"left,omitzero"`   // when a tag was last at it; zero: never, or not known
	Gone  bool      `json:"gone,omitempty"`  // that tag was removed, and did not move
	Root  bool      `json:"root,omitempty"`  // it was published by its digest, for its own sake
	Early bool      `json:"early,omitempty"` // a client pushed it by its digest: what it becomes a part of takes it along
	Size  int64     `json:"size,omitempty"`
	Why   string    `json:"why,omitempty"` // what led here, for people
}

// key has no repository in it for content.
func (h Held) key() ([]byte, error) {
	k, err := digestKey(h.Digest)
	return append(k, h.Repo...), err
}

func (h Held) check() error {
	if h.Repo == "" {
		return h.Digest.Validate()
	}
	return errors.Join(checkName("repository", h.Repo), h.Digest.Validate())
}

func dueKey(t time.Time, k []byte) []byte { return append(appendTime(nil, t), k...) }

func getReview(tx *bolt.Tx, k []byte) (r Review, ok bool, err error) {
	v := tx.Bucket([]byte(bucketReview)).Get(k)
	if v == nil {
		return Review{}, false, nil
	}
	if err := json.Unmarshal(v, &r); err != nil {
		return Review{}, false, fmt.Errorf("read review %x: %w", k, err)
	}
	return r, true, nil
}

// putReview writes a review in the place of old, which has the same key and is zero
// when there is none. It keeps the order by time right.
func putReview(tx *bolt.Tx, k []byte, old, r Review) error {
	for _, t := range []*time.Time{&r.Since, &r.Due, &r.Told, &r.Left} {
		*t = t.UTC()
	}
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := tx.Bucket([]byte(bucketReview)).Put(k, text); err != nil || old.State != "" && old.Due.Equal(r.Due) {
		return err
	}
	return errors.Join(dropDue(tx, k, old), tx.Bucket([]byte(bucketDue)).Put(dueKey(r.Due, k), []byte{}))
}

func dropReview(tx *bolt.Tx, k []byte, old Review) error {
	return errors.Join(tx.Bucket([]byte(bucketReview)).Delete(k), dropDue(tx, k, old))
}

func dropDue(tx *bolt.Tx, k []byte, old Review) error {
	if old.State == "" {
		return nil
	}
	return tx.Bucket([]byte(bucketDue)).Delete(dueKey(old.Due, k))
}

// queue asks a question, or adds to one that is asked already: it is answered at
// the earlier time, and what spares is kept. What is condemned is so no longer when
// somebody was told that it is here, whatever the clock says, or a tag was at it
// since.
func queue(tx *bolt.Tx, r Review) error {
	k, err := r.key()
	if err != nil {
		return err
	}
	old, ok, err := getReview(tx, k)
	if err != nil {
		return err
	}
	if !ok {
		r.State, r.Since = Waiting, r.Due
		return putReview(tx, k, old, r)
	}
	was := old
	told, left := !r.Told.IsZero(), r.Left.After(old.Left)
	if r.Told.After(old.Told) {
		old.Told = r.Told
	}
	if left {
		old.Left, old.Gone, old.Why = r.Left, r.Gone, r.Why
	}
	old = old.Joined(r)
	switch {
	case old.State == Waiting && r.Due.Before(old.Due):
		old.Due = r.Due
	case old.State != Waiting && told, old.State == Condemned && left:
		old.State, old.Since, old.Due = Waiting, r.Due, r.Due
	}
	return putReview(tx, k, was, old)
}

// ForItself reports whether it is asked for the sake of a manifest itself, which a
// tag left or which came by its digest, and not of what it is a part of.
func (r Review) ForItself() bool { return r.Root || !r.Left.IsZero() }

// Joined is r with what another question about the same says of its own sake.
func (r Review) Joined(other Review) Review {
	r.Early = (r.Early || !r.Root) && (other.Early || !other.Root)
	r.Root = r.Root || other.Root
	r.Early = r.Early && r.Root
	return r
}

// tagLeft asks whether what a tag was at is needed still.
func tagLeft(tx *bolt.Tx, old, now TagState, t time.Time) error {
	if old.Digest == "" || old.Digest == now.Digest {
		return nil
	}
	why := "the tag " + old.Tag + " moved on"
	if now.Digest == "" {
		why = "the tag " + old.Tag + " was removed"
	}
	return queue(tx, Review{Held: Held{old.Repo, old.Digest}, Due: t, Left: t, Gone: now.Digest == "", Why: why})
}

// partsLeft asks it of what a manifest referred to, in the repository that holds it
// no more, of what refers to it, and of its content.
func partsLeft(tx *bolt.Tx, repo string, d digest.Digest, t time.Time) error {
	g, err := readGraph(tx)
	if err != nil {
		return err
	}
	why := "it was part of " + d.String()
	for _, part := range g.below(repo, d) {
		if err := queue(tx, Review{Held: Held{repo, part}, Due: t, Why: why}); err != nil {
			return err
		}
	}
	return queue(tx, Review{Held: Held{"", d}, Due: t, Why: "it left " + repo})
}

// below are what a manifest refers to, and what of a repository refers to it. What
// cannot be read has no parts to be asked about: nothing is lost by that.
func (g graph) below(repo string, d digest.Digest) (parts []digest.Digest) {
	self, err := digestKey(d)
	if err != nil {
		return nil
	}
	var edges []edge
	if getJSON(g.child, self, &edges) == nil {
		for _, e := range edges {
			parts = append(parts, e.Digest)
		}
	}
	_ = seconds(g.subject, self, func(referrer digest.Digest) error {
		k, err := repoDigestKey(repo, referrer)
		if err == nil && g.link.Get(k) != nil {
			parts = append(parts, referrer)
		}
		return err
	})
	return parts
}

// Parts are what h is asked about with: what the manifest refers to, what refers to
// it, and the content.
func (l *Ledger) Parts(ctx context.Context, h Held) (parts []Held, err error) {
	if h.Repo == "" {
		return nil, nil
	}
	err = l.inGraph(ctx, func(_ *bolt.Tx, g graph) error {
		parts = nil
		for _, d := range g.below(h.Repo, h.Digest) {
			parts = append(parts, Held{h.Repo, d})
		}
		return nil
	})
	return append(parts, Held{"", h.Digest}), err
}

// seconds calls fn for the second digest of every pair whose first has this key.
func seconds(b *bolt.Bucket, prefix []byte, fn func(digest.Digest) error) error {
	c := b.Cursor()
	for k, _ := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, _ = c.Next() {
		second, err := lastDigest(k[len(prefix):])
		if err == nil {
			err = fn(second)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Reviews yields all reviews, ordered by digest and repository: that of the content
// first.
func (l *Ledger) Reviews(ctx context.Context) iter.Seq2[Review, error] {
	return file.Scan[Review]{
		Bucket: bucket(bucketReview),
		Decode: func(tx *bolt.Tx, k, _ []byte) (Review, error) {
			r, _, err := getReview(tx, k)
			return r, err
		},
	}.All(ctx, l.file)
}

// Review is the review of h; ok is false when there is none.
func (l *Ledger) Review(ctx context.Context, h Held) (r Review, ok bool, err error) {
	k, err := h.key()
	if err == nil {
		err = l.view(ctx, func(tx *bolt.Tx) error {
			r, ok, err = getReview(tx, k)
			return err
		})
	}
	return r, ok, err
}

// CondemnedOf reports of each of hs whether it is condemned, or deleting already.
func (l *Ledger) CondemnedOf(ctx context.Context, hs []Held) (condemned []bool, err error) {
	err = l.view(ctx, func(tx *bolt.Tx) error {
		condemned = make([]bool, len(hs))
		for i, h := range hs {
			k, err := h.key()
			if err != nil {
				return err
			}
			r, ok, err := getReview(tx, k)
			if err != nil {
				return err
			}
			condemned[i] = ok && r.State != Waiting
		}
		return nil
	})
	return condemned, err
}

// DueReviews are up to limit reviews that are due at a time, the earliest first,
// that come after the key after; next is where the following ones begin, nil at the
// end.
func (l *Ledger) DueReviews(ctx context.Context, t time.Time, after []byte, limit int) (rs []Review, next []byte, err error) {
	err = l.view(ctx, func(tx *bolt.Tx) error {
		rs, next = nil, nil
		c := tx.Bucket([]byte(bucketDue)).Cursor()
		for k, _ := c.Seek(after); k != nil; k, _ = c.Next() {
			due, self, err := cutTime(k)
			if err != nil {
				return err
			}
			if due.After(t) {
				return nil
			}
			if len(rs) == limit {
				next = bytes.Clone(k)
				return nil
			}
			r, ok, err := getReview(tx, self)
			if err != nil {
				return err
			}
			if ok {
				rs = append(rs, r)
			}
		}
		return nil
	})
	return rs, next, err
}

// RecordReviews asks questions, or adds to those that are asked already. A
// question with a later Told than before takes back what is condemned.
func (l *Ledger) RecordReviews(ctx context.Context, rs []Review) error {
	for _, r := range rs {
		if err := r.check(); err != nil {
			return fmt.Errorf("record review of %s: %w", r.Held, err)
		}
	}
	err := inPages(ctx, l, rs, func(tx *bolt.Tx, page []Review) error {
		for _, r := range page {
			if err := queue(tx, r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("record reviews: %w", err)
	}
	return nil
}
