package file

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// examine reads the whole file without changing it, and tells whether it was
// left open. bbolt itself ends the process when it opens a damaged file.
func (s Settings) examine(path string) (unclean bool, err error) {
	o := s.options()
	o.ReadOnly = true
	db, err := bolt.Open(path, 0o600, o)
	if err != nil {
		return false, explainOpen(err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	err = survive(func() error {
		return db.View(func(tx *bolt.Tx) error {
			if unclean, err = s.checkWhole(path, tx); err != nil {
				return err
			}
			return tx.ForEach(func(_ []byte, b *bolt.Bucket) error { return walk(b) })
		})
	})
	return unclean, err
}

// openWritable opens the file that examine found whole.
func (s Settings) openWritable(path string) (db *bolt.DB, err error) {
	err = survive(func() error {
		db, err = bolt.Open(path, 0o600, s.options())
		return explainOpen(err)
	})
	return db, err
}

func explainOpen(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, berrors.ErrTimeout):
		return fmt.Errorf("%w: stop that process, or let the verb talk to it (same data folder)", ErrLocked)
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch):
		return damaged(err)
	}
	return err
}

func damaged(cause any) error {
	return fmt.Errorf("%w: %v: move it away, then run lastro rebuild (the graph) and lastro restore (the history)", ErrDamaged, cause)
}

// survive turns what reading a damaged file does – an assertion of bbolt, a
// fault beyond the file's end – into an error.
func survive(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = damaged(r)
		}
	}()
	return fn()
}

// checkWhole reads what says whether the rest may be read.
func (s Settings) checkWhole(path string, tx *bolt.Tx) (unclean bool, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return false, err
	}
	if info.Size() < tx.Size() {
		return false, damaged(fmt.Sprintf("the file ends at byte %d of %d", info.Size(), tx.Size()))
	}
	meta := tx.Bucket([]byte(bucketMeta))
	if meta == nil {
		return false, damaged("there is no meta bucket")
	}
	version := meta.Get([]byte(metaFormat))
	if len(version) != 8 {
		return false, damaged("there is no format version")
	}
	if n := binary.BigEndian.Uint64(version); n > s.Format {
		return false, fmt.Errorf("%w (format %d, this one knows %d): use a lastro that is as new", ErrNewer, n, s.Format)
	}
	if err := s.Check(tx); err != nil {
		return false, damaged(err)
	}
	return meta.Get([]byte(metaOpen)) != nil, nil
}

// walk visits every key, and with that every page but those of long values.
func walk(b *bolt.Bucket) error {
	var last []byte
	c := b.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if last != nil && bytes.Compare(last, k) >= 0 {
			return damaged("keys are out of order")
		}
		last = k
		if v != nil {
			continue
		}
		if inner := b.Bucket(k); inner != nil {
			if err := walk(inner); err != nil {
				return err
			}
		}
	}
	return nil
}
