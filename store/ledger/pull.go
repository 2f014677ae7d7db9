package ledger

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	bolt "go.etcd.io/bbolt"

	"lastro/mirror"
	"lastro/store/ledger/file"
)

// bucketPulled is made on Open, because ledgers of the same format were without
// it.
const (
	bucketPulled = "pulled"
	pulledSince  = "since"
	pulledTag    = "tag"
	pulledDigest = "digest"
)

// maxIndexes is how many indexes may lie inside each other.
const maxIndexes = 16

// trackPulls makes what pulls are recorded in, unless it is there.
func trackPulls(tx *bolt.Tx, now time.Time) error {
	b, err := tx.CreateBucketIfNotExists([]byte(bucketPulled))
	if err != nil {
		return err
	}
	for _, name := range []string{pulledTag, pulledDigest} {
		if _, err := b.CreateBucketIfNotExists([]byte(name)); err != nil {
			return err
		}
	}
	if b.Get([]byte(pulledSince)) != nil {
		return nil
	}
	return b.Put([]byte(pulledSince), appendTime(nil, now))
}

func pulledBucket(tx *bolt.Tx, name string) *bolt.Bucket {
	return tx.Bucket([]byte(bucketPulled)).Bucket([]byte(name))
}

// NotePull notes that a client pulled a manifest at t: by a tag, or by its
// digest when tag is empty. It waits for no disk, and the note is lost when the
// process ends before the next FlushPulls. The ledger flushes 30 seconds after
// the first note, sooner when there are many, and when it is closed. Notes of
// more than the disk takes are dropped, the oldest first.
func (l *Ledger) NotePull(repo, tag string, d digest.Digest, t time.Time) {
	if checkTime(t) == nil {
		l.pulls.note(repo, tag, d, t.Unix())
	}
}

// FlushPulls records what was noted, in one transaction. What is of tags that
// are not there, or of manifests that their repository does not hold, is
// forgotten. After an error the notes are there still.
func (l *Ledger) FlushPulls(ctx context.Context) error {
	select {
	case l.pulls.flushes <- struct{}{}:
		defer func() { <-l.pulls.flushes }()
	case <-ctx.Done():
		return ctx.Err()
	}
	batch := l.pulls.take()
	if batch.Len() == 0 {
		return nil
	}
	if err := l.update(ctx, func(tx *bolt.Tx) error { return recordPulls(tx, batch) }); err != nil {
		l.pulls.giveBack()
		return fmt.Errorf("record pulls: %w", err)
	}
	l.pulls.done()
	return nil
}

func recordPulls(tx *bolt.Tx, batch *notes) error {
	g, err := readGraph(tx)
	if err != nil {
		return err
	}
	for of, at := range batch.all() {
		if err := recordPull(tx, g, of, time.Unix(at, 0)); err != nil {
			return err
		}
	}
	return nil
}

func recordPull(tx *bolt.Tx, g graph, of pulled, t time.Time) error {
	k, holder, name := of.key(), tx.Bucket([]byte(bucketTag)), pulledTag
	if of.isDigest {
		holder, name = g.link, pulledDigest
	}
	if len(k) == 0 || holder.Get(k) == nil {
		return nil
	}
	b := pulledBucket(tx, name)
	old, err := pulledAt(b, k)
	if err != nil || !t.After(old) {
		return err
	}
	return b.Put(k, appendTime(nil, t))
}

// pulledAt reads when a key was last pulled; zero: never.
func pulledAt(b *bolt.Bucket, k []byte) (t time.Time, err error) {
	if v := b.Get(k); v != nil {
		t, _, err = cutTime(v)
	}
	return t, err
}

// PullsSince is since when pulls are noted: since the first ledger here that
// could. What was pulled before that is not known.
func (l *Ledger) PullsSince(ctx context.Context) (t time.Time, err error) {
	err = l.view(ctx, func(tx *bolt.Tx) error {
		t, err = pulledAt(tx.Bucket([]byte(bucketPulled)), []byte(pulledSince))
		return err
	})
	if err != nil {
		return time.Time{}, fmt.Errorf("since when pulls are noted, in the ledger: %w", err)
	}
	return t, nil
}

