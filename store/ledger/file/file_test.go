package file

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

const bucketTest = "test"

func testSettings() Settings {
	return Settings{
		Format:  1,
		Timeout: 10 * time.Millisecond,
		Create: func(tx *bolt.Tx) error {
			_, err := tx.CreateBucket([]byte(bucketTest))
			return err
		},
		Check: func(tx *bolt.Tx) error {
			if tx.Bucket([]byte(bucketTest)) == nil {
				return errors.New("there is no test bucket")
			}
			return nil
		},
	}
}

func testPath(t *testing.T) string { return filepath.Join(t.TempDir(), "ledger.db") }

func mustOpen(t *testing.T, path string, s Settings) *File {
	t.Helper()
	f, err := Open(path, s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func set(k, v string) func(*bolt.Tx) error {
	return func(tx *bolt.Tx) error { return tx.Bucket([]byte(bucketTest)).Put([]byte(k), []byte(v)) }
}

func get(t *testing.T, f *File, k string) (v string) {
	t.Helper()
	err := f.View(t.Context(), func(tx *bolt.Tx) error {
		v = string(tx.Bucket([]byte(bucketTest)).Get([]byte(k)))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// filled is the path of a closed file of many pages.
func filled(t *testing.T) string {
	t.Helper()
	path := testPath(t)
	f := mustOpen(t, path, testSettings())
	err := f.Update(t.Context(), func(tx *bolt.Tx) error {
		for i := range 500 {
			if err := set(fmt.Sprintf("key %d", i), strings.Repeat("v", 100))(tx); err != nil {
				return err
			}
		}
		return set("long", strings.Repeat("long ", 5000))(tx)
	})
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	// bbolt grows files in large steps; what lies behind the last page is not read.
	if err := os.Truncate(path, used(t, path)); err != nil {
		t.Fatal(err)
	}
	return path
}

// used is the size of the part of the file that holds pages.
func used(t *testing.T, path string) (size int64) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.View(func(tx *bolt.Tx) error { size = tx.Size(); return nil }); err != nil {
		t.Fatal(err)
	}
	return size
}

func TestANewFileIsForItsOwnerOnly(t *testing.T) {
	path := testPath(t)
	mustOpen(t, path, testSettings())
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := info.Mode().Perm(), fs.FileMode(0o600); got != want {
		t.Errorf("mode is %v, want %v", got, want)
	}
}

func TestAFileThatWasCutShortWhileItWasMadeIsMadeAgain(t *testing.T) {
	path := testPath(t)
	if err := os.WriteFile(path+".new", []byte("half a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := mustOpen(t, path, testSettings())
	if f.Unclean() {
		t.Error("a new file is unclean")
	}
	if _, err := os.Stat(path + ".new"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the half file is still there: %v", err)
	}
}

func TestAFolderThatIsMissingIsAnError(t *testing.T) {
	_, err := Open(filepath.Join(t.TempDir(), "none", "ledger.db"), testSettings())
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
}

func TestASecondOpenerIsToldAtOnce(t *testing.T) {
	path := testPath(t)
	mustOpen(t, path, testSettings())
	_, err := Open(path, testSettings())
	if !errors.Is(err, ErrLocked) {
		t.Errorf("got %v, want ErrLocked", err)
	}
}

func TestUncleanTellsWhetherTheLastOwnerClosed(t *testing.T) {
	path := testPath(t)
	f := mustOpen(t, path, testSettings())
	crashed := path + ".crashed"
	copyFile(t, path, crashed)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if mustOpen(t, path, testSettings()).Unclean() {
		t.Error("a closed file is unclean")
	}
	if !mustOpen(t, crashed, testSettings()).Unclean() {
		t.Error("a file that was not closed is clean")
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestANewerFileIsRefusedAndLeftAlone(t *testing.T) {
	path := testPath(t)
	newer := testSettings()
	newer.Format = 2
	if err := mustOpen(t, path, newer).Close(); err != nil {
		t.Fatal(err)
	}
	before := content(t, path)
	_, err := Open(path, testSettings())
	if !errors.Is(err, ErrNewer) {
		t.Fatalf("got %v, want ErrNewer", err)
	}
	if got, want := err.Error(), "written by a newer lastro (format 2, this one knows 1): use a lastro that is as new"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if !bytes.Equal(before, content(t, path)) {
		t.Error("the file was changed")
	}
}

func content(t *testing.T, path string) []byte {
	t.Helper()
	all, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestAFileThatEndsTooEarlyIsDamaged(t *testing.T) {
	whole := filled(t)
	for size := range used(t, whole) {
		if size%1024 != 0 {
			continue
		}
		path := testPath(t)
		copyFile(t, whole, path)
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
		before := content(t, path)
		if _, err := Open(path, testSettings()); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut at %d: got %v, want ErrDamaged", size, err)
		}
		if !bytes.Equal(before, content(t, path)) {
			t.Fatalf("cut at %d: the file was changed", size)
		}
	}
}

func TestAPageThatIsLostIsDamageAndNotACrash(t *testing.T) {
	whole := filled(t)
	original := content(t, whole)
	damagedPages := 0
	for at := int64(0); at < used(t, whole); at += int64(os.Getpagesize()) {
		broken := bytes.Clone(original)
		clear(broken[at : at+int64(os.Getpagesize())])
		path := testPath(t)
		if err := os.WriteFile(path, broken, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := Open(path, testSettings())
		if err == nil {
			f.Close() // a free page, one of two meta pages, or a part of a long value
			continue
		}
		if !errors.Is(err, ErrDamaged) {
			t.Errorf("page at %d: got %v, want ErrDamaged", at, err)
		}
		damagedPages++
	}
	if damagedPages == 0 {
		t.Error("no lost page was noticed")
	}
}

func TestNoiseInTheFileNeverEndsTheProcess(t *testing.T) {
	whole := filled(t)
	original, size := content(t, whole), used(t, whole)
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		broken := bytes.Clone(original)
		page := random.Int64N(size/int64(os.Getpagesize())) * int64(os.Getpagesize())
		for range 1 + random.IntN(8) {
			broken[page+random.Int64N(128)] = byte(random.Uint32()) // headers of pages and elements
		}
		path := testPath(t)
		if err := os.WriteFile(path, broken, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := Open(path, testSettings())
		if err == nil {
			f.Close()
		} else if !errors.Is(err, ErrDamaged) {
			t.Errorf("got %v, want ErrDamaged", err)
		}
		os.Remove(path)
	}
}

func TestAFileWithoutItsBucketsIsDamaged(t *testing.T) {
	path := testPath(t)
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = Open(path, testSettings())
	if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "lastro rebuild") {
		t.Errorf("got %v, want ErrDamaged and a way out", err)
	}
}

// newestMeta is where in the file the meta page of the last transaction is.
func newestMeta(file []byte) int {
	const txid = 16 + 48 // page header, and what stands before it in meta
	page := os.Getpagesize()
	if binary.NativeEndian.Uint64(file[txid:]) > binary.NativeEndian.Uint64(file[page+txid:]) {
		return 0
	}
	return page
}

func TestATornMetaPageLeavesTheTransactionBefore(t *testing.T) {
	path := testPath(t)
	f := mustOpen(t, path, testSettings())
	for _, v := range []string{"first", "second"} {
		if err := f.Update(t.Context(), set("k", v)); err != nil {
			t.Fatal(err)
		}
	}
	torn := content(t, path)
	clear(torn[newestMeta(torn)+40 : newestMeta(torn)+60])
	crashed := path + ".crashed"
	if err := os.WriteFile(crashed, torn, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, want := get(t, mustOpen(t, crashed, testSettings()), "k"), "first"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestCloseIsHarmlessTwiceAndEndsUse(t *testing.T) {
	f := mustOpen(t, testPath(t), testSettings())
	if err := errors.Join(f.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	if err := f.Update(t.Context(), set("k", "v")); !errors.Is(err, ErrClosed) || !errors.Is(err, fs.ErrClosed) {
		t.Errorf("update: got %v, want ErrClosed", err)
	}
	if err := f.View(t.Context(), func(*bolt.Tx) error { return nil }); !errors.Is(err, ErrClosed) {
		t.Errorf("view: got %v, want ErrClosed", err)
	}
}
