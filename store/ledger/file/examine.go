package file

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// examine reads the whole file without changing it, and tells whether it was
// left open.
func (s Settings) examine(path string) (unclean bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	// bbolt maps what it takes to be there, and would fault when it reads it.
	if info.Size() < 4*int64(os.Getpagesize()) {
		return false, damaged(fmt.Sprintf("it is only %d bytes long", info.Size()))
	}
	o := s.options()
	o.ReadOnly = true
	db, err := bolt.Open(path, 0o600, o)
	if err != nil {
		return false, explainOpen(err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	err = db.View(func(tx *bolt.Tx) error {
		if info.Size() < tx.Size() {
			return damaged(fmt.Sprintf("it ends at byte %d of %d", info.Size(), tx.Size()))
		}
		if err := checkPages(f, tx); err != nil {
			return damaged(err)
		}
		unclean, err = s.checkMeta(tx)
		return err
	})
	return unclean, err
}

func checkPages(f *os.File, tx *bolt.Tx) error {
	size := int64(tx.DB().Info().PageSize)
	c := pages{file: f, size: size, end: uint64(tx.Size() / size), seen: map[uint64]bool{}}
	return c.bucket(uint64(tx.Cursor().Bucket().RootPage()))
}

// openWritable opens the file that examine found whole. What bbolt finds all
// the same is an error and not the end of the process.
func (s Settings) openWritable(path string) (db *bolt.DB, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = damaged(r)
		}
	}()
	db, err = bolt.Open(path, 0o600, s.options())
	return db, explainOpen(err)
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

// checkMeta reads what the file says of itself.
func (s Settings) checkMeta(tx *bolt.Tx) (unclean bool, err error) {
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
