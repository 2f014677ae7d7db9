package folder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"syscall"

	"lastro/store/vault/bucket"
)

// Remove implements Remover. Removals are durable when it returns, also with an error.
func (f *folder) Remove(ctx context.Context, objects []bucket.Info) ([]bucket.Kept, error) {
	f.o.Sent()
	return f.removeAll(ctx, objects)
}

var _ bucket.Fenced = (*folder)(nil)

// RemoveWhile implements Fenced: all that swap a record take the same lock.
func (f *folder) RemoveWhile(ctx context.Context, key, etag string, objects []bucket.Info) (kept []bucket.Kept, err error) {
	f.o.Sent()
	root, err := f.open()
	if err == nil {
		err = f.locked(ctx, root, func() error {
			now, err := f.load(ctx, key)
			if err != nil {
				return err
			}
			if now.ETag != etag {
				return bucket.ErrChanged
			}
			kept, err = f.removeAll(ctx, objects)
			return err
		})
	}
	if err != nil {
		return kept, f.fail("remove while unchanged", key, err)
	}
	return kept, nil
}

func (f *folder) removeAll(ctx context.Context, objects []bucket.Info) (kept []bucket.Kept, err error) {
	dirs := map[string]bool{}
	for _, o := range objects {
		if err = ctx.Err(); err == nil {
			err = f.unlink(o.Key)
		}
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, errNoFile) || errors.Is(err, fs.ErrInvalid) {
			kept = append(kept, bucket.Kept{Key: o.Key, Version: o.Version, Err: f.fail("remove", o.Key, err)})
			err = nil
			continue
		}
		if err != nil {
			err = f.fail("remove", o.Key, err)
			break
		}
		dirs[path.Dir(o.Key)] = true
	}
	return kept, errors.Join(err, f.syncDirs(dirs))
}

// unlink removes a regular file, and takes it as done where there is nothing.
func (f *folder) unlink(key string) error {
	if !fs.ValidPath(key) || key == "." || key == lockFile || strings.HasPrefix(key+"/", tmpDir+"/") {
		return fs.ErrInvalid
	}
	root, err := f.open()
	if err != nil {
		return gone(err)
	}
	info, err := root.Lstat(key)
	if err != nil {
		return gone(err)
	}
	if !info.Mode().IsRegular() {
		return errNoFile
	}
	if err := f.o.Step("unlink", key); err != nil {
		return err
	}
	return gone(root.Remove(key))
}

// gone is nil where nothing lies under the name.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	return err
}

func (f *folder) syncDirs(dirs map[string]bool) error {
	for _, dir := range slices.Sorted(maps.Keys(dirs)) {
		if err := f.syncDir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("vault %s: remove from %s: %w", f, dir, err)
		}
	}
	return nil
}

// Head implements Reader. A folder knows no hashes and no locks.
func (f *folder) Head(ctx context.Context, key string) (bucket.Info, error) {
	f.o.Sent()
	file, err := f.file(key)
	if err != nil {
		return bucket.Info{}, f.fail("look at", key, err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return bucket.Info{}, f.fail("look at", key, err)
	}
	return bucket.Info{Key: key, Size: info.Size(), Modified: info.ModTime()}, ctx.Err()
}
