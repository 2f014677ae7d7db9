package file

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

func TestCompactionPaysWhenMostOfALargeFileIsFree(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		name string
		state
		want bool
	}{
		{"nothing is free", state{size: 100 * mib}, false},
		{"half is free", state{size: 100 * mib, free: 50 * mib}, false},
		{"more than half is free", state{size: 100 * mib, free: 50*mib + 4096}, true},
		{"most of a small file is free", state{size: 17 * mib, free: 16 * mib}, false},
		{"most of a file that is not small is free", state{size: 17 * mib, free: 16*mib + 4096}, true},
	} {
		if got := c.pays(compactFrom); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// loose are settings with which a small file is compacted.
func loose() Settings {
	s := testSettings()
	s.least = 1
	return s
}

// hollow is the path of a file most of which is free, with everything that a
// file may have in it. It was not closed.
func hollow(t *testing.T) string {
	t.Helper()
	path := testPath(t)
	f := mustOpen(t, path, testSettings())
	change := func(fn func(*bolt.Tx) error) {
		if err := f.Update(t.Context(), fn); err != nil {
			t.Fatal(err)
		}
	}
	change(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte(bucketTest))
		outer, err := b.CreateBucket([]byte("outer"))
		inner, err2 := outer.CreateBucket([]byte("inner"))
		_, err3 := outer.CreateBucket([]byte("nothing"))
		return errors.Join(err, err2, err3, b.SetSequence(7), inner.SetSequence(1<<40),
			Put(b, []byte("empty"), nil), Put(inner, []byte("empty"), nil), Put(inner, []byte("full"), []byte("x")),
			set("long", strings.Repeat("long ", 5000))(tx))
	})
	for i := range 300 {
		change(set(fmt.Sprint("filler ", i), strings.Repeat("v", 1000)))
	}
	change(func(tx *bolt.Tx) error {
		for i := range 300 {
			if err := end(fmt.Sprint("filler ", i))(tx); err != nil {
				return err
			}
		}
		return nil
	})
	to := testPath(t)
	copyFile(t, path, to)
	return to
}

