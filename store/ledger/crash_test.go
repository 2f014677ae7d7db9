package ledger

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"

	"lastro/mirror"
)

// sorted orders digests as their keys are.
func sorted(ds ...digest.Digest) []digest.Digest {
	slices.Sort(ds)
	return ds
}

// dump is everything that the ledger's file says but who has it open: keys
// with their buckets, and values.
func dump(t *testing.T, l *Ledger) map[string]string {
	t.Helper()
	all, err := says(t.Context(), l)
	must(t, err)
	return all
}

func says(ctx context.Context, l *Ledger) (map[string]string, error) {
	all := map[string]string{}
	err := l.view(ctx, func(tx *bolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
			if string(name) == "meta" {
				return nil
			}
			return dumpBucket(all, string(name), b)
		})
	})
	return all, err
}

func dumpBucket(all map[string]string, path string, b *bolt.Bucket) error {
	all[path] = fmt.Sprint(b.Sequence())
	return b.ForEach(func(k, v []byte) error {
		if inner := b.Bucket(k); inner != nil {
			return dumpBucket(all, fmt.Sprintf("%s/%x", path, k), inner)
		}
		all[fmt.Sprintf("%s/%x", path, k)] = string(v)
		return nil
	})
}

// checkWhole checks what holds after every transaction: tag states are what
// history says, and the graph agrees with itself.
func checkWhole(t *testing.T, l *Ledger) {
	t.Helper()
	checkIndexes(t, l)
	tags := map[[2]string]bool{}
	for e, err := range l.Events(t.Context(), 0) {
		must(t, err)
		tags[[2]string{e.Repo, e.Tag}] = e.Tag != ""
	}
	for key, isTag := range tags {
		history, err := l.History(t.Context(), key[0], key[1])
		must(t, err)
		if !isTag {
			continue
		}
		got, _ := l.Tag(t.Context(), key[0], key[1])
		if diff := cmp.Diff(replay(history), got); diff != "" {
			t.Errorf("tag %v is not what history says: %s", key, diff)
		}
	}
	all := dump(t, l)
	for k := range all {
		if tag, ok := strings.CutPrefix(k, fmt.Sprintf("pulled/%x/", pulledTag)); ok {
			if _, ok := all["tag/"+tag]; !ok {
				t.Errorf("the ledger knows when a tag was pulled that is gone: %s", tag)
			}
		}
	}
	for repo, err := range l.Repositories(t.Context()) {
		must(t, err)
		for d, err := range l.Links(t.Context(), repo) {
			must(t, err)
			checkManifest(t, l, repo, d)
		}
	}
}

func checkManifest(t *testing.T, l *Ledger, repo string, d digest.Digest) {
	t.Helper()
	node, err := l.Manifest(t.Context(), d)
	must(t, err)
	children, err := l.Children(t.Context(), d)
	must(t, err)
	for _, child := range children {
		parents, err := l.Parents(t.Context(), child.Digest)
		must(t, err)
		if !slices.Contains(parents, d) {
			t.Errorf("%s does not know its parent %s", child.Digest, d)
		}
	}
	if node.Subject == "" {
		return
	}
	list, err := l.Referrers(t.Context(), repo, node.Subject)
	must(t, err)
	found := false
	for _, desc := range list {
		found = found || desc.Digest == d
	}
	if !found {
		t.Errorf("%s does not know its referrer %s", node.Subject, d)
	}
}

// replay is where a history leaves its tag, told from the start.
func replay(history []Event) (s TagState) {
	for _, e := range history {
		switch {
		case e.Event == Removed:
			s = TagState{}
		case e.Digest != "" && e.Digest != s.Digest:
			s = TagState{Repo: e.Repo, Tag: e.Tag, Digest: e.Digest, Since: e.Time}
		}
	}
	return s
}

