package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// counting counts the transactions of a file.
func counting(n *atomic.Int64) Settings {
	s := testSettings()
	s.Committed = func() { n.Add(1) }
	return s
}

// busy makes the writer wait in a transaction until the caller releases it.
func busy(t *testing.T, f *File) (release func()) {
	t.Helper()
	inside, leave, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		err := f.Update(context.Background(), func(*bolt.Tx) error {
			close(inside)
			<-leave
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}()
	<-inside
	return func() { close(leave); <-done }
}

func TestWhereNothingChangesNothingIsWritten(t *testing.T) {
	var commits atomic.Int64
	f := mustOpen(t, testPath(t), counting(&commits))
	for _, c := range []struct {
		name   string
		change func(*bolt.Tx) error
		want   int64
	}{
		{"a new key is written", put("a", "v"), 1},
		{"the same again is not", put("a", "v"), 0},
		{"another value is", put("a", "w"), 1},
		{"an end of a key that is not there is not", end("b"), 0},
		{"an end of a key is", end("a"), 1},
		{"a look is not", func(*bolt.Tx) error { return nil }, 0},
		{"a bucket is", func(tx *bolt.Tx) error { _, err := tx.CreateBucket([]byte("new")); return err }, 1},
		{"an end of a bucket is", func(tx *bolt.Tx) error { return tx.DeleteBucket([]byte("new")) }, 1},
	} {
		before := commits.Load()
		if err := f.Update(t.Context(), c.change); err != nil {
			t.Fatal(err)
		}
		if got := commits.Load() - before; got != c.want {
			t.Errorf("%s: %d transactions were written", c.name, got)
		}
	}
}

func TestManyCallersShareATransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var commits atomic.Int64
		f := mustOpen(t, testPath(t), counting(&commits))
		release := busy(t, f)
		var callers sync.WaitGroup
		for i := range 100 {
			callers.Go(func() {
				if err := f.Update(t.Context(), set(fmt.Sprint(i), "v")); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait() // all wait for the writer
		release()
		callers.Wait()
		if got, want := commits.Load(), int64(1); got != want {
			t.Errorf("%d transactions were written, want %d", got, want)
		}
		for i := range 100 {
			if get(t, f, fmt.Sprint(i)) != "v" {
				t.Errorf("the change of caller %d is not there", i)
			}
		}
		f.Close()
	})
}

func TestACallersFaultIsItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := mustOpen(t, testPath(t), testSettings())
		release := busy(t, f)
		fault := errors.New("fault")
		var callers sync.WaitGroup
		for i := range 10 {
			callers.Go(func() {
				var want error
				if i == 4 {
					want = fault
				}
				err := f.Update(t.Context(), func(tx *bolt.Tx) error {
					if err := set(fmt.Sprint(i), "v")(tx); err != nil {
						return err
					}
					return want
				})
				if !errors.Is(err, want) {
					t.Errorf("caller %d: got %v, want %v", i, err, want)
				}
			})
		}
		synctest.Wait()
		release()
		callers.Wait()
		for i := range 10 {
			if got, want := get(t, f, fmt.Sprint(i)) == "v", i != 4; got != want {
				t.Errorf("the change of caller %d is there: %v, want %v", i, got, want)
			}
		}
		f.Close()
	})
}

func TestACallerThatGaveUpChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := mustOpen(t, testPath(t), testSettings())
		release := busy(t, f)
		ctx, giveUp := context.WithCancel(t.Context())
		answer := make(chan error)
		go func() { answer <- f.Update(ctx, set("k", "v")) }()
		synctest.Wait()
		giveUp()
		if err := <-answer; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
		release()
		if err := f.Update(t.Context(), set("other", "v")); err != nil {
			t.Fatal(err)
		}
		if got := get(t, f, "k"); got != "" {
			t.Errorf("its change is there: %q", got)
		}
		f.Close()
	})
}

func TestACallerThatGivesUpTooLateHearsTheOutcome(t *testing.T) {
	f := mustOpen(t, testPath(t), testSettings())
	ctx, giveUp := context.WithCancel(t.Context())
	err := f.Update(ctx, func(tx *bolt.Tx) error {
		giveUp()
		return set("k", "v")(tx)
	})
	if got := get(t, f, "k"); err != nil || got != "v" {
		t.Errorf("got %v and %q, want the change and no error", err, got)
	}
}

