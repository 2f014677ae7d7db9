package layout

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
)

// Tree is a registry's folder. Its methods may be called from many goroutines.
type Tree struct {
	root    *os.Root // <root>
	scratch *os.Root // <scratch>, on the same filesystem
	step    func(op, subject string)
	barrier barrier
	flights flights
	names   atomic.Uint64
}

// Options change how a tree is opened. The zero value is ready.
type Options struct {
	// Step is called before every change on disk, with what and where. Tests
	// end the process there. nil: nothing is called.
	Step func(op, subject string)
}

// Open makes the folders where they are absent and clears what an earlier
// process left in scratch/tmp. Two trees must not have the same scratch.
func Open(root, scratch string, o Options) (*Tree, error) {
	t := &Tree{step: o.Step}
	if t.step == nil {
		t.step = func(string, string) {}
	}
	for _, dir := range []string{root, scratch} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	var err error
	if t.root, err = os.OpenRoot(root); err != nil {
		return nil, err
	}
	if t.scratch, err = os.OpenRoot(scratch); err != nil {
		return nil, errors.Join(err, t.root.Close())
	}
	if err := t.sameFilesystem(); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	if err := errors.Join(t.scratch.RemoveAll("tmp"), t.scratch.MkdirAll("tmp", 0o700)); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	t.barrier.sync = func() error { t.step("syncfs", ""); return syncfs(t.root) }
	return t, nil
}

// sameFilesystem refuses folders between which a rename is impossible.
func (t *Tree) sameFilesystem() error {
	a, err := deviceOf(t.root)
	if err != nil {
		return err
	}
	b, err := deviceOf(t.scratch)
	if err != nil {
		return err
	}
	if a != b {
		return fmt.Errorf("%s and %s are on different filesystems: files cannot be renamed between them", t.root.Name(), t.scratch.Name())
	}
	return nil
}

// Close closes the folders.
func (t *Tree) Close() error { return errors.Join(t.root.Close(), t.scratch.Close()) }

// Barrier makes everything that was written before it durable.
func (t *Tree) Barrier() error { return t.barrier.wait() }

// temporary makes a new file in scratch.
func (t *Tree) temporary() (name string, f *os.File, err error) {
	name = "tmp/" + strconv.FormatUint(t.names.Add(1), 36)
	f, err = t.scratch.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	return name, f, err
}

// put writes a small file under its name in one step, unsynced.
func (t *Tree) put(name string, data []byte) error {
	tmp, err := t.stage(data)
	if err != nil {
		return err
	}
	return t.install(tmp, name)
}

// stage writes a small file in scratch.
func (t *Tree) stage(data []byte) (tmp string, err error) {
	t.step("write", "tmp")
	tmp, f, err := t.temporary()
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, t.scratch.Remove(tmp))
	}
	return tmp, nil
}

// install renames a file of scratch to its name, and makes the folder when it
// is absent.
func (t *Tree) install(tmp, name string) error {
	t.step("rename", name)
	from, to := filepath.Join(t.scratch.Name(), tmp), filepath.Join(t.root.Name(), filepath.FromSlash(name))
	err := os.Rename(from, to)
	if errors.Is(err, fs.ErrNotExist) {
		if err := t.root.MkdirAll(path.Dir(name), 0o700); err != nil {
			return errors.Join(err, t.scratch.Remove(tmp))
		}
		err = os.Rename(from, to)
	}
	if err != nil {
		return errors.Join(err, t.scratch.Remove(tmp))
	}
	return nil
}

// syncDir makes the names in a folder durable.
func (t *Tree) syncDir(name string) error {
	t.step("fsync", name)
	d, err := t.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Link makes a link, unsynced. A link that is there already is left alone.
func (t *Tree) Link(name string, d digest.Digest) error {
	if got, err := t.ReadLink(name); err == nil && got == d {
		return nil
	}
	return t.put(name, []byte(d))
}

// LinkDurably makes everything written before durable, and then the link.
func (t *Tree) LinkDurably(name string, d digest.Digest) error {
	tmp, err := t.stage([]byte(d))
	if err != nil {
		return err
	}
	if err := t.Barrier(); err != nil {
		return errors.Join(err, t.scratch.Remove(tmp))
	}
	if err := t.install(tmp, name); err != nil {
		return err
	}
	return t.syncParents(name)
}

// syncParents makes a name durable, and those of the folders above it that may
// be new: of a tag these are current and its own.
func (t *Tree) syncParents(name string) error {
	dir := path.Dir(name)
	return errors.Join(t.syncDir(dir), t.syncDir(path.Dir(dir)), t.syncDir(path.Dir(path.Dir(dir))))
}

// maxLink is more than any digest takes.
const maxLink = 256

// ReadLink returns the digest in a link. An absent or empty one is fs.ErrNotExist.
func (t *Tree) ReadLink(name string) (digest.Digest, error) {
	f, err := t.root.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxLink))
	if err != nil {
		return "", err
	}
	if len(raw) == 0 {
		return "", &fs.PathError{Op: "read empty link", Path: name, Err: fs.ErrNotExist}
	}
	d := digest.Digest(bytes.TrimSpace(raw))
	if err := d.Validate(); err != nil {
		return "", fmt.Errorf("link %s: %w", name, err)
	}
	return d, nil
}

// Stat describes a file; fs.ErrNotExist.
func (t *Tree) Stat(name string) (fs.FileInfo, error) { return t.root.Stat(name) }

// OpenFile opens a file for reading. The caller closes it.
func (t *Tree) OpenFile(name string) (*os.File, error) { return t.root.Open(name) }

// Entries lists a folder, ordered by name; an absent folder is empty.
func (t *Tree) Entries(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(t.root.FS(), name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return entries, err
}

// Remove removes a file or a folder with all in it, and makes that durable.
func (t *Tree) Remove(name string) error {
	t.step("remove", name)
	if err := t.root.RemoveAll(name); err != nil {
		return err
	}
	return t.syncDir(path.Dir(name))
}

// Folder makes a folder, unsynced.
func (t *Tree) Folder(name string) error {
	if _, err := t.root.Stat(name); err == nil {
		return nil
	}
	t.step("mkdir", name)
	return t.root.MkdirAll(name, 0o700)
}