// life is what one ledger goes through, a step at a time. Each step may be
// done again.
func life() []func(context.Context, *Ledger) error {
	var large []mirror.Manifest
	for i := range 2*closurePage + 1 {
		large = append(large, image(fmt.Sprint(i), layer(fmt.Sprint("common", i/4)), layer(fmt.Sprint("own", i))))
	}
	var imported []Event
	for i := range 1200 {
		imported = append(imported, Event{Time: at(0).AddDate(0, 0, -i), Repo: "imported", Tag: fmt.Sprint(i % 7), Event: Moved, Digest: dig(fmt.Sprint(i % 3))})
	}
	found := []RepoManifest{{Repo: "r", Manifest: image("root")}}
	for _, m := range large[:closurePage+1] {
		found = append(found, RepoManifest{Repo: "r", Manifest: m})
	}
	return []func(context.Context, *Ledger) error{
		func(ctx context.Context, l *Ledger) error { return l.RecordEvent(ctx, ev(1, Seen, dig("a"))) },
		func(ctx context.Context, l *Ledger) error {
			return l.RecordGraph(ctx, "r", append(slices.Clone(large), about(large[0], index("root", large...))), []digest.Digest{dig("absent")})
		},
		func(ctx context.Context, l *Ledger) error { return l.RecordEvent(ctx, ev(2, Moved, dig("root"))) },
		func(ctx context.Context, l *Ledger) error {
			return l.RecordPublished(ctx, Event{Time: at(2), Repo: "r", Tag: "published", Event: Pushed, Digest: large[0].Descriptor.Digest})
		},
		func(ctx context.Context, l *Ledger) error {
			for _, m := range large {
				l.NotePull("r", "t", m.Descriptor.Digest, at(2))
			}
			l.NotePull("r", "published", large[0].Descriptor.Digest, at(3))
			return l.FlushPulls(ctx)
		},
		func(ctx context.Context, l *Ledger) error { return l.ImportEvents(ctx, imported) },
		func(ctx context.Context, l *Ledger) error {
			return l.RecordHeld(ctx, "main", []digest.Digest{dig("a"), dig("b")})
		},
		func(ctx context.Context, l *Ledger) error { return l.RebuildGraph(ctx, every(nil, found...)) },
		func(ctx context.Context, l *Ledger) error {
			return l.RecordUnlinked(ctx, "r", large[0].Descriptor.Digest)
		},
		func(ctx context.Context, l *Ledger) error { return l.ForgetHeld(ctx, "main") },
		func(ctx context.Context, l *Ledger) error { return l.RecordEvent(ctx, ev(3, Removed, dig("root"))) },
		func(ctx context.Context, l *Ledger) error {
			return l.RecordJob(ctx, Job{Name: "sync", Started: at(1), Ended: at(2)})
		},
	}
}

// copied is a file without the zeros at its end, which are most of a small
// ledger.
type copied struct {
	bytes []byte
	size  int64
}

func copyOf(path string) (copied, error) {
	file, err := os.ReadFile(path)
	return copied{bytes.Clone(bytes.TrimRight(file, "\x00")), int64(len(file))}, err
}

// write makes a file of it, and tells where.
func (c copied) write(t *testing.T) (path string) {
	t.Helper()
	path = ledgerPath(t)
	must(t, os.WriteFile(path, c.bytes, 0o600))
	must(t, os.Truncate(path, c.size))
	return path
}

// boundary is the ledger's file right after one of its transactions.
type boundary struct {
	file copied
	step int // of life, being done
	says map[string]string
}

// live lives a life and keeps the file as it was at every boundary. The
// ledger's own goroutine records, which must not end the test: faults are kept.
func live(t *testing.T) []boundary {
	t.Helper()
	path := ledgerPath(t)
	var all []boundary
	var faults []error
	var l *Ledger
	step, living := 0, true
	l = mustOpen(t, path, Options{Now: func() time.Time { return at(100) }, committed: func() {
		if !living {
			return
		}
		file, err := copyOf(path)
		said, saidErr := says(t.Context(), l)
		faults = append(faults, err, saidErr)
		all = append(all, boundary{file, step, said})
	}})
	for i, do := range life() {
		step = i
		must(t, do(t.Context(), l))
	}
	living = false
	must(t, errors.Join(faults...))
	must(t, l.Close())
	return all
}

