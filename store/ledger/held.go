package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"

	"lastro/store/ledger/file"
)

// Held tells which of the digests the bucket of a vault is known to hold. Only
// those are in the answer.
func (l *Ledger) Held(ctx context.Context, vault string, ds []digest.Digest) (map[digest.Digest]bool, error) {
	held := map[digest.Digest]bool{}
	for page := range slices.Chunk(ds, factPage) {
		err := l.view(ctx, func(tx *bolt.Tx) error { return readHeld(tx, vault, page, held) })
		if err != nil {
			return nil, fmt.Errorf("what vault %s holds: %w", vault, err)
		}
	}
	return held, nil
}

func readHeld(tx *bolt.Tx, vault string, ds []digest.Digest, held map[digest.Digest]bool) error {
	b := tx.Bucket([]byte(bucketHeld)).Bucket([]byte(vault))
	if b == nil {
		return nil
	}
	for _, d := range ds {
		k, err := digestKey(d)
		if err != nil {
			return err
		}
		if b.Get(k) != nil {
			held[d] = true
		}
	}
	return nil
}

// AllHeld yields what the bucket of a vault is known to hold.
func (l *Ledger) AllHeld(ctx context.Context, vault string) iter.Seq2[digest.Digest, error] {
	scan := file.Scan[digest.Digest]{
		Bucket: func(tx *bolt.Tx) (*bolt.Bucket, error) {
			if b := tx.Bucket([]byte(bucketHeld)).Bucket([]byte(vault)); b != nil {
				return b, nil
			}
			return nil, errNone
		},
		Decode: func(_ *bolt.Tx, k, _ []byte) (digest.Digest, error) { return lastDigest(k) },
	}
	return func(yield func(digest.Digest, error) bool) {
		for d, err := range scan.All(ctx, l.file) {
			if errors.Is(err, errNone) {
				return
			}
			if err != nil {
				err = fmt.Errorf("what vault %s holds: %w", vault, err)
			}
			if !yield(d, err) {
				return
			}
		}
	}
}

// RecordHeld records that the bucket of a vault holds the digests. It is to be
// called when they are there for good; each stands alone, so an error may leave
// some recorded.
func (l *Ledger) RecordHeld(ctx context.Context, vault string, ds []digest.Digest) error {
	err := checkName("vault", vault)
	if vault == "" {
		err = errors.New("vault has no name")
	}
	if err == nil {
		err = inPages(ctx, l, ds, func(tx *bolt.Tx, page []digest.Digest) error { return recordHeld(tx, vault, page) })
	}
	if err != nil {
		return fmt.Errorf("record what vault %s holds: %w", vault, err)
	}
	return nil
}

func recordHeld(tx *bolt.Tx, vault string, ds []digest.Digest) error {
	b, err := tx.Bucket([]byte(bucketHeld)).CreateBucketIfNotExists([]byte(vault))
	if err != nil {
		return err
	}
	for _, d := range ds {
		k, err := digestKey(d)
		if err != nil {
			return err
		}
		if err := file.Put(b, k, nil); err != nil {
			return err
		}
	}
	return nil
}

// ForgetHeld forgets all that the bucket of a vault was known to hold, so that
// the next backup asks the bucket. Forgetting an unknown vault is no error.
func (l *Ledger) ForgetHeld(ctx context.Context, vault string) error {
	err := l.update(ctx, func(tx *bolt.Tx) error {
		all := tx.Bucket([]byte(bucketHeld))
		if all.Bucket([]byte(vault)) == nil {
			return nil
		}
		return all.DeleteBucket([]byte(vault))
	})
	if err != nil {
		return fmt.Errorf("forget what vault %s holds: %w", vault, err)
	}
	return nil
}

// ForgetHeldBut forgets what vaults were known to hold whose names start with a
// prefix, but for the one of that name.
func (l *Ledger) ForgetHeldBut(ctx context.Context, name, prefix string) error {
	var old []string
	err := l.view(ctx, func(tx *bolt.Tx) error { old = heldBut(tx, name, prefix); return nil })
	if err == nil && len(old) > 0 {
		err = l.update(ctx, func(tx *bolt.Tx) error {
			for _, vault := range heldBut(tx, name, prefix) {
				if err := tx.Bucket([]byte(bucketHeld)).DeleteBucket([]byte(vault)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("forget what vault %s held: %w", prefix, err)
	}
	return nil
}

func heldBut(tx *bolt.Tx, name, prefix string) (vaults []string) {
	c := tx.Bucket([]byte(bucketHeld)).Cursor()
	for k, _ := c.Seek([]byte(prefix)); bytes.HasPrefix(k, []byte(prefix)); k, _ = c.Next() {
		if string(k) != name {
			vaults = append(vaults, string(k))
		}
	}
	return vaults
}
