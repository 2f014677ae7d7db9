package file

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// steps is told of every change of a name or a file before it is made: where a
// test may fail, or look at what a crash would leave. Nil is not told.
type steps func(op string) error

func (s steps) do(op string, change func() error) error {
	if s != nil {
		if err := s(op); err != nil {
			return err
		}
	}
	return change()
}

// makeNew makes a file, mode 0600, that is whole and on disk when its name
// appears, and never takes the place of another (fs.ErrExist).
func (s steps) makeNew(to string, fill func(*os.File) error) (err error) {
	if _, err := os.Lstat(to); err == nil {
		return &fs.PathError{Op: "create", Path: to, Err: fs.ErrExist}
	}
	f, err := os.CreateTemp(filepath.Dir(to), "."+filepath.Base(to)+".*.new")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	err = s.do("fill", func() error { return fill(f) })
	if err == nil {
		err = s.do("sync", f.Sync)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := s.do("rename", func() error { return renameNew(f.Name(), to) }); err != nil {
		return err
	}
	return s.do("sync folder", func() error { return syncPath(filepath.Dir(to)) })
}

// renameNew renames a file unless the name is taken. Where the file system
// cannot do that at once, a second name does.
func renameNew(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.ENOTSUP) {
		return linkNew(from, to)
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

func linkNew(from, to string) error {
	if err := os.Link(from, to); err != nil {
		return err
	}
	return os.Remove(from)
}

// Place gives a file that is closed a name that no other file has, where it is
// durable. It is of the same folder.
func Place(from, to string) error {
	if err := renameNew(from, to); err != nil {
		return err
	}
	return syncPath(filepath.Dir(to))
}
