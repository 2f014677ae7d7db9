package ledger

import (
	"bytes"
	"context"
	"iter"

	bolt "go.etcd.io/bbolt"
)

// pageSize is how many keys one read transaction visits at most.
const pageSize = 1000

// scanner reads the keys of a bucket that start with prefix, from the key from
// on. bucket is asked in every transaction.
type scanner[T any] struct {
	bucket func(*bolt.Tx) (*bolt.Bucket, error)
	prefix []byte
	from   []byte // nil: from the prefix
	decode func(k, v []byte) (T, error)
}

// scan yields in key order, a page at a time, and holds no transaction while
// it yields. An error is yielded once, last.
func scan[T any](ctx context.Context, l *Ledger, s scanner[T]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		from := s.from
		if from == nil {
			from = s.prefix
		}
		for from != nil {
			page, next, err := s.page(ctx, l, from)
			for _, item := range page {
				if !yield(item, nil) {
					return
				}
			}
			if err != nil {
				yield(*new(T), err)
				return
			}
			from = next
		}
	}
}

// page reads up to pageSize items. next is where to go on, nil at the end.
func (s scanner[T]) page(ctx context.Context, l *Ledger, from []byte) (items []T, next []byte, err error) {
	err = l.view(ctx, func(tx *bolt.Tx) error {
		b, err := s.bucket(tx)
		if err != nil {
			return err
		}
		c := b.Cursor()
		for k, v := c.Seek(from); k != nil && bytes.HasPrefix(k, s.prefix); k, v = c.Next() {
			if len(items) == pageSize {
				next = bytes.Clone(k)
				return nil
			}
			item, err := s.decode(k, v)
			if err != nil {
				return err
			}
			items = append(items, item)
		}
		return nil
	})
	return items, next, err
}

// top names a bucket of the file.
func top(name string) func(*bolt.Tx) (*bolt.Bucket, error) {
	return func(tx *bolt.Tx) (*bolt.Bucket, error) { return tx.Bucket([]byte(name)), nil }
}

// put writes only what differs: pages that say the same stay where they are.
func put(b *bolt.Bucket, k, v []byte) error {
	if old := b.Get(k); old != nil && bytes.Equal(old, v) {
		return nil
	}
	return b.Put(k, v)
}
