package layout

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"strings"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"golang.org/x/sys/unix"
)

// DriverName is how distribution's messages name the driver.
const DriverName = "lastro"

// Driver is a [Tree] as distribution sees it: its own storage driver interface,
// with our order of writes. Content is synced when it is committed; a link of a
// manifest or tag becomes visible after a barrier.
type Driver struct{ tree *Tree }

var _ storagedriver.StorageDriver = (*Driver)(nil)

// Driver returns the tree as a storage driver.
func (t *Tree) Driver() *Driver { return &Driver{t} }

// Name is the driver's name.
func (d *Driver) Name() string { return DriverName }

// local turns a driver's path into a name below the root, and refuses what is
// none: it decides by hand what distribution decides by a regular expression.
func local(p string) (string, error) {
	if p == "/" {
		return ".", nil
	}
	if len(p) < 2 || p[0] != '/' {
		return "", storagedriver.InvalidPathError{Path: p, DriverName: DriverName}
	}
	for element := range strings.SplitSeq(p[1:], "/") {
		if element == "" || element == "." || element == ".." || !plain(element) {
			return "", storagedriver.InvalidPathError{Path: p, DriverName: DriverName}
		}
	}
	return p[1:], nil
}

// file is local for what cannot be the root.
func file(p string) (string, error) {
	if p == "/" {
		return "", storagedriver.InvalidPathError{Path: p, DriverName: DriverName}
	}
	return local(p)
}

func plain(element string) bool {
	for i := range len(element) {
		c := element[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

// absent turns a missing file into distribution's error for it.
func absent(p string, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return storagedriver.PathNotFoundError{Path: p, DriverName: DriverName}
	}
	return err
}

// GetContent reads a small file. An empty link is absent: a power cut leaves
// such links, and only where nothing refers to them yet.
func (d *Driver) GetContent(_ context.Context, p string) ([]byte, error) {
	name, err := file(p)
	if err != nil {
		return nil, err
	}
	raw, err := d.tree.root.ReadFile(name)
	if err == nil && len(raw) == 0 && path.Base(name) == "link" {
		err = fs.ErrNotExist
	}
	return raw, absent(p, err)
}

// PutContent writes a small file in one step.
func (d *Driver) PutContent(_ context.Context, p string, content []byte) error {
	name, err := file(p)
	if err != nil {
		return err
	}
	if visible(name) {
		return Explain(d.tree.show(name, content))
	}
	return Explain(d.tree.put(name, content))
}

// visible reports whether a link shows a manifest or tag to clients.
func visible(name string) bool {
	return strings.Contains(name, "/_manifests/") && strings.HasSuffix(name, "/link") && !strings.Contains(name, "/index/")
}

// Reader opens a file from an offset.
func (d *Driver) Reader(_ context.Context, p string, offset int64) (io.ReadCloser, error) {
	name, err := file(p)
	if err != nil {
		return nil, err
	}
	if offset < 0 {
		return nil, storagedriver.InvalidOffsetError{Path: p, Offset: offset, DriverName: DriverName}
	}
	f, err := d.tree.root.Open(name)
	if err != nil {
		return nil, absent(p, err)
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Writer opens a file for writing, at its end or anew. A file that was moved is
// not to be written any more.
func (d *Driver) Writer(_ context.Context, p string, appending bool) (storagedriver.FileWriter, error) {
	name, err := file(p)
	if err != nil {
		return nil, err
	}
	if err := d.tree.step("open", name); err != nil {
		return nil, err
	}
	if err := d.tree.root.MkdirAll(path.Dir(name), 0o700); err != nil {
		return nil, err
	}
	flags := os.O_WRONLY | os.O_CREATE
	if !appending {
		flags |= os.O_TRUNC
	}
	f, err := d.tree.root.OpenFile(name, flags, 0o600)
	if err != nil {
		return nil, absent(p, err)
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &upload{tree: d.tree, name: name, file: f, size: size}, nil
}

// Stat describes a file or folder.
func (d *Driver) Stat(_ context.Context, p string) (storagedriver.FileInfo, error) {
	name, err := local(p)
	if err != nil {
		return nil, err
	}
	info, err := d.tree.root.Stat(name)
	if err != nil {
		return nil, absent(p, err)
	}
	size := info.Size()
	if info.IsDir() {
		size = 0
	}
	return storagedriver.FileInfoInternal{FileInfoFields: storagedriver.FileInfoFields{Path: p, Size: size, ModTime: info.ModTime(), IsDir: info.IsDir()}}, nil
}

// List names what lies in a folder.
func (d *Driver) List(_ context.Context, p string) ([]string, error) {
	name, err := local(p)
	if err != nil {
		return nil, err
	}
	entries, err := fs.ReadDir(d.tree.root.FS(), name)
	if err != nil {
		return nil, absent(p, err)
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = path.Join(p, e.Name())
	}
	return names, nil
}

// Move renames a file.
func (d *Driver) Move(_ context.Context, from, to string) error {
	source, err := file(from)
	if err != nil {
		return err
	}
	target, err := file(to)
	if err != nil {
		return err
	}
	if _, err := d.tree.root.Stat(source); err != nil {
		return absent(from, err)
	}
	if err := d.tree.step("rename", target); err != nil {
		return err
	}
	if err := d.tree.root.MkdirAll(path.Dir(target), 0o700); err != nil {
		return err
	}
	return d.tree.root.Rename(source, target)
}

// Delete removes a file or a folder with all in it.
func (d *Driver) Delete(_ context.Context, p string) error {
	name, err := file(p)
	if err != nil {
		return err
	}
	if _, err := d.tree.root.Stat(name); err != nil {
		return absent(p, err)
	}
	if err := d.tree.step("remove", name); err != nil {
		return err
	}
	return d.tree.root.RemoveAll(name)
}

// RedirectURL says that content is served here.
func (d *Driver) RedirectURL(*http.Request, string) (string, error) { return "", nil }

// Walk calls f for everything below a folder, each folder before what is in it.
func (d *Driver) Walk(ctx context.Context, p string, f storagedriver.WalkFn, options ...func(*storagedriver.WalkOptions)) error {
	return storagedriver.WalkFallback(ctx, d, p, f, options...)
}

// upload is a file that distribution writes in several sessions.
type upload struct {
	tree   *Tree
	name   string
	file   *os.File
	size   int64
	closed bool
	ended  bool // committed or cancelled
}

var errEnded = errors.New("the upload has ended")

func (u *upload) Write(p []byte) (int, error) {
	if u.closed || u.ended {
		return 0, errEnded
	}
	if err := u.tree.step("write", u.name); err != nil {
		return 0, Explain(err)
	}
	defer u.tree.root.change(u.name)()
	n, err := u.file.Write(p)
	u.size += int64(n)
	return n, Explain(err)
}

// Size is what was written so far, in all sessions.
func (u *upload) Size() int64 { return u.size }

// Close ends a session; another may go on.
func (u *upload) Close() error {
	if u.closed {
		return errEnded
	}
	u.closed = true
	return u.file.Close()
}

// Cancel removes what was written.
func (u *upload) Cancel(context.Context) error {
	if u.closed || u.ended {
		return errEnded
	}
	u.ended = true
	if err := u.tree.step("remove", u.name); err != nil {
		return err
	}
	return u.tree.root.Remove(u.name)
}

// Commit makes what was written durable.
func (u *upload) Commit(context.Context) error {
	if u.closed || u.ended {
		return errEnded
	}
	u.ended = true
	return u.tree.syncData(u.file, u.name)
}
