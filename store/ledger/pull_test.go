package ledger

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"

	"lastro/mirror"
)

// holding is a ledger of a repository that holds an index with the tag "t".
func holding(t *testing.T, o Options) *Ledger {
	t.Helper()
	l := mustOpen(t, ledgerPath(t), o)
	hold(t, l)
	return l
}

func hold(t *testing.T, l *Ledger) {
	t.Helper()
	amd, arm := image("amd"), image("arm")
	both := index("both", amd, arm)
	must(t, l.RecordGraph(t.Context(), "r", []mirror.Manifest{amd, arm, both, index("outer", both)}, nil))
	must(t, l.RecordEvent(t.Context(), ev(1, Seen, dig("outer"))))
}

func checkPulled(t *testing.T, l *Ledger, when, tag string, d digest.Digest, want time.Time) {
	t.Helper()
	if got, err := l.LastPulled(t.Context(), "r", tag, d); !got.Equal(want) || err != nil {
		t.Errorf("%s: %s of %q was last pulled at %v, %v; want %v", when, d, tag, got, err, want)
	}
}

// pull is one call of NotePull.
type pull struct {
	tag, digest string
	hour        int
}

func TestLastPulledIsTheLatestOfAllThatBelongsToIt(t *testing.T) {
	for _, c := range []struct {
		name  string
		pulls []pull
		tag   string
		of    string
		hour  int // 0: never
	}{
		{"nothing was pulled", nil, "t", "outer", 0},
		{"a pull by tag is one of the tag", []pull{{"t", "outer", 1}}, "t", "", 1},
		{"and one of the digest", []pull{{"t", "outer", 1}}, "", "outer", 1},
		{"a pull by digest is none of the tag alone", []pull{{"", "outer", 1}}, "t", "", 0},
		{"a pull of a child counts for its index", []pull{{"", "amd", 2}}, "", "both", 2},
		{"and for the index of that", []pull{{"t", "outer", 1}, {"", "amd", 2}}, "t", "outer", 2},
		{"a pull of an index does not count for its child", []pull{{"", "both", 2}}, "", "amd", 0},
		{"a pull of a tag that moved since counts for the tag", []pull{{"t", "amd", 3}}, "t", "outer", 3},
		{"a later pull counts", []pull{{"t", "outer", 1}, {"t", "outer", 2}}, "t", "outer", 2},
		{"a clock that goes back takes nothing away", []pull{{"t", "outer", 5}, {"t", "outer", 2}}, "t", "outer", 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			var want time.Time
			if c.hour > 0 {
				want = at(c.hour)
			}
			for _, flushed := range []string{"in memory", "each on disk"} {
				l := holding(t, Options{})
				for _, p := range c.pulls {
					l.NotePull("r", p.tag, dig(p.digest), at(p.hour).Add(time.Second-1))
					if flushed == "each on disk" {
						must(t, l.FlushPulls(t.Context()))
					}
				}
				l.NotePull("r/below", "t", dig("outer"), at(9))
				var d digest.Digest
				if c.of != "" {
					d = dig(c.of)
				}
				checkPulled(t, l, flushed, c.tag, d, want)
			}
		})
	}
}

func TestPullsAreThereAfterTheLedgerWasClosed(t *testing.T) {
	path := ledgerPath(t)
	l := mustOpen(t, path, Options{Now: func() time.Time { return at(1) }})
	hold(t, l)
	l.NotePull("r", "t", dig("outer"), at(5))
	must(t, l.Close())
	l = mustOpen(t, path, Options{Now: func() time.Time { return at(9) }})
	checkPulled(t, l, "opened again", "t", "", at(5))
	if since, err := l.PullsSince(t.Context()); !since.Equal(at(1)) || err != nil {
		t.Errorf("pulls since %v, %v; want when the ledger was made", since, err)
	}
}

func TestALedgerThatKnewOfNoPullsTellsSinceWhenItDoes(t *testing.T) {
	path := ledgerPath(t)
	l := mustOpen(t, path, Options{})
	hold(t, l)
	must(t, l.update(t.Context(), func(tx *bolt.Tx) error { return tx.DeleteBucket([]byte(bucketPulled)) }))
	must(t, l.Close())
	l = mustOpen(t, path, Options{Now: func() time.Time { return at(7) }})
	if since, err := l.PullsSince(t.Context()); !since.Equal(at(7)) || err != nil {
		t.Errorf("pulls since %v, %v; want when it was opened", since, err)
	}
	l.NotePull("r", "t", dig("outer"), at(8))
	must(t, l.FlushPulls(t.Context()))
	checkPulled(t, l, "flushed", "t", dig("outer"), at(8))
}

