package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"

	"lastro/store/ledger/file"
)

// The buckets of what is known of upstreams. They are made when they are first
// written, because ledgers of the same format were without them.
const (
	bucketKnown = "known"
	bucketAsked = "asked"
)

// Known is when repo's upstream was first seen to have d; the zero time is never.
func (l *Ledger) Known(ctx context.Context, repo string, d digest.Digest) (t time.Time, err error) {
	k, err := repoDigestKey(repo, d)
	if err == nil {
		t, err = l.timeOf(ctx, bucketKnown, k)
	}
	if err != nil {
		return t, fmt.Errorf("since when %s@%s is known, in the ledger: %w", repo, d, err)
	}
	return t, nil
}

// Asked is when the upstream was last asked what a tag is, as far as that was
// recorded; the zero time is never.
func (l *Ledger) Asked(ctx context.Context, repo, tag string) (t time.Time, err error) {
	t, err = l.timeOf(ctx, bucketAsked, tagKey(repo, tag))
	if err != nil {
		return t, fmt.Errorf("when %s was asked for, in the ledger: %w", name(repo, tag), err)
	}
	return t, nil
}

func (l *Ledger) timeOf(ctx context.Context, bucket string, k []byte) (t time.Time, err error) {
	err = l.view(ctx, func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte(bucket))
		if b == nil {
			return nil
		}
		v := b.Get(k)
		if v == nil {
			return nil
		}
		var err error
		t, _, err = cutTime(v)
		return err
	})
	return t, err
}

// RecordUpstream records that at t repo's upstream was asked for the tags, and
// was seen to have the digests. Those that are known stay known since then.
func (l *Ledger) RecordUpstream(ctx context.Context, repo string, t time.Time, tags []string, ds []digest.Digest) error {
	err := checkRepo(repo)
	if err == nil {
		err = checkTime(t)
	}
	for _, tag := range tags {
		if err == nil {
			err = checkName("tag", tag)
		}
	}
	if err == nil {
		err = inPages(ctx, l, ds, func(tx *bolt.Tx, page []digest.Digest) error { return recordKnown(tx, repo, t, page) })
	}
	if err == nil {
		err = inPages(ctx, l, tags, func(tx *bolt.Tx, page []string) error { return recordAsked(tx, repo, t, page) })
	}
	if err != nil {
		return fmt.Errorf("record what the upstream of %s has: %w", repo, err)
	}
	return nil
}

func recordKnown(tx *bolt.Tx, repo string, t time.Time, ds []digest.Digest) error {
	known, err := tx.CreateBucketIfNotExists([]byte(bucketKnown))
	if err != nil {
		return err
	}
	for _, d := range ds {
		k, err := repoDigestKey(repo, d)
		if err != nil {
			return err
		}
		if known.Get(k) != nil {
			continue
		}
		if err := file.Put(known, k, appendTime(nil, t)); err != nil {
			return err
		}
	}
	return nil
}

func recordAsked(tx *bolt.Tx, repo string, t time.Time, tags []string) error {
	asked, err := tx.CreateBucketIfNotExists([]byte(bucketAsked))
	if err != nil {
		return err
	}
	for _, tag := range tags {
		if err := file.Put(asked, tagKey(repo, tag), appendTime(nil, t)); err != nil {
			return err
		}
	}
	return nil
}
