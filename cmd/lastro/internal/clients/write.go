package clients

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Write puts the files below dir and returns the paths of those that were not
// there as they are. A path that other content has is an error, before anything
// is written, unless may allows to replace it.
func (c Config) Write(dir string, may func(path string) bool) (written []string, err error) {
	var todo []File
	var refused []error
	for _, f := range c.Files {
		f.Path = filepath.Join(dir, filepath.FromSlash(f.Path))
		old, err := os.ReadFile(f.Path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			todo = append(todo, f)
		case err != nil:
			refused = append(refused, err)
		case bytes.Equal(old, []byte(f.Content)):
		case may(f.Path):
			todo = append(todo, f)
		default:
			refused = append(refused, &fs.PathError{Op: "write", Path: f.Path, Err: fs.ErrExist})
		}
	}
	if len(refused) > 0 {
		return nil, errors.Join(refused...)
	}
	for _, f := range todo {
		if err := f.write(); err != nil {
			return written, fmt.Errorf("write %s: %w", f.Path, err)
		}
		written = append(written, f.Path)
	}
	return written, nil
}

// write replaces the file at once, so that no client reads a part of it.
func (f File) write() error {
	dir := filepath.Dir(f.Path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	t, err := os.CreateTemp(dir, ".lastro-*")
	if err != nil {
		return err
	}
	defer os.Remove(t.Name())
	_, err = t.WriteString(f.Content)
	if err = errors.Join(err, t.Chmod(0o644), t.Sync(), t.Close()); err != nil {
		return err
	}
	return os.Rename(t.Name(), f.Path)
}
