package folder

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

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

func TestNothingIsRemovedWhenTheRecordIsAnotherOneByNow(t *testing.T) {
	ctx := t.Context()
	b := Open(filepath.Join(t.TempDir(), "v"), Options{})
	fence := b.(bucket.Fenced)
	if _, err := fence.RemoveWhile(ctx, "record", "", []bucket.Info{{Key: "a"}}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v where nothing is", err)
	}
	old, err := b.Swap(ctx, "record", "", []byte("1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"a", "b"} {
		if _, err := b.Put(ctx, key, bucket.Bytes([]byte(key))); err != nil {
			t.Fatal(err)
		}
	}
	if kept, err := fence.RemoveWhile(ctx, "record", old, []bucket.Info{{Key: "a"}, {Key: "record/x"}}); err != nil || len(kept) > 0 {
		t.Errorf("got %v, %v", kept, err)
	}
	if _, err := b.Swap(ctx, "record", old, []byte("2")); err != nil {
		t.Fatal(err)
	}
	if _, err := fence.RemoveWhile(ctx, "record", old, []bucket.Info{{Key: "b"}}); !errors.Is(err, bucket.ErrChanged) {
		t.Errorf("got %v, want ErrChanged", err)
	}
	for key, there := range map[string]bool{"a": false, "b": true} {
		if _, err := b.Head(ctx, key); (err == nil) != there {
			t.Errorf("%s: got %v, want it there: %t", key, err, there)
		}
	}
}

// TestWhoSwapsKeepsWhatWasNotRemovedBefore has a record swapped in the middle.
func TestWhoSwapsKeepsWhatWasNotRemovedBefore(t *testing.T) {
	ctx := t.Context()
	dir := filepath.Join(t.TempDir(), "v")
	b := Open(dir, Options{})
	etag, err := b.Swap(ctx, "record", "", []byte("1"))
	if _, put := b.Put(ctx, "a", bucket.Bytes([]byte("a"))); err != nil || put != nil {
		t.Fatal(err, put)
	}
	swapped := make(chan error, 1)
	slow := Open(dir, Options{Step: func(op, _ string) error {
		if op == "unlink" { // the swap has to wait until all is removed
			go func() {
				_, err := b.Swap(ctx, "record", etag, []byte("2"))
				swapped <- err
			}()
			select {
			case err := <-swapped:
				t.Errorf("it was swapped in the middle of a removal: %v", err)
				swapped <- err
			case <-time.After(50 * time.Millisecond):
			}
		}
		return nil
	}})
	if _, err := slow.(bucket.Fenced).RemoveWhile(ctx, "record", etag, []bucket.Info{{Key: "a"}}); err != nil {
		t.Error(err)
	}
	if err := <-swapped; err != nil {
		t.Error(err)
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
