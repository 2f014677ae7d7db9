package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

const (
	// checkedAtOpen is up to which size a file that was not closed is checked by
	// bbolt as well before it is opened. That costs 0.9 ms for each MiB beside the
	// 3 ms that reading its pages takes, so half a second; larger files wait for
	// the next Check.
	checkedAtOpen = 512 << 20
	// reserve is what a check and a compaction leave free on the disk.
	reserve = 64 << 20
	// checkSuffix is of the copy that is checked.
	checkSuffix = ".check"
)

// Checked is what a check found.
type Checked struct {
	Bytes    int64    // that were read
	Problems []string // the first of them
	More     bool     // there are more
}

// faults keeps the first problems.
type faults struct {
	limit int
	kept  []string
	more  bool
}

// add keeps a problem, or that there are more. It reports whether others are
// of use.
func (f *faults) add(problem any) bool {
	if len(f.kept) >= f.limit {
		f.more = true
		return false
	}
	f.kept = append(f.kept, fmt.Sprint(problem))
	return true
}

// Check reads a copy of the file as it is now: every page first, then what
// bbolt itself checks, then what inspect does, which reports problems until it
// is told that no more are wanted. Each looks only when the one before found
// nothing. At most limit problems are kept. Writes go on meanwhile. The copy lies
// beside the file, and is removed. One check runs at a time; a second waits.
func (f *File) Check(ctx context.Context, limit int, inspect func(tx *bolt.Tx, report func(problem any) bool) error) (c Checked, err error) {
	select {
	case f.checking <- struct{}{}:
		defer func() { <-f.checking }()
	case <-ctx.Done():
		return c, ctx.Err()
	}
	path := f.path + checkSuffix
	defer func() { err = errors.Join(err, removeIfThere(path)) }()
	if c.Bytes, err = f.copyToCheck(ctx, path); err != nil {
		return c, fmt.Errorf("copy the ledger to check it: %w", err)
	}
	found := faults{limit: limit}
	err = f.settings.inspect(path, &found, inspect)
	c.Problems, c.More = found.kept, found.more
	if err != nil {
		return c, fmt.Errorf("check a copy of the ledger: %w", err)
	}
	return c, nil
}

// copyToCheck needs no last sync: nobody reads the copy after a crash.
func (f *File) copyToCheck(ctx context.Context, path string) (size int64, err error) {
	if err := removeIfThere(path); err != nil {
		return 0, err
	}
	err = f.View(ctx, func(tx *bolt.Tx) error { return f.settings.where.checkRoom(path, tx.Size()) })
	if err != nil {
		return 0, err
	}
	out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	size, err = f.writeTo(ctx, out)
	return size, errors.Join(err, out.Close())
}

// inspect checks a file that nobody writes.
func (s Settings) inspect(path string, found *faults, inspect func(*bolt.Tx, func(any) bool) error) error {
	return s.read(path, func(f *os.File, tx *bolt.Tx) error {
		pages := pagesOf(f, tx)
		pages.faults = found
		if err := pages.bucket(rootOf(tx)); err != nil && err != errEnough {
			found.add(err)
		}
		if len(found.kept) == 0 {
			checkByBolt(tx, found)
		}
		if len(found.kept) == 0 {
			return inspect(tx, found.add)
		}
		return nil
	})
}

// checkByBolt lets bbolt check a file whose pages are right: with others it may
// end the process. It ends when the channel does, or bbolt would wait for ever.
func checkByBolt(tx *bolt.Tx, found *faults) {
	for problem := range tx.Check() {
		found.add(problem)
	}
}

// checkRoom refuses to make a file of so many bytes where that would fill the
// disk.
func (w where) checkRoom(path string, size int64) error {
	var s unix.Statfs_t
	dir := filepath.Dir(path)
	if err := w.filled().statfs(dir, &s); err != nil {
		return &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	if free := s.Bavail * uint64(s.Bsize); free < uint64(size)+reserve {
		return fmt.Errorf("%s has %d MiB free, and %d MiB are needed for a while: make room: %w", dir, free>>20, (size+reserve)>>20, unix.ENOSPC)
	}
	return nil
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
