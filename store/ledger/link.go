package ledger

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"

	"lastro/store/ledger/file"
)

// Links yields the manifests that repo holds, ordered by digest.
func (l *Ledger) Links(ctx context.Context, repo string) iter.Seq2[digest.Digest, error] {
	prefix := namePrefix(repo)
	return file.Scan[digest.Digest]{
		Bucket: func(tx *bolt.Tx) (*bolt.Bucket, error) {
			g, err := readGraph(tx)
			return g.link, err
		},
		Prefix: prefix,
		Decode: func(_ *bolt.Tx, k, _ []byte) (digest.Digest, error) { return lastDigest(k[len(prefix):]) },
	}.All(ctx, l.file)
}

// Linked reports whether repo holds the manifest d.
func (l *Ledger) Linked(ctx context.Context, repo string, d digest.Digest) (linked bool, err error) {
	err = l.ofRepository(ctx, repo, d, func(tx *bolt.Tx, k []byte) error {
		g, err := readGraph(tx)
		if err == nil {
			linked = g.link.Get(k) != nil
		}
		return err
	})
	return linked, err
}

// Absent reports whether d was left out of repo on purpose, by a platform
// filter. It asks nothing of what repo serves: what is served is there, absent
// or not, and what is neither absent nor served is missing.
func (l *Ledger) Absent(ctx context.Context, repo string, d digest.Digest) (absent bool, err error) {
	err = l.ofRepository(ctx, repo, d, func(tx *bolt.Tx, k []byte) error {
		absent = tx.Bucket([]byte(bucketAbsent)).Get(k) != nil
		return nil
	})
	return absent, err
}

// LeftOut yields the manifests of repo that are absent, ordered by digest.
func (l *Ledger) LeftOut(ctx context.Context, repo string) iter.Seq2[digest.Digest, error] {
	prefix := namePrefix(repo)
	return file.Scan[digest.Digest]{
		Bucket: bucket(bucketAbsent),
		Prefix: prefix,
		Decode: func(_ *bolt.Tx, k, _ []byte) (digest.Digest, error) { return lastDigest(k[len(prefix):]) },
	}.All(ctx, l.file)
}

// RecordServed ends the absence of the manifests ds, each of which repo serves.
// It is to be called when that is durable: until then the image that they
// belong to is sparse as before. Where none is absent nothing is written.
func (l *Ledger) RecordServed(ctx context.Context, repo string, ds ...digest.Digest) error {
	keys, err := l.marks(ctx, repo, ds)
	if err == nil {
		err = inPages(ctx, l, keys, unmark)
	}
	if err != nil {
		return fmt.Errorf("record what %s serves: %w", repo, err)
	}
	return nil
}

// marks are the keys of those of ds that are absent.
func (l *Ledger) marks(ctx context.Context, repo string, ds []digest.Digest) (keys [][]byte, err error) {
	if err := checkRepo(repo); err != nil {
		return nil, err
	}
	err = l.view(ctx, func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte(bucketAbsent))
		for _, d := range ds {
			k, err := repoDigestKey(repo, d)
			if err != nil {
				return err
			}
			if b.Get(k) != nil {
				keys = append(keys, k)
			}
		}
		return nil
	})
	return keys, err
}

func unmark(tx *bolt.Tx, keys [][]byte) error {
	b := tx.Bucket([]byte(bucketAbsent))
	for _, k := range keys {
		if err := b.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

// ReferrersChecked is when the upstream was last asked for what refers to d;
// the zero time is never.
func (l *Ledger) ReferrersChecked(ctx context.Context, repo string, d digest.Digest) (t time.Time, err error) {
	err = l.ofRepository(ctx, repo, d, func(tx *bolt.Tx, k []byte) error {
		v := tx.Bucket([]byte(bucketChecked)).Get(k)
		if v == nil {
			return nil
		}
		var err error
		t, _, err = cutTime(v)
		return err
	})
	return t, err
}

func (l *Ledger) ofRepository(ctx context.Context, repo string, d digest.Digest, fn func(*bolt.Tx, []byte) error) error {
	k, err := repoDigestKey(repo, d)
	if err == nil {
		err = l.view(ctx, func(tx *bolt.Tx) error { return fn(tx, k) })
	}
	if err != nil {
		return fmt.Errorf("%s@%s in the ledger: %w", repo, d, err)
	}
	return nil
}

// RecordReferrersChecked records that the upstream was asked at t for what
// refers to the digests.
func (l *Ledger) RecordReferrersChecked(ctx context.Context, repo string, t time.Time, ds ...digest.Digest) error {
	err := checkRepo(repo)
	if err == nil {
		err = checkTime(t)
	}
	if err == nil {
		err = inPages(ctx, l, ds, func(tx *bolt.Tx, page []digest.Digest) error { return recordChecked(tx, repo, t, page) })
	}
	if err != nil {
		return fmt.Errorf("record referrers of %s as checked: %w", repo, err)
	}
	return nil
}

func recordChecked(tx *bolt.Tx, repo string, t time.Time, ds []digest.Digest) error {
	b := tx.Bucket([]byte(bucketChecked))
	for _, d := range ds {
		k, err := repoDigestKey(repo, d)
		if err != nil {
			return err
		}
		if err := file.Put(b, k, appendTime(nil, t)); err != nil {
			return err
		}
	}
	return nil
}

// RecordReferrersUnchecked records that what the upstream said of the referrers of
// the digests is not all here any more: it was never asked for them.
func (l *Ledger) RecordReferrersUnchecked(ctx context.Context, repo string, ds ...digest.Digest) error {
	err := checkRepo(repo)
	if err == nil {
		err = inPages(ctx, l, ds, func(tx *bolt.Tx, page []digest.Digest) error { return forgetChecked(tx, repo, page) })
	}
	if err != nil {
		return fmt.Errorf("record referrers of %s as not checked: %w", repo, err)
	}
	return nil
}

func forgetChecked(tx *bolt.Tx, repo string, ds []digest.Digest) error {
	b := tx.Bucket([]byte(bucketChecked))
	for _, d := range ds {
		k, err := repoDigestKey(repo, d)
		if err != nil {
			return err
		}
		if err := b.Delete(k); err != nil {
			return err
		}
	}
	return nil
}
