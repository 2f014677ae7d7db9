package folder

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"
	"time"

	"lastro/store/vault/bucket"
)

// stale is the age at which a file under .tmp is taken to be left by a crash.
const stale = 24 * time.Hour

// Put implements Writer.
func (f *folder) Put(ctx context.Context, key string, o bucket.Object) (bool, error) {
	f.o.Sent()
	created, err := f.put(ctx, key, o)
	if err != nil {
		return false, f.fail("write", key, err)
	}
	return created, nil
}

func (f *folder) put(ctx context.Context, key string, o bucket.Object) (bool, error) {
	if err := o.Check(); err != nil {
		return false, err
	}
	root, err := f.create()
	if err != nil {
		return false, err
	}
	if _, err := root.Lstat(key); err == nil {
		return false, f.same(ctx, key, o) // saves writing it twice; the link decides
	}
	tmp, err := f.write(ctx, root, key, o)
	if err != nil {
		return false, err
	}
	defer f.remove(root, tmp)
	err = f.link(ctx, root, tmp, key)
	if errors.Is(err, fs.ErrExist) {
		return false, f.same(ctx, key, o)
	}
	return err == nil, err
}

// same compares what is stored with the object and makes sure that it is durable:
// it may be the half-finished work of a process that was killed.
func (f *folder) same(ctx context.Context, key string, o bucket.Object) error {
	file, err := f.file(key)
	if errors.Is(err, errNoFile) {
		return bucket.ErrDiffers
	}
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if info.Size() != o.Size {
		return bucket.ErrDiffers
	}
	stored := bucket.Object{Size: o.Size, Digest: o.Digest, Content: file}
	_, err = io.Copy(io.Discard, readerFunc(ctx, stored.Reader(nil)))
	if content, ok := errors.AsType[*bucket.ContentError](err); ok {
		if content.Err == bucket.ErrWrongBytes {
			return bucket.ErrDiffers
		}
		return content.Err
	}
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), f.syncDir(path.Dir(key)))
}

// Replace implements Writer.
func (f *folder) Replace(ctx context.Context, key string, o bucket.Object) error {
	f.o.Sent()
	err := o.Check()
	if err == nil {
		err = f.replace(ctx, key, o)
	}
	if err != nil {
		return f.fail("write", key, err)
	}
	return nil
}

func (f *folder) replace(ctx context.Context, key string, o bucket.Object) error {
	root, err := f.create()
	if err != nil {
		return err
	}
	tmp, err := f.write(ctx, root, key, o)
	if err != nil {
		return err
	}
	if err := f.rename(root, tmp, key); err != nil {
		f.remove(root, tmp)
		return err
	}
	return nil
}

// Swap implements Writer.
func (f *folder) Swap(ctx context.Context, key, old string, data []byte) (string, error) {
	f.o.Sent()
	root, err := f.create()
	if err == nil {
		err = f.locked(ctx, root, func() error {
			now, err := f.load(ctx, key)
			switch {
			case errors.Is(err, fs.ErrNotExist) && old == "":
			case err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, bucket.ErrTooLarge):
				return err
			case now.ETag != old:
				return bucket.ErrChanged
			}
			return f.replace(ctx, key, bucket.Bytes(data))
		})
	}
	if err != nil {
		return "", f.fail("write", key, err)
	}
	return etag(data), nil
}

// create returns the root, after making the folder if it is not there.
func (f *folder) create() (*os.Root, error) {
	root, err := f.open()
	if errors.Is(err, fs.ErrNotExist) {
		if err = f.o.Step("mkdir", ""); err == nil {
			err = os.MkdirAll(f.path, 0o700)
		}
		if err == nil {
			err = syncPath(filepath.Dir(f.path))
		}
		if err == nil {
			root, err = f.open()
		}
	}
	if err == nil {
		err = f.sweep(root)
	}
	return root, err
}

// sweep makes .tmp and removes what crashed writers left there. Ages are taken by
// the file system's own clock.
func (f *folder) sweep(root *os.Root) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := root.MkdirAll(tmpDir, 0o700); err != nil || f.swept {
		return err
	}
	name := path.Join(tmpDir, rand.Text())
	probe, err := root.Create(name)
	if err != nil {
		return err
	}
	info, err := probe.Stat()
	if err := errors.Join(err, probe.Close(), root.Remove(name)); err != nil {
		return err
	}
	f.swept = true
	return removeOlder(root, info.ModTime().Add(-stale))
}

