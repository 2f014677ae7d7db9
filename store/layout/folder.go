package layout

import (
	"errors"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// folder is a folder that names do not lead out of, by links neither. os.Root
// opens every folder on the way to a name, which made sixty for one small blob;
// here the kernel walks in one call, and the Root does what is rare, and all of
// it where the kernel does not know how.
type folder struct {
	*os.Root
	dir *os.File
}

func openFolder(name string) (folder, error) {
	root, err := os.OpenRoot(name)
	if err != nil {
		return folder{}, err
	}
	dir, err := root.Open(".")
	if err != nil {
		return folder{}, errors.Join(err, root.Close())
	}
	return folder{root, dir}, nil
}

// Close closes the folder.
func (f folder) Close() error { return errors.Join(f.dir.Close(), f.Root.Close()) }

// open is openat2 that stays beneath the folder. known is false where the
// kernel cannot, or a sandbox does not let it.
func (f folder) open(name string, flags int, mode fs.FileMode) (fd int, known bool, err error) {
	how := &unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: unix.RESOLVE_BENEATH}
	if flags&unix.O_CREAT != 0 {
		how.Mode = uint64(mode.Perm())
	}
	for {
		fd, err = unix.Openat2(int(f.dir.Fd()), name, how)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EPERM), errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EXDEV):
			return -1, false, err
		case err != nil:
			return -1, true, &fs.PathError{Op: "open", Path: name, Err: err}
		}
		return fd, true, nil
	}
}

// Open opens a file for reading.
func (f folder) Open(name string) (*os.File, error) { return f.OpenFile(name, os.O_RDONLY, 0) }

// OpenFile opens a file, with O_CREATE in a folder that is there.
func (f folder) OpenFile(name string, flags int, mode fs.FileMode) (*os.File, error) {
	fd, known, err := f.open(name, flags, mode)
	if !known {
		return f.Root.OpenFile(name, flags, mode)
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path.Join(f.Name(), name)), nil
}

// Stat describes what name is, following links.
func (f folder) Stat(name string) (fs.FileInfo, error) {
	fd, known, err := f.open(name, unix.O_PATH, 0)
	if !known {
		return f.Root.Stat(name)
	}
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), path.Join(f.Name(), name))
	defer file.Close()
	return file.Stat()
}

// MkdirAll makes a folder and those above it.
func (f folder) MkdirAll(name string, mode fs.FileMode) error {
	fd, _, err := f.open(path.Dir(name), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return f.Root.MkdirAll(name, mode)
	}
	defer unix.Close(fd)
	if unix.Mkdirat(fd, path.Base(name), uint32(mode.Perm())) == nil {
		return nil
	}
	return f.Root.MkdirAll(name, mode)
}
