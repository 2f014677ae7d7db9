package file

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// state is what is found of a file before it is opened.
type state struct {
	info       os.FileInfo
	unclean    bool  // it was not closed
	copied     bool  // it is a copy of one that was open
	size, free int64 // bytes of its pages, and of those that nothing uses
}

// examine reads the whole file without changing it, and tells what it is. One
// that was not closed is checked by bbolt too, if that takes no second.
func (s Settings) examine(path string) (found state, err error) {
	err = s.read(path, func(f *os.File, tx *bolt.Tx) error {
		if found.info, err = f.Stat(); err != nil {
			return err
		}
		pages := pagesOf(f, tx)
		if err := pages.bucket(rootOf(tx)); err != nil {
			return damaged(err)
		}
		found.size = tx.Size()
		found.free = found.size - int64(len(pages.seen)+2)*pages.size
		mark, err := s.checkMeta(tx)
		if err != nil {
			return err
		}
		found.unclean = mark != nil
		found.copied = isElsewhere(mark, found.info)
		if found.unclean && found.size <= checkedAtOpen {
			return checkUnclean(tx)
		}
		return nil
	})
	return found, err
}

func checkUnclean(tx *bolt.Tx) error {
	found := faults{limit: 1}
	if checkByBolt(tx, &found); len(found.kept) > 0 {
		return damaged(found.kept[0])
	}
	return nil
}

// read runs fn on a file that is long enough for bbolt to read it: it maps what
// it takes to be there, and would fault.
func (s Settings) read(path string, fn func(*os.File, *bolt.Tx) error) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() < 4*int64(os.Getpagesize()) {
		return damaged(fmt.Sprintf("it is only %d bytes long", info.Size()))
	}
	o := s.options()
	o.ReadOnly = true
	o.OpenFile = nil
	db, err := bolt.Open(path, 0o600, o)
	if err != nil {
		return explainOpen(err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return db.View(func(tx *bolt.Tx) error {
		if info.Size() < tx.Size() {
			return damaged(fmt.Sprintf("it ends at byte %d of %d", info.Size(), tx.Size()))
		}
		return fn(f, tx)
	})
}

func pagesOf(f *os.File, tx *bolt.Tx) *pages {
	size := int64(tx.DB().Info().PageSize)
	return &pages{file: f, size: size, end: uint64(tx.Size() / size), seen: map[uint64]bool{}}
}

func rootOf(tx *bolt.Tx) uint64 { return uint64(tx.Cursor().Bucket().RootPage()) }

// idOf is what the system knows of a file.
func idOf(info os.FileInfo) *syscall.Stat_t { return info.Sys().(*syscall.Stat_t) }

// openMark says which file is open, so that a copy of it can be told from it. Of
// older versions it is 1 byte, which tells nothing.
func openMark(info os.FileInfo) []byte {
	return binary.BigEndian.AppendUint64([]byte{1}, idOf(info).Ino)
}

func isElsewhere(mark []byte, info os.FileInfo) bool {
	return len(mark) == 9 && binary.BigEndian.Uint64(mark[1:]) != idOf(info).Ino
}

// errReplaced means that another file took the place of one that was examined.
var errReplaced = errors.New("another file took its place")

// openExamined opens and locks the file that was examined. The lock is on the
// file and not on its name, which may be another's by the time that it is had.
func (s Settings) openExamined(path string, found state) (*bolt.DB, error) {
	open, locked := s.openFile, (*os.File)(nil)
	if open == nil {
		open = os.OpenFile
	}
	s.openFile = func(name string, flag int, mode os.FileMode) (_ *os.File, err error) {
		locked, err = open(name, flag, mode)
		return locked, err
	}
	db, err := s.openWritable(path)
	if err != nil {
		return nil, err
	}
	mine, err := locked.Stat()
	now, nameErr := os.Stat(path)
	if err := errors.Join(err, nameErr); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if !os.SameFile(mine, now) || !os.SameFile(mine, found.info) {
		return nil, errors.Join(errReplaced, db.Close())
	}
	return db, nil
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

// checkMeta reads what the file says of itself: which file is open, if one is.
func (s Settings) checkMeta(tx *bolt.Tx) (mark []byte, err error) {
	meta := tx.Bucket([]byte(bucketMeta))
	if meta == nil {
		return nil, damaged("there is no meta bucket")
	}
	version := meta.Get([]byte(metaFormat))
	if len(version) != 8 {
		return nil, damaged("there is no format version")
	}
	if n := binary.BigEndian.Uint64(version); n > s.Format {
		return nil, fmt.Errorf("%w (format %d, this one knows %d): use a lastro that is as new", ErrNewer, n, s.Format)
	}
	if err := s.Check(tx); err != nil {
		return nil, damaged(err)
	}
	return bytes.Clone(meta.Get([]byte(metaOpen))), nil
}