// LastPulled is when a client last pulled the tag, if it is not empty, the
// manifest d, if it is not empty, or one that d, an index, refers to, in repo.
// It is told to the second, and tells of what was noted just now. The zero time
// is never, as far as is known: see PullsSince.
func (l *Ledger) LastPulled(ctx context.Context, repo, tag string, d digest.Digest) (t time.Time, err error) {
	var asked []pulled
	if tag != "" {
		asked = append(asked, pulled{repo: repo, name: tag})
	}
	if d != "" {
		err = l.inGraph(ctx, func(_ *bolt.Tx, g graph) error {
			asked, err = g.pulledBelow(asked, repo, d)
			return err
		})
	}
	if err == nil {
		// Memory comes first: what a flush moves meanwhile is seen in both.
		t = l.pulls.last(asked)
		err = l.view(ctx, func(tx *bolt.Tx) error {
			t, err = lastRecorded(tx, asked, t)
			return err
		})
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("last pull of %s in the ledger: %w", name(repo, tag), err)
	}
	return t, nil
}

func lastRecorded(tx *bolt.Tx, asked []pulled, t time.Time) (time.Time, error) {
	tags, digests := pulledBucket(tx, pulledTag), pulledBucket(tx, pulledDigest)
	for _, of := range asked {
		b := tags
		if of.isDigest {
			b = digests
		}
		at, err := pulledAt(b, of.key())
		if err != nil {
			return t, err
		}
		if at.After(t) {
			t = at
		}
	}
	return t, nil
}

// pulledBelow appends d and the manifests below it.
func (g graph) pulledBelow(asked []pulled, repo string, d digest.Digest) ([]pulled, error) {
	seen := map[digest.Digest]bool{d: true}
	level := []childEdge{{Digest: d}}
	for depth := 0; len(level) > 0 && depth <= maxIndexes; depth++ {
		var below []childEdge
		for _, m := range level {
			asked = append(asked, pulled{repo, string(m.Digest), true})
			children, err := g.manifests(m)
			if err != nil {
				return nil, err
			}
			for _, child := range children {
				if !seen[child.Digest] {
					seen[child.Digest] = true
					below = append(below, child)
				}
			}
		}
		level = below
	}
	return asked, nil
}

// childEdge is what is read of an edge to find manifests.
type childEdge struct {
	Role      mirror.Role   `json:"role"`
	MediaType string        `json:"mediaType"`
	Digest    digest.Digest `json:"digest"`
}

// isImage says that a child refers to no manifests for certain.
func (e childEdge) isImage() bool {
	return e.MediaType == ocispec.MediaTypeImageManifest || e.MediaType == "application/vnd.docker.distribution.manifest.v2+json"
}

// manifests are the manifests that one refers to; one that is not known refers to
// none.
func (g graph) manifests(of childEdge) (children []childEdge, err error) {
	if of.isImage() {
		return nil, nil
	}
	k, err := digestKey(of.Digest)
	if err != nil {
		return nil, err
	}
	var edges []childEdge
	if text := g.child.Get(k); text != nil {
		err = json.Unmarshal(text, &edges)
	}
	for _, e := range edges {
		if e.Role == mirror.RoleChild {
			children = append(children, e)
		}
	}
	return children, err
}

// forgetPulls drops what was recorded of manifests that their repositories do
// not hold.
func (l *Ledger) forgetPulls(ctx context.Context) error {
	for from := []byte{}; from != nil; {
		var next []byte
		err := l.update(ctx, func(tx *bolt.Tx) (err error) {
			next, err = forgetPage(tx, from)
			return err
		})
		if err != nil {
			return err
		}
		from = next
	}
	return nil
}

// forgetPage looks at a page of keys, and tells where the next one begins.
func forgetPage(tx *bolt.Tx, from []byte) (next []byte, err error) {
	g, err := readGraph(tx)
	if err != nil {
		return nil, err
	}
	b := pulledBucket(tx, pulledDigest)
	var gone [][]byte
	c, n := b.Cursor(), 0
	for k, _ := c.Seek(from); k != nil; k, _ = c.Next() {
		if n++; n > file.PageSize {
			next = bytes.Clone(k)
			break
		}
		if g.link.Get(k) == nil {
			gone = append(gone, bytes.Clone(k))
		}
	}
	for _, k := range gone {
		if err := b.Delete(k); err != nil {
			return nil, err
		}
	}
	return next, nil
}
