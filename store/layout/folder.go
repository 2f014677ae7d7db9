package layout

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

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

// read reads as much of a file as buf takes, in three system calls.
func (f folder) read(name string, buf []byte) (int, error) {
	fd, known, err := f.open(name, unix.O_RDONLY, 0)
	if !known {
		return f.readSlowly(name, buf)
	}
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	for {
		n, err := unix.Read(fd, buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, &fs.PathError{Op: "read", Path: name, Err: err}
		}
		return n, nil
	}
}

func (f folder) readSlowly(name string, buf []byte) (int, error) {
	file, err := f.Root.Open(name)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	n, err := file.Read(buf)
	if err == io.EOF {
		err = nil
	}
	return n, err
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

// size is how long a file is.
func (f folder) size(name string) (int64, error) {
	fd, known, err := f.open(name, unix.O_PATH, 0)
	if !known {
		info, err := f.Root.Stat(name)
		if err != nil {
			return 0, err
		}
		return info.Size(), nil
	}
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return st.Size, nil
}

// RemoveAll removes a file or a folder with all in it. Most folders hold one file,
// data of content or else a link: those go in few system calls.
func (f folder) RemoveAll(name string) error {
	file := "link"
	if strings.HasPrefix(name, Blobs+"/") {
		file = "data"
	}
	if f.removeLeaf(name, file) {
		return nil
	}
	return f.Root.RemoveAll(name)
}

// removeLeaf reports whether a folder is gone that held this file and nothing else.
func (f folder) removeLeaf(name, file string) bool {
	dir, err := f.OpenFile(name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	err = unix.Unlinkat(int(dir.Fd()), file, 0)
	_ = dir.Close() // there is nothing to be lost
	if err != nil {
		return false
	}
	above, err := f.OpenFile(path.Dir(name), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return false
	}
	defer above.Close()
	return unix.Unlinkat(int(above.Fd()), path.Base(name), unix.AT_REMOVEDIR) == nil
}

// MkdirAll makes a folder and those above it.
func (f folder) MkdirAll(name string, mode fs.FileMode) error {
	if name == "." {
		return nil
	}
	above, err := f.openDir(path.Dir(name), mode)
	if err != nil {
		return err
	}
	defer above.Close()
	return mkdirIn(above, path.Base(name), mode)
}

// openDir opens a folder as the place of new names, and makes it when it is absent.
func (f folder) openDir(name string, mode fs.FileMode) (*os.File, error) {
	d, err := f.OpenFile(name, unix.O_PATH|unix.O_DIRECTORY, 0)
	if !errors.Is(err, fs.ErrNotExist) || name == "." {
		return d, err
	}
	if err := f.MkdirAll(name, mode); err != nil {
		return nil, err
	}
	return f.OpenFile(name, unix.O_PATH|unix.O_DIRECTORY, 0)
}

// mkdirIn makes a folder in another, unless it is there.
func mkdirIn(dir *os.File, base string, mode fs.FileMode) error {
	err := unix.Mkdirat(int(dir.Fd()), base, uint32(mode.Perm()))
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return &fs.PathError{Op: "mkdir", Path: path.Join(dir.Name(), base), Err: err}
	}
	return nil
}

// create makes a small file and the folder that it is in. One that is there
// already is fs.ErrExist.
func (f folder) create(name string, data []byte) error {
	if err := f.MkdirAll(path.Dir(name), 0o700); err != nil {
		return err
	}
	file, err := f.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, f.Remove(name))
	}
	return nil
}

// take renames a file of another folder to its name here, and makes the folder
// that it is in when it is absent.
func (f folder) take(from folder, name, to string) error {
	dir := path.Dir(to)
	above, err := f.openDir(path.Dir(dir), 0o700)
	if err != nil {
		return err
	}
	defer above.Close()
	if err := mkdirIn(above, path.Base(dir), 0o700); err != nil {
		return err
	}
	err = unix.Renameat(int(from.dir.Fd()), name, int(above.Fd()), path.Base(dir)+"/"+path.Base(to))
	if err != nil {
		return &os.LinkError{Op: "rename", Old: path.Join(from.Name(), name), New: path.Join(f.Name(), to), Err: err}
	}
	return nil
}
