package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"
)

// RecordUnlinked records that repo serves the manifest d no more: it is none of
// repo's links or referrers, and when its referrers were asked for and when it was
// pulled is forgotten.
// It is to be called when that is durable. One that repo does not hold is no
// error.
//
// What the manifest is, what it refers to and what its subject is stay in the
// graph, for other repositories that hold it and for a repository that gets it
// again, until a rebuild that finds it nowhere. So Parents and Children tell of
// manifests that nobody holds: who collects asks Linked. History stays, and so
// does what is known of the upstream, and what was left out on purpose.
func (l *Ledger) RecordUnlinked(ctx context.Context, repo string, d digest.Digest) error {
	k, err := repoDigestKey(repo, d)
	if err == nil {
		err = checkRepo(repo)
	}
	if err == nil {
		err = l.update(ctx, func(tx *bolt.Tx) error {
			return unlinked(tx, Held{repo, d}, k, l.now())
		})
	}
	if err != nil {
		return fmt.Errorf("record that %s@%s is unlinked: %w", repo, d, err)
	}
	return nil
}

// unlinked is leave, and asks about the digest itself: tags may be named after it.
func unlinked(tx *bolt.Tx, h Held, k []byte, now time.Time) error {
	g, err := readGraph(tx)
	if err != nil || g.link.Get(k) == nil {
		return errors.Join(err, unlink(tx, k))
	}
	return errors.Join(leave(tx, h, k, now), queue(tx, Review{Held: h, Due: now, Why: "it was removed from " + h.Repo}))
}

// leave unlinks a manifest, and asks about its parts if it was linked.
func leave(tx *bolt.Tx, h Held, k []byte, now time.Time) error {
	g, err := readGraph(tx)
	if err != nil || g.link.Get(k) == nil {
		return errors.Join(err, unlink(tx, k))
	}
	return errors.Join(unlink(tx, k), partsLeft(tx, h.Repo, h.Digest, now))
}

// unlink drops the key of a digest in a repository wherever it says that the
// manifest is there.
func unlink(tx *bolt.Tx, k []byte) error {
	gs, err := writtenGraphs(tx)
	if err != nil {
		return err
	}
	for _, g := range gs {
		if err := g.release(k); err != nil {
			return err
		}
	}
	return errors.Join(tx.Bucket([]byte(bucketChecked)).Delete(k), pulledBucket(tx, pulledDigest).Delete(k))
}
