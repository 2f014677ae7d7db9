package file

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// none inspects nothing.
func none(*bolt.Tx, func(any) bool) error { return nil }

func TestAWholeFileHasNoProblemsAndTheCopyGoes(t *testing.T) {
	path := filled(t)
	f := mustOpen(t, path, testSettings())
	seen := ""
	c, err := f.Check(t.Context(), 10, func(tx *bolt.Tx, _ func(any) bool) error {
		if tx.DB().Path() == path || !tx.DB().IsReadOnly() {
			t.Error("the file itself is inspected, or could be written")
		}
		seen = string(tx.Bucket([]byte(bucketTest)).Get([]byte("key 7")))
		return nil
	})
	if err != nil || len(c.Problems) > 0 || c.More || c.Bytes < 1<<16 || seen == "" {
		t.Errorf("got %+v and %v, and inspected %q", c, err, seen)
	}
	if diff := cmp.Diff([]string{"ledger.db"}, names(t, filepath.Dir(path))); diff != "" {
		t.Error(diff)
	}
}

// leaves are where in a file leaf pages are that belong to the test bucket.
func leaves(t *testing.T, path string) (at []int64) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, PreLoadFreelist: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	size := int64(os.Getpagesize())
	err = db.View(func(tx *bolt.Tx) error {
		for id := 2; int64(id) < tx.Size()/size; id++ {
			if p, err := tx.Page(id); err != nil || p != nil && p.Type == "leaf" && p.Count > 10 {
				at = append(at, int64(id)*size)
			}
		}
		return nil
	})
	if err != nil || len(at) < 3 {
		t.Fatalf("%v, and %d leaves", err, len(at))
	}
	return at
}

func damage(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(make([]byte, 64), at)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestACheckFindsDamageUnderAnOpenFileAndLivesOn(t *testing.T) {
	path := filled(t)
	at := leaves(t, path)
	for _, c := range []struct {
		name        string
		pages, keep int
		want        int
		more        bool
	}{
		{"one page of one", 1, 10, 1, false},
		{"all of three", 3, 10, 3, false},
		{"as many as are kept", 3, 3, 3, false},
		{"the first of more than are kept", 3, 2, 2, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			own := testPath(t)
			copyFile(t, path, own)
			f := mustOpen(t, own, testSettings())
			for _, page := range at[:c.pages] {
				damage(t, own, page)
			}
			got, err := f.Check(t.Context(), c.keep, func(*bolt.Tx, func(any) bool) error {
				t.Error("a file with damaged pages was inspected")
				return nil
			})
			if err != nil || len(got.Problems) != c.want || got.More != c.more {
				t.Errorf("got %+v and %v, want %d problems, more: %v", got, err, c.want, c.more)
			}
			for _, p := range got.Problems {
				if !strings.HasPrefix(p, "page ") {
					t.Errorf("%q names no page", p)
				}
			}
		})
	}
}

func TestWhatInspectionReportsIsBounded(t *testing.T) {
	f := mustOpen(t, filled(t), testSettings())
	asked := 0
	got, err := f.Check(t.Context(), 3, func(_ *bolt.Tx, report func(any) bool) error {
		for report(fmt.Errorf("fact %d", asked)) {
			asked++
		}
		return nil
	})
	want := []string{"fact 0", "fact 1", "fact 2"}
	if diff := cmp.Diff(want, got.Problems); diff != "" || err != nil || !got.More || asked != 3 {
		t.Errorf("more %v, asked %d, %v: %s", got.More, asked, err, diff)
	}
	fault := errors.New("fault")
	if _, err := f.Check(t.Context(), 3, func(*bolt.Tx, func(any) bool) error { return fault }); !errors.Is(err, fault) {
		t.Errorf("got %v, want the fault", err)
	}
}

func TestACheckThatWouldFillTheDiskIsNotBegun(t *testing.T) {
	path := filled(t)
	f := mustOpen(t, path, testSettings())
	f.settings.where.statfs = func(_ string, s *unix.Statfs_t) error {
		s.Bsize, s.Bavail = 4096, reserve/4096 // all but the copy
		return nil
	}
	_, err := f.Check(t.Context(), 1, none)
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "make room") {
		t.Errorf("got %v, want that the disk is full", err)
	}
	if diff := cmp.Diff([]string{"ledger.db"}, names(t, filepath.Dir(path))); diff != "" {
		t.Error(diff)
	}
}

