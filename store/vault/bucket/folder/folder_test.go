package folder

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"lastro/store/vault/bucket"
	"lastro/store/vault/bucket/buckettest"
)

func TestMain(m *testing.M) { os.Exit(buckettest.Main(m)) }

func TestAFolderIsABucket(t *testing.T) {
	buckettest.Acceptance(t, Open(filepath.Join(t.TempDir(), "not", "there"), Options{}))
}

var errKilled = errors.New("killed")

// killed runs write in a process that dies before its n-th step; more is false when
// it came through.
func killed(dir string, n int, write func(b bucket.Bucket) error) (err error, more bool) {
	step := 0
	err = write(Open(dir, Options{Step: func(string, string) error {
		if step++; step >= n {
			return errKilled
		}
		return nil
	}}))
	return err, step >= n
}

func TestKilledAtAnyStepAnObjectIsWholeOrNotThere(t *testing.T) {
	old, want := bucket.Bytes([]byte("old")), bytes.Repeat([]byte("new"), 1000)
	for name, write := range map[string]func(b bucket.Bucket) error{
		"put":     func(b bucket.Bucket) error { _, err := b.Put(t.Context(), "a/b/new", bucket.Bytes(want)); return err },
		"replace": func(b bucket.Bucket) error { return b.Replace(t.Context(), "a/b/new", bucket.Bytes(want)) },
		"swap":    func(b bucket.Bucket) error { _, err := b.Swap(t.Context(), "a/b/new", "", want); return err },
	} {
		for n, more := 1, true; more; n++ {
			t.Run(fmt.Sprintf("%s, step %d", name, n), func(t *testing.T) {
				dir := t.TempDir()
				if _, err := Open(dir, Options{}).Put(t.Context(), "old", old); err != nil {
					t.Fatal(err)
				}
				var err error
				err, more = killed(dir, n, write)
				after := Open(dir, Options{})
				rec, missing := after.Load(t.Context(), "a/b/new")
				if missing == nil && !bytes.Equal(rec.Data, want) {
					t.Errorf("got %d bytes, want all or none", len(rec.Data))
				}
				if err == nil && missing != nil {
					t.Errorf("done, and then %v", missing)
				}
				again := write(after)
				if again != nil && !(missing == nil && errors.Is(again, bucket.ErrChanged)) {
					t.Errorf("next run: %v", again)
				}
			})
		}
	}
}

func TestWhatACrashLeftIsRemovedADayLater(t *testing.T) {
	dir := t.TempDir()
	b := Open(dir, Options{})
	if _, err := b.Put(t.Context(), "a", bucket.Bytes([]byte("a"))); err != nil {
		t.Fatal(err)
	}
	for name, age := range map[string]time.Duration{"old": 25 * time.Hour, "young": time.Hour} {
		path := filepath.Join(dir, tmpDir, name)
		if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		then := time.Now().Add(-age)
		if err := os.Chtimes(path, then, then); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Open(dir, Options{}).Put(t.Context(), "b", bucket.Bytes([]byte("b"))); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, tmpDir, "old")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want the old one gone", err)
	}
	if _, err := os.Stat(filepath.Join(dir, tmpDir, "young")); err != nil {
		t.Errorf("got %v, want the young one kept: it may be in use", err)
	}
}

func TestReadingCreatesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	b := Open(dir, Options{})
	if _, err := b.Load(t.Context(), "a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want no folder", err)
	}
}

func TestNothingLeadsOutOfTheFolder(t *testing.T) {
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	b := Open(dir, Options{})
	for _, key := range []string{"link/secret", "../" + filepath.Base(outside) + "/secret", filepath.Join(outside, "secret")} {
		if rec, err := b.Load(t.Context(), key); err == nil {
			t.Errorf("%s: got %q", key, rec.Data)
		}
		if err := b.Replace(t.Context(), key, bucket.Bytes([]byte("x"))); err == nil {
			t.Errorf("%s: was written", key)
		}
	}
}

func TestModesKeepOthersOut(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "v")
	if _, err := Open(dir, Options{}).Put(t.Context(), "a/b", bucket.Bytes([]byte("a"))); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]fs.FileMode{"": 0o700, "a": 0o700, "a/b": 0o600} {
		info, err := os.Stat(filepath.Join(dir, path))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%q: got %v, %v; want %v", path, info.Mode(), err, want)
		}
	}
}

func TestAnythingButAFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}).Load(t.Context(), "fifo"); err == nil {
		t.Error("a fifo was read")
	}
}

// TestAFolderInThePlaceOfAFile wants an empty one replaced, and one that holds
// something left alone and named.
func TestAFolderInThePlaceOfAFile(t *testing.T) {
	dir := t.TempDir()
	b := Open(dir, Options{})
	for _, key := range []string{"blobs/empty", "blobs/full/holiday"} {
		if err := os.MkdirAll(filepath.Join(dir, key), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	want := bucket.Bytes([]byte("right"))
	for _, key := range []string{"blobs/empty", "blobs/full"} {
		if _, err := b.Put(t.Context(), key, want); !errors.Is(err, bucket.ErrDiffers) {
			t.Errorf("put %s: got %v, want ErrDiffers", key, err)
		}
	}
	if err := b.Replace(t.Context(), "blobs/empty", want); err != nil {
		t.Error(err)
	}
	if rec, err := b.Load(t.Context(), "blobs/empty"); err != nil || string(rec.Data) != "right" {
		t.Errorf("got %q, %v", rec.Data, err)
	}
	err := b.Replace(t.Context(), "blobs/full", want)
	if err == nil || !strings.Contains(err.Error(), "vault file://"+dir+": write blobs/full: a folder that holds something lies in its place: move it away") {
		t.Errorf("got %v, want the folder named and what to do", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "blobs/full/holiday")); err != nil {
		t.Errorf("what the folder held: %v", err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, tmpDir)); err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

func TestAFullDiskIsNamed(t *testing.T) {
	b := Open(t.TempDir(), Options{Step: func(op, _ string) error {
		if op == "sync" {
			return syscall.ENOSPC
		}
		return nil
	}})
	_, err := b.Put(t.Context(), "a", bucket.Bytes([]byte("a")))
	if !errors.Is(err, bucket.ErrFull) || !strings.Contains(err.Error(), "free some") {
		t.Errorf("got %v, want ErrFull", err)
	}
}

func TestAFileSystemWithoutHardLinksIsRenamedOn(t *testing.T) {
	b := Open(t.TempDir(), Options{Step: func(op, _ string) error {
		if op == "link" {
			return syscall.EPERM
		}
		return nil
	}})
	buckettest.Acceptance(t, b)
}
