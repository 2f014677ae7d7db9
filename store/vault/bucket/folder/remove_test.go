package folder

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"lastro/store/vault/bucket"
)

func TestOnlyFilesOfTheVaultAreRemoved(t *testing.T) {
	dir := t.TempDir()
	outside := filepath.Join(t.TempDir(), "outside")
	for _, name := range []string{filepath.Join(dir, "v", "a"), filepath.Join(dir, "v", ".lock"), filepath.Join(dir, "v", ".tmp", "x"), filepath.Join(dir, "v", "d", "e"), filepath.Join(outside, "f"), filepath.Join(dir, "beside")} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(outside, filepath.Join(dir, "v", "link")); err != nil {
		t.Fatal(err)
	}
	b := Open(filepath.Join(dir, "v"), Options{})
	for _, key := range []string{".lock", ".tmp/x", ".tmp", "d", "link", "link/f", "../beside", "/etc/hostname", ".", ""} {
		kept, err := b.Remove(t.Context(), []bucket.Info{{Key: key}})
		if len(kept) != 1 && err == nil {
			t.Errorf("%q: got %v, %v; want it kept", key, kept, err)
		}
	}
	for _, name := range []string{filepath.Join(dir, "v", ".lock"), filepath.Join(dir, "v", ".tmp", "x"), filepath.Join(dir, "v", "d", "e"), filepath.Join(dir, "v", "link"), filepath.Join(outside, "f"), filepath.Join(dir, "beside")} {
		if _, err := os.Lstat(name); err != nil {
			t.Error(err)
		}
	}
}

func TestRemovalsAreDurable(t *testing.T) {
	var steps []string
	b := Open(t.TempDir(), Options{Step: func(op, key string) error {
		steps = append(steps, op+" "+key)
		return nil
	}})
	for _, key := range []string{"x/a", "x/b", "y/c"} {
		if _, err := b.Put(t.Context(), key, bucket.Bytes([]byte(key))); err != nil {
			t.Fatal(err)
		}
	}
	steps = nil
	if _, err := b.Remove(t.Context(), []bucket.Info{{Key: "x/a"}, {Key: "y/c"}, {Key: "x/b"}}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"unlink x/a", "unlink y/c", "unlink x/b", "syncdir x", "syncdir y"}; !slices.Equal(steps, want) {
		t.Errorf("got %q, want %q", steps, want)
	}
}
