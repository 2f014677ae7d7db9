package file

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	bolt "go.etcd.io/bbolt"
)

const (
	// compactFrom is how much a compaction has to gain at least.
	compactFrom = 16 << 20
	// compactTx is about how much one transaction of a compaction copies.
	compactTx     = 4 << 20
	compactSuffix = ".compact"
)

// Compaction is what Open did to a file most of which nothing used.
type Compaction struct {
	Before, After int64 // bytes of its pages; Before 0: there was nothing to gain
	Err           error // why it was not done. The file is as it was.
}

// pays says that most of a file is free, and that it is worth a copy.
func (st state) pays(least int64) bool { return st.free > least && st.free > st.size/2 }

// compact puts a copy without free pages in the place of the file that db has
// open and locked. Until the rename a crash or a fault, which the result tells,
// leaves the file as it was; after it both have the same facts, and an error is
// that nobody knows which of them the disk has.
func (s Settings) compact(db *bolt.DB, path string, st state) (c Compaction, err error) {
	c.Before = st.size
	to := path + compactSuffix
	c.After, c.Err = s.compactTo(db, path, to, st)
	if c.Err == nil {
		c.Err = s.steps.do("rename", func() error { return os.Rename(to, path) })
	}
	if c.Err != nil {
		c.Err = errors.Join(c.Err, removeIfThere(to))
		return c, nil
	}
	if err := s.steps.do("sync folder", func() error { return syncPath(filepath.Dir(path)) }); err != nil {
		return c, fmt.Errorf("put the compacted ledger in its place: %w: mend the disk and start lastro again", err)
	}
	return c, nil
}

// compactTo makes a copy that is whole, on disk, and its owner's as the file is.
func (s Settings) compactTo(db *bolt.DB, path, to string, st state) (size int64, err error) {
	if err := s.where.checkRoom(to, st.size-st.free); err != nil {
		return 0, err
	}
	if err := removeIfThere(to); err != nil {
		return 0, err
	}
	for _, step := range []struct {
		op     string
		change func() error
	}{
		{"copy", func() error { return copyCompact(db, to) }},
		{"own", func() error { return own(to, path) }},
		{"sync", func() error { return syncPath(to) }},
	} {
		if err := s.steps.do(step.op, step.change); err != nil {
			return 0, err
		}
	}
	made, err := s.examine(to)
	return made.size, err
}

// copyCompact copies all buckets, with their sequences. Nothing is synced.
func copyCompact(db *bolt.DB, to string) (err error) {
	out, err := bolt.Open(to, 0o600, &bolt.Options{NoFreelistSync: true, FreelistType: bolt.FreelistMapType, NoSync: true, NoGrowSync: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	defer func() {
		if r := recover(); r != nil {
			err = damaged(r)
		}
	}()
	return bolt.Compact(out, db, compactTx)
}

// own gives a file to whom another belongs: whoever compacts may be root.
func own(path, like string) error {
	info, err := os.Stat(like)
	if err != nil {
		return err
	}
	id := idOf(info)
	return errors.Join(os.Chown(path, int(id.Uid), int(id.Gid)), os.Chmod(path, info.Mode().Perm()))
}
