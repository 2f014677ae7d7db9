package layout

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// Tree is a registry's folder. Its methods may be called from many goroutines.
type Tree struct {
	root     *root    // <root>
	scratch  folder   // <scratch>, on the same filesystem
	whole    *os.File // open from the start: syncfs tells an open file of every fault since then
	options  Options
	barrier  barrier
	waiting  waiting
	flights  flights
	arrivals arrivals
	names    atomic.Uint64
}

// Options change how a tree is opened. The zero value is ready.
type Options struct {
	// Step is called before every change on disk, with what and where. Tests
	// end the process there. nil: nothing is called.
	Step func(op, subject string)
	// Fault is called after Step. Its error is what the change ends with, in
	// place of being made. nil: none.
	Fault func(op, subject string) error
}

// step is to be called before every change on disk.
func (t *Tree) step(op, subject string) error {
	if t.options.Step != nil {
		t.options.Step(op, subject)
	}
	if t.options.Fault != nil {
		return t.options.Fault(op, subject)
	}
	return nil
}

// Open makes the folders where they are absent and clears what an earlier
// process left in scratch/tmp. Two trees must not have the same scratch.
func Open(root, scratch string, o Options) (*Tree, error) {
	t := &Tree{options: o}
	for _, dir := range []string{root, scratch} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	var err error
	if t.root, err = openRoot(root); err != nil {
		return nil, err
	}
	if t.scratch, err = openFolder(scratch); err != nil {
		return nil, errors.Join(err, t.root.Close())
	}
	if t.whole, err = t.root.Open("."); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	if err := t.sameFilesystem(); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	if err := errors.Join(t.scratch.RemoveAll("tmp"), t.scratch.MkdirAll("tmp", 0o700)); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	t.barrier.sync = t.settle
	return t, nil
}

func (t *Tree) syncAll() error {
	err := t.step("syncfs", "")
	if err == nil {
		err = unix.Syncfs(int(t.whole.Fd()))
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errUnsynced, &fs.PathError{Op: "syncfs", Path: t.root.Name(), Err: err})
	}
	return nil
}

// sameFilesystem refuses folders between which a rename is impossible.
func (t *Tree) sameFilesystem() error {
	a, err := deviceOf(t.root.folder)
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
func (t *Tree) Close() error {
	errs := []error{t.root.Close(), t.scratch.Close()}
	if t.whole != nil {
		errs = append(errs, t.whole.Close())
	}
	return errors.Join(errs...)
}

// Barrier makes everything that was written before it durable, and gives
// content that waited for that its name. After one that lost something all
// fail: the kernel tells of a lost write once and then forgets it.
func (t *Tree) Barrier() error { return Explain(t.barrier.wait()) }

// PurgePartials removes unfinished content that nobody added to since before,
// and says how many. Content that is being fetched is not to be purged.
func (t *Tree) PurgePartials(before time.Time) (purged int, err error) {
	algorithms, err := fs.ReadDir(t.scratch.FS(), ".")
	for _, a := range algorithms {
		if err != nil || a.Name() == "tmp" || !a.IsDir() {
			continue
		}
		var n int
		n, err = t.purge(a.Name(), before)
		purged += n
	}
	return purged, err
}

func (t *Tree) purge(dir string, before time.Time) (purged int, err error) {
	entries, err := fs.ReadDir(t.scratch.FS(), dir)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.ModTime().Before(before) {
			continue
		}
		name := path.Join(dir, e.Name())
		if err := errors.Join(t.step("remove", "partial/"+name), t.scratch.RemoveAll(name)); err != nil {
			return purged, err
		}
		purged++
	}
	return purged, nil
}

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
	tmp, f, err := t.temporary()
	if err != nil {
		return "", err
	}
	if err = t.step("write", tmp); err == nil {
		_, err = f.Write(data)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, t.scratch.Remove(tmp))
	}
	return tmp, nil
}

// install renames a file of scratch to its name, and makes the folder when it
// is absent. When it cannot, the file goes.
func (t *Tree) install(tmp, name string) error {
	if err := t.rename(tmp, name); err != nil {
		return errors.Join(err, t.scratch.Remove(tmp))
	}
	return nil
}

// rename moves a file of scratch to its name in the tree.
func (t *Tree) rename(from, to string) error {
	if err := t.step("rename", to); err != nil {
		return err
	}
	return t.root.take(t.scratch, from, to)
}

// syncDir makes the names in a folder durable.
func (t *Tree) syncDir(name string) error {
	d, err := t.root.Open(name)
	if err != nil {
		return err
	}
	if err = t.step("fsync", name); err == nil {
		err = d.Sync()
	}
	return errors.Join(err, d.Close())
}

// Link makes a link, unsynced. A link that is there already is left alone. Who
// reads one while it is made finds it absent or empty, which is the same.
func (t *Tree) Link(name string, d digest.Digest) error {
	err := t.step("link", name)
	if err == nil {
		err = t.root.create(name, []byte(d))
	}
	if !errors.Is(err, fs.ErrExist) {
		return Explain(err)
	}
	if got, err := t.root.readLink(name); err == nil && got == d {
		return nil
	}
	return Explain(t.put(name, []byte(d)))
}

// LinkDurably makes everything written before durable, and then the link. After
// an error the link says what it said before.
func (t *Tree) LinkDurably(name string, d digest.Digest) error {
	return Explain(t.show(name, []byte(d)))
}

// show writes a small file that makes what was written before it visible.
func (t *Tree) show(name string, data []byte) error {
	tmp, err := t.stage(data)
	if err != nil {
		return err
	}
	if err := t.barrier.wait(); err != nil {
		return errors.Join(err, t.scratch.Remove(tmp))
	}
	old, err := t.root.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, t.scratch.Remove(tmp))
	}
	if err := t.install(tmp, name); err != nil {
		return err
	}
	// A barrier of many costs each less than the syncs of three folders.
	if err := t.barrier.wait(); err != nil {
		return errors.Join(err, t.takeBack(name, old))
	}
	return nil
}

// takeBack makes a file what it was before, nil being absent.
func (t *Tree) takeBack(name string, old []byte) error {
	if old == nil {
		return t.root.Remove(name)
	}
	return t.put(name, old)
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
	if err := t.step("remove", name); err != nil {
		return err
	}
	if err := t.root.RemoveAll(name); err != nil {
		return err
	}
	return t.syncDir(path.Dir(name))
}

// Drop removes a file or a folder with all in it, unsynced. One that is absent is no
// error.
func (t *Tree) Drop(name string) error {
	if err := t.step("remove", name); err != nil {
		return err
	}
	return t.root.RemoveAll(name)
}

// Folder makes a folder, unsynced.
func (t *Tree) Folder(name string) error {
	if _, err := t.root.Stat(name); err == nil {
		return nil
	}
	if err := t.step("mkdir", name); err != nil {
		return err
	}
	return t.root.MkdirAll(name, 0o700)
}
