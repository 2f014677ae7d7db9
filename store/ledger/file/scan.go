package file

import (
	"bytes"
	"context"
	"iter"

	bolt "go.etcd.io/bbolt"
)

// PageSize is how many keys one transaction reads at most.
const PageSize = 1000

// Scan reads the keys of a bucket that start with Prefix, in order, from the
// key From on.
type Scan[T any] struct {
	Bucket func(*bolt.Tx) (*bolt.Bucket, error) // asked in every transaction
	Prefix []byte                               // nil: all keys
	From   []byte                               // nil: from the prefix
	Decode func(tx *bolt.Tx, k, v []byte) (T, error)
}

// All yields in key order and holds no transaction while it yields. An error
// is yielded once, last.
func (s Scan[T]) All(ctx context.Context, f *File) iter.Seq2[T, error] {
	start := s.From
	if start == nil {
		start = append([]byte{}, s.Prefix...)
	}
	return Pages(start, func(from []byte) ([]T, []byte, error) { return s.page(ctx, f, from) })
}

// Pages yields the items of pages that read brings: from start on, and then
// from the next that the page before told, until that is nil.
func Pages[T any](start []byte, read func(from []byte) (items []T, next []byte, err error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for from := start; from != nil; {
			items, next, err := read(from)
			for _, item := range items {
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

// page reads up to PageSize items. next is where to go on, nil at the end.
func (s Scan[T]) page(ctx context.Context, f *File, from []byte) (items []T, next []byte, err error) {
	err = f.View(ctx, func(tx *bolt.Tx) error {
		b, err := s.Bucket(tx)
		if err != nil {
			return err
		}
		c := b.Cursor()
		for k, v := c.Seek(from); k != nil && bytes.HasPrefix(k, s.Prefix); k, v = c.Next() {
			if len(items) == PageSize {
				next = bytes.Clone(k)
				return nil
			}
			item, err := s.Decode(tx, k, v)
			if err != nil {
				return err
			}
			items = append(items, item)
		}
		return nil
	})
	return items, next, err
}

// Put writes only what differs: pages that say the same stay where they are. A
// nil value is an empty one, which Get finds at once: bbolt answers nil for a
// nil value until its transaction is written.
func Put(b *bolt.Bucket, k, v []byte) error {
	if old := b.Get(k); old != nil && bytes.Equal(old, v) {
		return nil
	}
	return b.Put(k, append([]byte{}, v...))
}