func removeOlder(root *os.Root, limit time.Time) error {
	entries, err := fs.ReadDir(root.FS(), tmpDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.ModTime().Before(limit) {
			if err := root.Remove(path.Join(tmpDir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// write stores the object durably under a temporary name.
func (f *folder) write(ctx context.Context, root *os.Root, key string, o bucket.Object) (tmp string, err error) {
	if !fs.ValidPath(key) {
		return "", fs.ErrInvalid
	}
	tmp = path.Join(tmpDir, rand.Text())
	if err := f.o.Step("create", key); err != nil {
		return "", err
	}
	file, err := root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	err = f.fill(ctx, file, key, o)
	if err = errors.Join(err, file.Close()); err != nil {
		f.remove(root, tmp)
		return "", err
	}
	return tmp, nil
}

func (f *folder) fill(ctx context.Context, file *os.File, key string, o bucket.Object) error {
	if err := f.o.Step("write", key); err != nil {
		return err
	}
	n, err := io.Copy(struct{ io.Writer }{file}, readerFunc(ctx, o.Reader(nil)))
	if err == nil && n != o.Size {
		err = io.ErrShortWrite
	}
	if err == nil {
		err = f.o.Step("sync", key)
	}
	if err != nil {
		return err
	}
	return file.Sync()
}

// link gives the temporary file its name, if that is free.
func (f *folder) link(ctx context.Context, root *os.Root, tmp, key string) error {
	if err := f.mkdir(root, path.Dir(key)); err != nil {
		return err
	}
	err := f.o.Step("link", key)
	if err == nil {
		err = root.Link(tmp, key)
	}
	if errors.Is(err, syscall.EPERM) || errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EMLINK) {
		return f.locked(ctx, root, func() error { return f.renameNew(root, tmp, key) })
	}
	if err != nil {
		return err
	}
	return f.syncDir(path.Dir(key))
}

// renameNew is link for file systems without hard links; every writer of
// the folder has the lock while it does this.
func (f *folder) renameNew(root *os.Root, tmp, key string) error {
	if _, err := root.Lstat(key); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(fs.ErrExist, err)
	}
	return f.rename(root, tmp, key)
}

func (f *folder) rename(root *os.Root, tmp, key string) error {
	if err := f.mkdir(root, path.Dir(key)); err != nil {
		return err
	}
	if err := f.o.Step("rename", key); err != nil {
		return err
	}
	if err := renameOver(root, tmp, key); err != nil {
		return err
	}
	return f.syncDir(path.Dir(key))
}

// renameOver also takes the place of an empty folder. One that holds something
// is for a person to judge.
func renameOver(root *os.Root, tmp, key string) error {
	err := root.Rename(tmp, key)
	if err == nil {
		return nil
	}
	if info, statErr := root.Lstat(key); statErr != nil || !info.IsDir() {
		return err
	}
	if err := root.Remove(key); err != nil {
		return fmt.Errorf("a folder that holds something lies in its place: move it away and run again: %w", err)
	}
	return root.Rename(tmp, key)
}

// mkdir makes a folder and its parents durable, once per process.
func (f *folder) mkdir(root *os.Root, dir string) error {
	f.mu.Lock()
	known := f.synced[dir]
	f.mu.Unlock()
	if _, err := root.Lstat(dir); dir == "." || known && err == nil {
		return nil
	}
	if err := f.mkdir(root, path.Dir(dir)); err != nil {
		return err
	}
	if err := f.o.Step("mkdir", dir); err != nil {
		return err
	}
	if err := root.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := f.syncDir(path.Dir(dir)); err != nil {
		return err
	}
	f.mu.Lock()
	f.synced[dir] = true
	f.mu.Unlock()
	return nil
}

func (f *folder) remove(root *os.Root, tmp string) {
	if f.o.Step("remove", tmp) == nil {
		_ = root.Remove(tmp) // swept by age otherwise
	}
}

func (f *folder) syncDir(dir string) error {
	if err := f.o.Step("syncdir", dir); err != nil {
		return err
	}
	return syncPath(filepath.Join(f.path, dir))
}

func syncPath(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// locked runs fn while no other process changes a record.
func (f *folder) locked(ctx context.Context, root *os.Root, fn func() error) error {
	file, err := root.OpenFile(lockFile, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	for err = syscall.EWOULDBLOCK; errors.Is(err, syscall.EWOULDBLOCK); {
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if errors.Is(err, syscall.EWOULDBLOCK) && !pause(ctx, 5*time.Millisecond) {
			return ctx.Err()
		}
	}
	if err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	return fn()
}

// readerFunc is a reader that ends with its context.
func readerFunc(ctx context.Context, r io.Reader) io.Reader {
	return readFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return r.Read(p)
	})
}

type readFunc func(p []byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// pause waits; false when the context ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