func TestAfterACrashAtAnyTransactionTheLedgerIsWholeAndTheStepSucceedsAgain(t *testing.T) {
	steps := life()
	boundaries := live(t)
	final := boundaries[len(boundaries)-1].says
	for i, b := range boundaries {
		l := mustOpen(t, b.file.write(t), Options{Now: func() time.Time { return at(100) }})
		if !l.Unclean() {
			t.Errorf("boundary %d: a ledger that crashed is clean", i)
		}
		checkWhole(t, l)
		for _, do := range steps[b.step:] {
			must(t, do(t.Context(), l))
		}
		checkWhole(t, l)
		compareEnds(t, final, dump(t, l), fmt.Sprintf("boundary %d, step %d", i, b.step))
		must(t, l.Close())
	}
	t.Logf("%d boundaries", len(boundaries))
}

// compareEnds compares two ledgers, but for the events that a repeated step
// recorded twice.
func compareEnds(t *testing.T, want, got map[string]string, when string) {
	t.Helper()
	for _, m := range []map[string]string{want, got} {
		maps.DeleteFunc(m, func(k, _ string) bool {
			return bytes.HasPrefix([]byte(k), []byte("event")) || bytes.HasPrefix([]byte(k), []byte("history"))
		})
	}
	// The number of a generation differs when a rebuild was done again.
	if diff := mapDiff(sameGeneration(want), sameGeneration(got)); diff != "" {
		t.Errorf("%s: the end differs: %.2000s", when, diff)
	}
}

// mapDiff is fast where there is no difference: cmp sorts all keys first.
func mapDiff(want, got map[string]string) string {
	if maps.Equal(want, got) {
		return ""
	}
	return cmp.Diff(want, got)
}

// sameGeneration names every generation alike.
func sameGeneration(m map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range m {
		const at = len("graph/")
		if len(k) >= at+16 && k[:at] == "graph/" && k[at:at+14] == "00000000000000" {
			k = k[:at] + "generation" + k[at+16:]
		}
		if k == fmt.Sprintf("graph/%x", graphInUse) {
			v = "generation"
		}
		out[k] = v
	}
	return out
}

func TestACrashWithinATransactionLeavesTheOneBefore(t *testing.T) {
	boundaries := live(t)
	for i := 1; i < len(boundaries); i++ {
		torn := boundaries[i].file
		meta := newestMeta(torn.bytes)
		clear(torn.bytes[meta+32 : meta+48]) // pages are written, the meta page is half written
		l := mustOpen(t, torn.write(t), Options{})
		want := maps.Clone(boundaries[i-1].says)
		if diff := mapDiff(withoutUnfinished(want), dump(t, l)); diff != "" {
			t.Errorf("boundary %d: %.2000s", i, diff)
		}
		must(t, l.Close())
	}
}

// withoutUnfinished drops the generation that a rebuild was filling, as Open
// does.
func withoutUnfinished(m map[string]string) map[string]string {
	filling := fmt.Sprintf("graph/%x", graphFilling)
	generation, ok := m[filling]
	if !ok {
		return m
	}
	prefix := fmt.Sprintf("graph/%x", generation)
	delete(m, filling)
	maps.DeleteFunc(m, func(k, _ string) bool { return bytes.HasPrefix([]byte(k), []byte(prefix)) })
	return m
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

func TestATransactionThatIsGivenUpChangesNothing(t *testing.T) {
	l := inMay(t)
	must(t, l.RecordEvent(t.Context(), ev(1, Seen, dig("a"))))
	must(t, l.RecordGraph(t.Context(), "r", []mirror.Manifest{image("m", layer("x"))}, nil))
	before := dump(t, l)
	fault := errors.New("given up")
	err := l.update(t.Context(), func(tx *bolt.Tx) error {
		return errors.Join(
			record(tx, ev(2, Moved, dig("b"))),
			recordManifests(tx, "r", []mirror.Manifest{image("n", layer("y"))}),
			startGeneration(tx),
			fault)
	})
	if !errors.Is(err, fault) {
		t.Fatalf("got %v, want %v", err, fault)
	}
	if diff := cmp.Diff(before, dump(t, l)); diff != "" {
		t.Error(diff)
	}
}