func TestACheckThatIsCancelledLeavesNothing(t *testing.T) {
	path := filled(t)
	f := mustOpen(t, path, testSettings())
	ctx, cancel := context.WithCancel(t.Context())
	f.settings.where.statfs = func(_ string, s *unix.Statfs_t) error {
		s.Bsize, s.Bavail = 4096, math.MaxInt32
		cancel()
		return nil
	}
	if _, err := f.Check(ctx, 1, none); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if diff := cmp.Diff([]string{"ledger.db"}, names(t, filepath.Dir(path))); diff != "" {
		t.Error(diff)
	}
}

func TestWhatACrashLeftBesideTheFileGoesWhenItIsOpened(t *testing.T) {
	path := filled(t)
	for _, suffix := range []string{checkSuffix, compactSuffix} {
		if err := os.WriteFile(path+suffix, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f := mustOpen(t, path, testSettings())
	if diff := cmp.Diff([]string{"ledger.db"}, names(t, filepath.Dir(path))); diff != "" {
		t.Error(diff)
	}
	// And a check begins anew, whatever one before it left.
	if err := os.WriteFile(path+checkSuffix, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := f.Check(t.Context(), 1, none); err != nil || len(c.Problems) > 0 {
		t.Errorf("got %+v and %v", c, err)
	}
}

// withList is a file whose list of free pages, which older files have, names a
// page that is in use: what only bbolt's own check finds.
func withList(t *testing.T, open bool) string {
	t.Helper()
	path := testPath(t)
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	var root uint64
	err = db.Update(func(tx *bolt.Tx) error {
		err := testSettings().initialise(tx)
		if open {
			err = errors.Join(err, tx.Bucket([]byte(bucketMeta)).Put([]byte(metaOpen), []byte{1}))
		}
		return err
	})
	err = errors.Join(err, db.View(func(tx *bolt.Tx) error { root = rootOf(tx); return nil }), db.Close())
	if err != nil {
		t.Fatal(err)
	}
	all, page := content(t, path), os.Getpagesize()
	const list = 16 + 32 // page header, and what stands before it in meta
	at := binary.NativeEndian.Uint64(all[newestMeta(all)+list:]) * uint64(page)
	binary.NativeEndian.PutUint16(all[at+10:], 1)
	binary.NativeEndian.PutUint64(all[at+16:], root)
	if err := os.WriteFile(path, all, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAFileThatWasNotClosedIsCheckedBeforeAnythingIsWritten(t *testing.T) {
	path := withList(t, true)
	before := content(t, path)
	if _, err := Open(path, testSettings()); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "reachable freed") {
		t.Errorf("got %v, want ErrDamaged by what bbolt found", err)
	}
	if string(before) != string(content(t, path)) {
		t.Error("the file was changed")
	}
}

func TestACheckFindsWhatBboltFinds(t *testing.T) {
	f := mustOpen(t, filled(t), testSettings())
	found := faults{limit: 10}
	err := f.settings.inspect(withList(t, false), &found, func(*bolt.Tx, func(any) bool) error {
		t.Error("a damaged file was inspected")
		return nil
	})
	if err != nil || len(found.kept) == 0 || !strings.Contains(found.kept[0], "reachable freed") {
		t.Errorf("got %v and %v, want a page that is free and in use", found.kept, err)
	}
}

func BenchmarkExamine(b *testing.B) {
	for _, mib := range []int{16, 64, 256} {
		path := b.TempDir() + "/ledger.db"
		f, err := Open(path, testSettings())
		if err != nil {
			b.Fatal(err)
		}
		for i := range mib {
			err := f.Update(b.Context(), func(tx *bolt.Tx) error {
				for j := range 4000 {
					if err := set(fmt.Sprintf("%08d%08d", i, j), strings.Repeat("v", 200))(tx); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
		}
		for _, unclean := range []bool{false, true} {
			b.Run(fmt.Sprintf("MiB=%d/unclean=%v", mib, unclean), func(b *testing.B) {
				if !unclean {
					b.StopTimer()
					if err := f.Close(); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
				} else if db, err := bolt.Open(path, 0o600, f.settings.options()); err != nil || errors.Join(db.Update(f.begin), db.Close()) != nil {
					b.Fatal(err)
				}
				for b.Loop() {
					st, err := f.settings.examine(path)
					if err != nil || st.unclean != unclean {
						b.Fatal(st, err)
					}
					b.ReportMetric(float64(st.size>>20), "MiB")
				}
			})
		}
	}
}