func TestACallerWithoutTimeDoesNotStart(t *testing.T) {
	f := mustOpen(t, testPath(t), testSettings())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	ran := false
	note := func(*bolt.Tx) error { ran = true; return nil }
	if err := f.Update(ctx, note); !errors.Is(err, context.Canceled) {
		t.Errorf("update: got %v, want context.Canceled", err)
	}
	if err := f.View(ctx, note); !errors.Is(err, context.Canceled) {
		t.Errorf("view: got %v, want context.Canceled", err)
	}
	if ran {
		t.Error("the transaction ran")
	}
}

func TestCloseCommitsWhatWaits(t *testing.T) {
	path := testPath(t)
	synctest.Test(t, func(t *testing.T) {
		f := mustOpen(t, path, testSettings())
		release := busy(t, f)
		var callers sync.WaitGroup
		callers.Go(func() {
			if err := f.Update(t.Context(), set("k", "v")); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		callers.Go(func() {
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		release()
		callers.Wait()
	})
	f := mustOpen(t, path, testSettings())
	if got := get(t, f, "k"); got != "v" || f.Unclean() {
		t.Errorf("got %q, unclean %v; want the change and a clean file", got, f.Unclean())
	}
}

func TestAFullDiskFailsOneWriteAndNotTheNext(t *testing.T) {
	s := testSettings()
	s.maxSize = 256 << 10
	f := mustOpen(t, testPath(t), s)
	if err := f.Update(t.Context(), set("k", "before")); err != nil {
		t.Fatal(err)
	}
	err := f.Update(t.Context(), set("large", strings.Repeat("x", 1<<20)))
	if !errors.Is(err, berrors.ErrMaxSizeReached) {
		t.Fatalf("got %v, want that the file is full", err)
	}
	if got := get(t, f, "k") + get(t, f, "large"); got != "before" {
		t.Errorf("the failed write left %q", got)
	}
	if err := f.Update(t.Context(), set("k", "after")); err != nil {
		t.Errorf("the next write: %v", err)
	}
}

func TestOnlyAWriteThatFindsNoRoomIsNoFaultOfTheDisk(t *testing.T) {
	write := func(err error) error { return &fs.PathError{Op: "write", Path: "ledger.db", Err: err} }
	for _, c := range []struct {
		name   string
		err    error
		broken bool
	}{
		{"a write that finds no room", write(syscall.ENOSPC), false},
		{"a write above a quota", write(syscall.EDQUOT), false},
		{"a file above its limit", berrors.ErrMaxSizeReached, false},
		{"a sync that finds no room", syscall.ENOSPC, true},
		{"a sync above a quota", syscall.EDQUOT, true},
		{"a write that fails", write(syscall.EIO), true},
		{"a sync that fails", syscall.EIO, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &writer{}
			if err := w.failed(c.err); !errors.Is(err, c.err) {
				t.Errorf("got %v, want %v", err, c.err)
			}
			if got := w.broken != nil; got != c.broken {
				t.Errorf("takes no more writes: %v, want %v", got, c.broken)
			}
		})
	}
}

func TestAfterADiskFaultNothingIsWrittenUntilTheFileIsOpenedAgain(t *testing.T) {
	s := testSettings()
	var disk *os.File
	s.openFile = func(path string, flag int, mode os.FileMode) (f *os.File, err error) {
		disk, err = os.OpenFile(path, flag, mode)
		return disk, err
	}
	path := testPath(t)
	f := mustOpen(t, path, s)
	if err := f.Update(t.Context(), set("k", "before")); err != nil {
		t.Fatal(err)
	}
	disk.Close() // the disk goes away under the file
	if err := f.Update(t.Context(), set("k", "lost")); !errors.Is(err, os.ErrClosed) {
		t.Fatalf("got %v, want the fault of the disk", err)
	}
	err := f.Update(t.Context(), set("k", "after"))
	if err == nil || !strings.Contains(err.Error(), "an earlier write failed") {
		t.Errorf("got %v, want that the file takes no more", err)
	}
	if got := get(t, f, "k"); got != "before" {
		t.Errorf("got %q, want what was there before", got)
	}
	if err := f.Close(); err == nil {
		t.Error("closing a broken file is no error")
	}
	again := mustOpen(t, path, testSettings())
	if got := get(t, again, "k"); got != "before" || !again.Unclean() {
		t.Errorf("opened again: %q, unclean %v; want what was there before, and unclean", got, again.Unclean())
	}
}

func TestScanReadsAllPagesAndHoldsNoTransaction(t *testing.T) {
	f := mustOpen(t, testPath(t), testSettings())
	const n = 2*PageSize + 1
	err := f.Update(t.Context(), func(tx *bolt.Tx) error {
		for i := range n {
			if err := set(fmt.Sprintf("a%05d", i), "v")(tx); err != nil {
				return err
			}
		}
		return set("b", "another prefix")(tx)
	})
	if err != nil {
		t.Fatal(err)
	}
	scan := Scan[string]{
		Bucket: func(tx *bolt.Tx) (*bolt.Bucket, error) { return tx.Bucket([]byte(bucketTest)), nil },
		Prefix: []byte("a"),
		Decode: func(_ *bolt.Tx, k, _ []byte) (string, error) { return string(k), nil },
	}
	seen := 0
	for k, err := range scan.All(t.Context(), f) {
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("a%05d", seen); k != want {
			t.Fatalf("got %q, want %q", k, want)
		}
		if seen++; seen%PageSize == 1 {
			if err := f.Update(t.Context(), set("c"+k, "written in the loop")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if seen != n {
		t.Errorf("%d keys, want %d", seen, n)
	}
}

func TestScanYieldsAnErrorOnceAndLast(t *testing.T) {
	f := mustOpen(t, testPath(t), testSettings())
	for _, k := range []string{"a", "b", "c"} {
		if err := f.Update(t.Context(), set(k, "v")); err != nil {
			t.Fatal(err)
		}
	}
	fault := errors.New("fault")
	scan := Scan[string]{
		Bucket: func(tx *bolt.Tx) (*bolt.Bucket, error) { return tx.Bucket([]byte(bucketTest)), nil },
		Decode: func(_ *bolt.Tx, k, _ []byte) (string, error) {
			if string(k) == "b" {
				return "", fault
			}
			return string(k), nil
		},
	}
	var got []string
	for k, err := range scan.All(t.Context(), f) {
		got = append(got, fmt.Sprint(k, err))
	}
	if want := "[a<nil> fault]"; strings.ReplaceAll(fmt.Sprint(got), " <nil>", "<nil>") != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

func BenchmarkGroupCommit(b *testing.B) {
	for _, writers := range []int{1, 8, 64, 512} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			var commits, n atomic.Int64
			f, err := Open(b.TempDir()+"/ledger.db", counting(&commits))
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			b.ResetTimer()
			var group sync.WaitGroup
			for range writers {
				group.Go(func() {
					for i := n.Add(1); i <= int64(b.N); i = n.Add(1) {
						if err := f.Update(context.Background(), set(fmt.Sprint(i), "value of usual length: 120 bytes or so")); err != nil {
							b.Error(err)
						}
					}
				})
			}
			group.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "updates/s")
			b.ReportMetric(float64(b.N)/float64(commits.Load()), "updates/commit")
		})
	}
}

func TestAKeyWithoutAValueIsThereAtOnce(t *testing.T) {
	f := mustOpen(t, testPath(t), testSettings())
	for range 2 {
		err := f.Update(t.Context(), func(tx *bolt.Tx) error {
			b := tx.Bucket([]byte(bucketTest))
			if err := Put(b, []byte("k"), nil); err != nil {
				return err
			}
			if b.Get([]byte("k")) == nil {
				t.Error("it is not there in its own transaction")
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func end(k string) func(*bolt.Tx) error {
	return func(tx *bolt.Tx) error { return tx.Bucket([]byte(bucketTest)).Delete([]byte(k)) }
}

func put(k, v string) func(*bolt.Tx) error {
	return func(tx *bolt.Tx) error { return Put(tx.Bucket([]byte(bucketTest)), []byte(k), []byte(v)) }
}
