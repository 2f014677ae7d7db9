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

// need looks for what needs something. Loosely, what is condemned itself, and not
// needed, needs nothing; strictly, it does until it is gone.
type need struct {
	tx    *bolt.Tx
	g     graph
	now   time.Time
	loose bool
	asked map[Held]bool // of these it is asked just now
	// except is what does not count either, or nil.
	except func(Held) bool
}

// of says what needs h, for people; "" is nothing.
func (n need) of(h Held) (why string, err error) {
	if h.Repo == "" {
		return n.ofContent(h.Digest)
	}
	for _, ask := range []func(Held) (string, error){n.ofTags, n.ofProtections, n.ofParents, n.ofSubject} {
		if why, err = ask(h); why != "" || err != nil {
			return why, err
		}
	}
	return "", nil
}

func (n need) ofTags(h Held) (string, error) {
	prefix, err := repoDigestKey(h.Repo, h.Digest)
	if err != nil {
		return "", err
	}
	k, _ := n.tx.Bucket([]byte(bucketNamed)).Cursor().Seek(prefix)
	if !bytes.HasPrefix(k, prefix) {
		return "", nil
	}
	return "the tag " + string(k[len(prefix):]) + " is at it", nil
}

func (n need) ofProtections(h Held) (string, error) {
	prefix, err := repoDigestKey(h.Repo, h.Digest)
	if err != nil {
		return "", err
	}
	all, err := protectionsOf(n.tx, h.Repo, h.Digest, prefix)
	for _, p := range all {
		if p.Active(n.now) {
			return p.String(), err
		}
	}
	return "", err
}

// errFound ends a search.
var errFound = errors.New("found")

func (n need) ofParents(h Held) (why string, err error) {
	self, err := digestKey(h.Digest)
	if err != nil {
		return "", err
	}
	err = seconds(n.g.parent, self, func(parent digest.Digest) error {
		held, err := n.holds(Held{h.Repo, parent})
		if held && err == nil {
			why, err = "it is part of "+parent.String(), errFound
		}
		return err
	})
	return why, ignoreFound(err)
}

func ignoreFound(err error) error {
	if errors.Is(err, errFound) {
		return nil
	}
	return err
}

// ofSubject asks only about what the repository holds: the subject does not say that
// a referrer that a client removed is there.
func (n need) ofSubject(h Held) (string, error) {
	self, err := repoDigestKey(h.Repo, h.Digest)
	if err != nil || n.g.link.Get(self) == nil {
		return "", err
	}
	subject, err := n.g.subjectOf(h.Digest)
	if err != nil || subject == "" {
		return "", err
	}
	held, err := n.holds(Held{h.Repo, subject})
	if !held || err != nil {
		return "", err
	}
	return "it refers to " + subject.String(), nil
}

// subjectOf is the subject of a manifest; "" is none. What the ledger does not
// know has none.
func (g graph) subjectOf(d digest.Digest) (digest.Digest, error) {
	self, err := digestKey(d)
	if err != nil || g.node.Get(self) == nil {
		return "", err
	}
	var node Node
	err = getJSON(g.node, self, &node)
	return node.Subject, err
}

// holds reports whether a repository holds a manifest that needs what it refers to.
func (n need) holds(h Held) (bool, error) {
	k, err := repoDigestKey(h.Repo, h.Digest)
	if err != nil || n.g.link.Get(k) == nil {
		return false, err
	}
	return n.counts(h)
}

// counts reports whether h is not condemned, or needed all the same: that somebody
// was told of it, which takes it back, is forgotten in a crash.
func (n need) counts(h Held) (bool, error) {
	if !n.loose {
		return true, nil
	}
	if n.except != nil && n.except(h) {
		return false, nil
	}
	k, err := h.key()
	if err != nil {
		return false, err
	}
	r, ok, err := getReview(n.tx, k)
	if err != nil || !ok || r.State != Condemned {
		return !ok || r.State == Waiting, err
	}
	return n.neededStill(h)
}

func (n need) neededStill(h Held) (bool, error) {
	if n.asked[h] {
		return false, nil
	}
	n.asked[h] = true
	defer delete(n.asked, h)
	why, err := n.of(h)
	return why != "", err
}

// ofContent looks for a repository that serves the digest, as a manifest or as
// what one of its manifests refers to, or that may have a link for it still.
func (n need) ofContent(d digest.Digest) (why string, err error) {
	self, err := digestKey(d)
	if err != nil {
		return "", err
	}
	if why, err = n.ofReviews(self); why != "" || err != nil {
		return why, err
	}
	if why, err = n.inRepository(self, d); why != "" || err != nil {
		return why, err
	}
	err = seconds(n.g.parent, self, func(parent digest.Digest) error {
		key, err := digestKey(parent)
		if err == nil {
			why, err = n.inRepository(key, d)
		}
		if why != "" && err == nil {
			err = errFound
		}
		return err
	})
	return why, ignoreFound(err)
}

// ofReviews looks for repositories where it is asked about.
func (n need) ofReviews(self []byte) (string, error) {
	c := n.tx.Bucket([]byte(bucketReview)).Cursor()
	for k, _ := c.Seek(self); bytes.HasPrefix(k, self); k, _ = c.Next() {
		if len(k) == len(self) {
			continue // that of the content
		}
		r, _, err := getReview(n.tx, k)
		if err != nil {
			return "", err
		}
		if n.except != nil && n.except(r.Held) {
			continue
		}
		if !n.loose || r.State == Waiting {
			return r.Repo + " has a link to it", nil
		}
	}
	return "", nil
}

// inRepository looks for a holder of the manifest with the key self, in which d is
// not condemned.
func (n need) inRepository(self []byte, d digest.Digest) (why string, err error) {
	n.g.holders(self, func(repo string) bool {
		var counts bool
		if counts, err = n.counts(Held{repo, d}); counts && err == nil && !n.leftOut(Held{repo, d}) {
			why = repo + " serves it"
		}
		return why != "" || err != nil
	})
	return why, err
}

// leftOut reports whether an index lists h and its repository does not serve it, on
// purpose.
func (n need) leftOut(h Held) bool {
	k, err := repoDigestKey(h.Repo, h.Digest)
	return err == nil && n.g.link.Get(k) == nil && n.tx.Bucket([]byte(bucketAbsent)).Get(k) != nil
}

// Needs says of each of hs what needs it, "" for nothing, leaving out what is
// condemned, and what except, unless it is nil, says is as good as that. It says
// nothing of policies.
func (l *Ledger) Needs(ctx context.Context, hs []Held, now time.Time, except func(Held) bool) (whys []string, err error) {
	err = l.view(ctx, func(tx *bolt.Tx) error {
		whys = whys[:0]
		n, err := newNeed(tx, now, true)
		n.except = except
		for _, h := range hs {
			var why string
			if err == nil {
				why, err = n.of(h)
			}
			if err != nil {
				return fmt.Errorf("what needs %s: %w", h, err)
			}
			whys = append(whys, why)
		}
		return nil
	})
	return whys, err
}

func newNeed(tx *bolt.Tx, now time.Time, loose bool) (need, error) {
	g, err := readGraph(tx)
	return need{tx: tx, g: g, now: now, loose: loose, asked: map[Held]bool{}}, err
}