func TestManyPullsAreOneTransaction(t *testing.T) {
	commits := 0
	l := holding(t, Options{committed: func() { commits++ }})
	before := commits
	for i := range 1000 {
		l.NotePull("r", "t", dig("outer"), at(1).Add(time.Duration(i)*time.Second))
		l.NotePull("r", "", dig("amd"), at(2))
	}
	if commits != before {
		t.Fatalf("%d transactions before a flush", commits-before)
	}
	must(t, l.FlushPulls(t.Context()))
	must(t, l.FlushPulls(t.Context()))
	if commits != before+1 {
		t.Errorf("%d transactions, want 1", commits-before)
	}
}

func TestPullsAreFlushedThirtySecondsAfterTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var flushes atomic.Int64
		l := holding(t, Options{committed: func() { flushes.Add(1) }})
		before, start := flushes.Load(), time.Now()
		check := func(want int64) {
			t.Helper()
			synctest.Wait()
			if got := flushes.Load() - before; got != want {
				t.Errorf("after %v: %d flushes, want %d", time.Since(start), got, want)
			}
		}
		time.Sleep(time.Hour)
		start = time.Now()
		for range 29 {
			l.NotePull("r", "t", dig("outer"), time.Now())
			time.Sleep(time.Second)
		}
		check(0)
		time.Sleep(time.Second)
		check(1)
		time.Sleep(time.Hour) // nothing is there
		check(1)
		l.NotePull("r", "t", dig("outer"), time.Now())
		time.Sleep(30 * time.Second)
		check(2)
		must(t, l.Close())
	})
}

func TestPullsOfVeryManyAreFlushedSooner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := holding(t, Options{})
		l.NotePull("r", "t", "", at(1))
		for i := range manyNotes - 2 {
			l.NotePull("r", fmt.Sprint(i), "", at(1))
		}
		synctest.Wait()
		if n := l.pulls.waiting.Len(); n != manyNotes-1 {
			t.Fatalf("%d notes wait, want all %d", n, manyNotes-1)
		}
		l.NotePull("r", "", dig("outer"), at(1))
		synctest.Wait()
		if n := l.pulls.waiting.Len(); n != 0 {
			t.Errorf("%d notes wait, want none", n)
		}
		checkPulled(t, l, "flushed", "t", "", at(1))
		must(t, l.Close())
	})
}

// stuck makes the ledger's writer wait until the test lets it go on.
func stuck(t *testing.T, l *Ledger) (goOn func()) {
	t.Helper()
	free, waits := make(chan struct{}), make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		ended <- l.update(context.Background(), func(*bolt.Tx) error { close(waits); <-free; return nil })
	}()
	<-waits
	return func() { close(free); must(t, <-ended) }
}

func TestWhileTheDiskDoesNotAnswerTheOldestPullsAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := holding(t, Options{})
		goOn := stuck(t, l)
		l.NotePull("r", "t", "", at(1))
		l.NotePull("r", "", dig("amd"), at(1))
		time.Sleep(flushAfter)
		synctest.Wait() // those are being flushed
		l.NotePull("r", "", dig("both"), at(2))
		l.NotePull("r", "", dig("arm"), at(2))
		for i := range maxNotes - 2 {
			l.NotePull("r", fmt.Sprint(i), "", at(3))
		}
		l.NotePull("r", "", dig("both"), at(4)) // is no longer the oldest
		l.NotePull("r", "new", "", at(4))
		if n := l.pulls.waiting.Len(); n != maxNotes || l.pulls.dropped != 1 {
			t.Errorf("%d notes wait and %d were dropped; want %d and 1", n, l.pulls.dropped, maxNotes)
		}
		checkPulled(t, l, "the one being flushed", "t", "", at(1))
		checkPulled(t, l, "the oldest", "", dig("arm"), time.Time{})
		checkPulled(t, l, "one that was pulled again", "", dig("both"), at(4))
		goOn()
		must(t, l.FlushPulls(t.Context()))
		checkPulled(t, l, "when the disk answers", "", dig("amd"), at(1))
		checkPulled(t, l, "when the disk answers", "", dig("both"), at(4))
		must(t, l.Close())
	})
}

func TestAFlushThatFailsLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := holding(t, Options{})
		l.NotePull("r", "t", dig("outer"), at(5))
		l.NotePull("r", "", dig("amd"), at(5))
		goOn := stuck(t, l)
		ctx, cancel := context.WithCancel(t.Context())
		flushed := make(chan error)
		go func() { flushed <- l.FlushPulls(ctx) }()
		synctest.Wait()
		l.NotePull("r", "t", "", at(2)) // of a clock that went back
		cancel()
		if err := <-flushed; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
		checkPulled(t, l, "not flushed", "t", "", at(5))
		goOn()
		time.Sleep(flushAfter)
		synctest.Wait()
		if n := l.pulls.waiting.Len(); n != 0 {
			t.Errorf("%d notes wait, want none", n)
		}
		checkPulled(t, l, "flushed", "t", "", at(5))
		checkPulled(t, l, "flushed", "", dig("amd"), at(5))
		must(t, l.Close())
	})
}

func TestAPullOfWhatIsGoneIsForgotten(t *testing.T) {
	l := holding(t, Options{})
	l.NotePull("r", "t", dig("outer"), at(5))
	l.NotePull("r", "", dig("amd"), at(5))
	l.NotePull("r", "never", dig("never"), at(5))
	l.NotePull("r", "", "sha256:no digest", at(5))
	l.NotePull("", "\x00", "", at(5))
	l.NotePull("r", "arm", dig("arm"), time.Time{})
	must(t, l.FlushPulls(t.Context()))
	recorded := func() (n int) {
		must(t, l.view(t.Context(), func(tx *bolt.Tx) error {
			n = pulledBucket(tx, pulledTag).Stats().KeyN + pulledBucket(tx, pulledDigest).Stats().KeyN
			return nil
		}))
		return n
	}
	for _, step := range []struct {
		name string
		do   func() error
		left int
	}{
		{"only what is here", func() error { return nil }, 3},
		{"without a tag that went", func() error { return l.RecordEvent(t.Context(), ev(6, Removed, "")) }, 2},
		{"without what was unlinked", func() error { return l.RecordUnlinked(t.Context(), "r", dig("outer")) }, 1},
		{"with what a rebuild finds", func() error {
			return l.RebuildGraph(t.Context(), every(nil, RepoManifest{Repo: "r", Manifest: image("amd")}))
		}, 1},
		{"without what it does not find", func() error { return l.RebuildGraph(t.Context(), every[RepoManifest](nil)) }, 0},
	} {
		must(t, step.do())
		if n := recorded(); n != step.left {
			t.Errorf("%s: %d are recorded, want %d", step.name, n, step.left)
		}
	}
}

func TestARebuildForgetsPullsInPages(t *testing.T) {
	l := inMay(t)
	ms := many(2100, func(i int) mirror.Manifest { return image(fmt.Sprint(i)) })
	must(t, l.RecordGraph(t.Context(), "r", ms, nil))
	for _, m := range ms {
		l.NotePull("r", "", m.Descriptor.Digest, at(1))
	}
	must(t, l.FlushPulls(t.Context()))
	must(t, l.RebuildGraph(t.Context(), every(nil, RepoManifest{Repo: "r", Manifest: ms[7]})))
	for i, m := range ms {
		want := time.Time{}
		if i == 7 {
			want = at(1)
		}
		checkPulled(t, l, fmt.Sprint(i), "", m.Descriptor.Digest, want)
	}
}

func TestIndexesThatLieInEachOtherForEverEnd(t *testing.T) {
	l := inMay(t)
	deep := []mirror.Manifest{index("0", image("1"), index("0"))} // one within itself, too
	for i := range 30 {
		deep = append(deep, index(fmt.Sprint(i+1), deep[i]))
	}
	must(t, l.RecordGraph(t.Context(), "r", deep, nil))
	l.NotePull("r", "", dig("0"), at(1))
	checkPulled(t, l, "deep", "", dig("16"), at(1))
	checkPulled(t, l, "too deep", "", dig("17"), time.Time{})
}

// BenchmarkNotePull notes pulls of few and of many images.
func BenchmarkNotePull(b *testing.B) {
	for _, images := range []int{1, 1000} {
		b.Run(fmt.Sprint(images), func(b *testing.B) {
			l, err := Open(b.TempDir()+"/ledger.db", Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			ds := many(images, func(i int) digest.Digest { return dig(fmt.Sprint(i)) })
			tags := many(images, func(i int) string { return fmt.Sprint("v1.", i) })
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					l.NotePull("docker.io/library/debian", tags[i%images], ds[i%images], time.Now())
				}
			})
		})
	}
}