func TestAFileThatIsMostlyFreeIsCompactedAndKeepsEverything(t *testing.T) {
	path := hollow(t)
	before := dump(t, path)
	if before["test/outer/inner"] != "sequence 1099511627776" || before["test/outer/inner/empty"] != "" {
		t.Fatal(before)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	f := mustOpen(t, path, loose())
	c := f.Compaction()
	if c.Err != nil || c.After == 0 || c.After > c.Before/2 {
		t.Errorf("got %+v, want less than half", c)
	}
	if !f.Unclean() {
		t.Error("it is not known any more that the file was not closed")
	}
	if err := f.Update(t.Context(), set("k", "v")); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	before["test/k"] = "v"
	if diff := cmp.Diff(before, dump(t, path)); diff != "" {
		t.Error(diff)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode is %v, %v", info.Mode(), err)
	}
	if diff := cmp.Diff([]string{"ledger.db"}, names(t, filepath.Dir(path))); diff != "" {
		t.Error(diff)
	}
	if again := mustOpen(t, path, loose()); again.Compaction().Before != 0 {
		t.Errorf("it was compacted again: %+v", again.Compaction())
	}
}

func TestAFileInWhichLittleIsFreeIsLeftAsItIs(t *testing.T) {
	path := filled(t)
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	f := mustOpen(t, path, loose())
	after, err := os.Stat(path)
	if err != nil || !os.SameFile(before, after) || f.Compaction() != (Compaction{}) {
		t.Errorf("got %+v, %v; want nothing done", f.Compaction(), err)
	}
}

var compactSteps = []string{"copy", "own", "sync", "rename", "sync folder"}

func TestACrashAtAnyStepOfACompactionLosesNothing(t *testing.T) {
	path := hollow(t)
	before := dump(t, path)
	dir := filepath.Dir(path)
	crashed := map[string]string{}
	var ops []string
	s := loose()
	s.steps = func(op string) error {
		ops = append(ops, op)
		crashed[op] = t.TempDir()
		return os.CopyFS(crashed[op], os.DirFS(dir))
	}
	mustOpen(t, path, s)
	if diff := cmp.Diff(compactSteps, ops); diff != "" {
		t.Fatal(diff)
	}
	for op, dir := range crashed {
		// Once by a lastro that compacts it, and once by one that does not.
		for _, s := range []Settings{testSettings(), loose()} {
			own := t.TempDir()
			if err := os.CopyFS(own, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(own, "ledger.db")
			f := mustOpen(t, path, s)
			if !f.Unclean() || f.Compaction().Err != nil {
				t.Errorf("%s: unclean %v, %+v", op, f.Unclean(), f.Compaction())
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, dump(t, path)); diff != "" {
				t.Errorf("%s: %s", op, diff)
			}
			if diff := cmp.Diff([]string{"ledger.db"}, names(t, own)); diff != "" {
				t.Errorf("%s: %s", op, diff)
			}
		}
	}
}

func TestAFaultAtAnyStepOfACompactionLeavesTheFileAsItWas(t *testing.T) {
	fault := errors.New("fault")
	for _, at := range compactSteps {
		path := hollow(t)
		before := dump(t, path)
		s := loose()
		s.steps = func(op string) error {
			if op == at {
				return fault
			}
			return nil
		}
		f, err := Open(path, s)
		if at == "sync folder" {
			// Two files have had the name; which of them the disk has nobody knows.
			if !errors.Is(err, fault) || !strings.Contains(err.Error(), "mend the disk") {
				t.Errorf("%s: got %v, want the fault", at, err)
			}
			continue
		}
		if err != nil || !errors.Is(f.Compaction().Err, fault) {
			t.Fatalf("%s: got %v, want an open file and the fault", at, err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, dump(t, path)); diff != "" {
			t.Errorf("%s: %s", at, diff)
		}
		if diff := cmp.Diff([]string{"ledger.db"}, names(t, filepath.Dir(path))); diff != "" {
			t.Errorf("%s: %s", at, diff)
		}
	}
}

func TestACopyThatIsNotWholeTakesNoPlace(t *testing.T) {
	path := hollow(t)
	before := dump(t, path)
	s := loose()
	s.steps = func(op string) error {
		if op == "sync" { // the disk loses a page
			damage(t, path+compactSuffix, 2*int64(os.Getpagesize()))
			damage(t, path+compactSuffix, 3*int64(os.Getpagesize()))
			damage(t, path+compactSuffix, 4*int64(os.Getpagesize()))
		}
		return nil
	}
	f := mustOpen(t, path, s)
	if !errors.Is(f.Compaction().Err, ErrDamaged) {
		t.Errorf("got %v, want ErrDamaged", f.Compaction().Err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, dump(t, path)); diff != "" {
		t.Error(diff)
	}
}

func TestWithoutRoomNothingIsCompacted(t *testing.T) {
	s := loose()
	s.where.statfs = func(_ string, s *unix.Statfs_t) error {
		s.Bsize, s.Bavail = 4096, reserve/4096
		return nil
	}
	s.steps = func(op string) error { t.Errorf("%s was done", op); return nil }
	f := mustOpen(t, hollow(t), s)
	if err := f.Compaction().Err; !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v, want that there is no room", err)
	}
}

func TestAFileBehindALinkIsCompactedWhereItIs(t *testing.T) {
	path := hollow(t)
	link := filepath.Join(t.TempDir(), "ledger.db")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	f := mustOpen(t, link, loose())
	if c := f.Compaction(); c.Err != nil || c.After == 0 {
		t.Errorf("got %+v", c)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode().Type() != os.ModeSymlink {
		t.Errorf("the link is now %v, %v", info.Mode(), err)
	}
}

func TestAFileThatTakesThePlaceOfTheOneThatIsOpenedIsOpenedInstead(t *testing.T) {
	path, other := testPath(t), testPath(t)
	for p, v := range map[string]string{path: "old", other: "new"} {
		f := mustOpen(t, p, testSettings())
		if err := errors.Join(f.Update(t.Context(), set("k", v)), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	s := testSettings()
	s.openFile = func(name string, flag int, mode os.FileMode) (*os.File, error) {
		f, err := os.OpenFile(name, flag, mode)
		if _, there := os.Stat(other); there == nil { // another process compacts the file while this one waits for it
			err = errors.Join(err, os.Rename(other, path))
		}
		return f, err
	}
	f := mustOpen(t, path, s)
	if got := get(t, f, "k"); got != "new" {
		t.Errorf("got %q: what is written goes into a file without a name", got)
	}
}
