package vault_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"pgregory.net/rapid"

	"lastro/store"
	"lastro/store/ledger"
	"lastro/store/vault"
	"lastro/store/vault/bucket"
)

// fleet is two daemons that save to one vault, forget and prune there, crash, and
// come between each other's requests. What it knows of a snapshot is what its store
// served at that moment.
type fleet struct {
	c       *clock
	dir     string
	stores  []*store.Store
	tags    []map[string]digest.Digest          // of each store
	saved   map[string]map[string]digest.Digest // by snapshot
	maybe   []map[string]digest.Digest          // of backups whose end nobody saw
	restore int
}

// TestNoVisibleSnapshotIsEverLess does what two daemons, their owners and crashes do,
// in any order, and wants every snapshot that is visible afterwards to give back
// exactly what was saved.
func TestNoVisibleSnapshotIsEverLess(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp("", "fleet")
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(dir)
		var failure any // leaves the bubble, so that rapid can look for a smaller one
		synctest.Test(t, func(t *testing.T) {
			defer func() { failure = recover() }()
			runFleet(bubble{rt, t.Context()}, dir)
		})
		if fmt.Sprintf("%T", failure) == "rapid.invalidData" {
			panic(failure) // at a line of its own: by that rapid tells it from a failure
		}
		if failure != nil {
			panic(failure)
		}
	})
}

// bubble is a rapid.T whose context belongs to the bubble that it is used in.
type bubble struct {
	*rapid.T
	ctx context.Context
}

func (b bubble) Context() context.Context { return b.ctx }

func runFleet(t bubble, dir string) {
	f := &fleet{c: &clock{}, dir: dir, saved: map[string]map[string]digest.Digest{}}
	for i := range 2 {
		st := openStore(t, filepath.Join(dir, fmt.Sprint("data", i)), f.c, nil)
		defer st.Close()
		f.stores, f.tags = append(f.stores, st), append(f.tags, map[string]digest.Digest{})
	}
	f.publish(t)
	f.backup(t, 0, nil)
	for range rapid.IntRange(1, 12).Draw(t.T, "steps") {
		rapid.SampledFrom([]func(bubble){
			f.publish, f.publish, f.untag, f.someBackup, f.someBackup, f.forget, f.prune, f.prune, f.cut, f.between, f.between, f.verify, f.wait,
		}).Draw(t.T, "step")(t)
	}
	f.check(t)
	// Whatever was cut, the next ones end it, and then all is as tidy as it can be.
	f.backup(t, 0, nil)
	f.pruneBy(t, 0, f.open(t, nil), vault.PruneOptions{MaxRemovals: 1})
	f.check(t)
	if h := headOf(t, f.vault()); h.Prune != nil {
		t.Fatalf("got %+v left", h.Prune)
	}
}

func (f *fleet) vault() string { return filepath.Join(f.dir, "vault") }

func (f *fleet) open(t bubble, wrap func(bucket.Bucket) bucket.Bucket) *vault.Vault {
	v, err := vault.Open(t.Context(), vault.Settings{Name: "main", To: "file://" + f.vault()}, vault.Options{Version: "test", Wrap: wrap})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (f *fleet) someStore(t bubble) int { return rapid.IntRange(0, 1).Draw(t.T, "store") }

func (f *fleet) publish(t bubble) {
	i := f.someStore(t)
	repo, tag := rapid.SampledFrom([]string{"a", "b/c"}).Draw(t.T, "repo"), rapid.SampledFrom([]string{"1", "2"}).Draw(t.T, "tag")
	name := fmt.Sprint(rapid.IntRange(0, 5).Draw(t.T, "image"))
	img := plain(name)
	switch rapid.IntRange(0, 3).Draw(t.T, "kind") {
	case 0:
		img = index("out "+name, img, plain("second "+name))
	case 1:
		img = img.with(signature(img.root, name))
	}
	publish(t, f.stores[i], repo, tag, img)
	f.tags[i][repo+":"+tag] = img.root.desc.Digest
}

func (f *fleet) untag(t bubble) {
	i := f.someStore(t)
	for _, repo := range []string{"a", "b/c"} {
		d, ok := f.tags[i][repo+":1"]
		if !ok {
			continue
		}
		delete(f.tags[i], repo+":1")
		if err := f.stores[i].Untag(t.Context(), repo, "1", ledger.Event{By: "model"}); err != nil {
			t.Fatal(err)
		}
		parents, err := f.stores[i].Ledger().Parents(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		if f.tags[i][repo+":2"] != d && len(parents) == 0 {
			drop(t, f.stores[i], repo, d)
		}
		return
	}
}

func (f *fleet) someBackup(t bubble) { f.backup(t, f.someStore(t), f.open(t, nil)) }

// backup wants a backup to succeed.
func (f *fleet) backup(t bubble, i int, v *vault.Vault) {
	if v == nil {
		v = f.open(t, nil)
	}
	if err := f.tryBackup(t, i, v); err != nil {
		t.Fatal(err)
	}
}

func (f *fleet) tryBackup(t bubble, i int, v *vault.Vault) error {
	now := maps.Clone(f.tags[i])
	r, err := v.Backup(t.Context(), f.stores[i], "model", nil)
	if err != nil {
		f.maybe = append(f.maybe, now)
		return err
	}
	if len(r.Failed) > 0 {
		t.Fatalf("got %+v", r.Failed)
	}
	f.saved[r.Snapshot] = now
	return nil
}

// forget lets some of the snapshots go that may.
func (f *fleet) forget(t bubble) { f.forgetBy(t, f.open(t, nil)) }

func (f *fleet) forgetBy(t bubble, v *vault.Vault) {
	ids := snapshotsOf(t, v)
	goes := rapid.SliceOfNDistinct(rapid.SampledFrom(ids), 1, min(3, len(ids)), rapid.ID[string]).Draw(t.T, "forgotten")
	_, err := v.Forget(t.Context(), vault.ForgetOptions{IDs: goes, AllowLastOfStore: rapid.Bool().Draw(t.T, "last")})
	if err != nil && !errors.Is(err, vault.ErrLast) {
		t.Fatal(err)
	}
	if len(snapshotsOf(t, v)) == 0 {
		t.Fatal("the vault was emptied")
	}
}

func (f *fleet) someOptions(t bubble) vault.PruneOptions {
	o := vault.PruneOptions{MaxRemovals: 1}
	if rapid.Bool().Draw(t.T, "in two runs") {
		o.Grace = time.Millisecond
	}
	return o
}

func (f *fleet) prune(t bubble) {
	f.pruneBy(t, f.someStore(t), f.open(t, nil), f.someOptions(t))
}

func (f *fleet) pruneBy(t bubble, i int, v *vault.Vault, o vault.PruneOptions) {
	if _, err := v.Prune(t.Context(), f.stores[i], o); err != nil {
		t.Fatal(err)
	}
}

// cut ends the power at some write of a backup, a forget or a prune.
func (f *fleet) cut(t bubble) {
	writes := writesLeft(rapid.Int64Range(1, 14).Draw(t.T, "writes"))
	answer := rapid.Bool().Draw(t.T, "answer")
	v := f.open(t, func(b bucket.Bucket) bucket.Bucket { return cutBucket{b, writes, answer} })
	i := f.someStore(t)
	// Whether it was in time does not matter.
	switch rapid.IntRange(0, 2).Draw(t.T, "cut") {
	case 0:
		_ = f.tryBackup(t, i, v)
	case 1:
		_, _ = v.Forget(t.Context(), vault.ForgetOptions{IDs: snapshotsOf(t, f.open(t, nil))[:1]})
	case 2:
		_, _ = v.Prune(t.Context(), f.stores[i], f.someOptions(t))
	}
}

// between does a whole thing before some request of another.
func (f *fleet) between(t bubble) {
	i := f.someStore(t)
	inner := rapid.SampledFrom([]string{"backup", "forget and prune", "prune"}).Draw(t.T, "inner")
	hook, _ := atRequest(rapid.Int64Range(1, 40).Draw(t.T, "request"), func() {
		switch inner {
		case "backup":
			f.backup(t, 1-i, nil)
		case "forget and prune":
			f.forget(t)
			f.pruneBy(t, 1-i, f.open(t, nil), vault.PruneOptions{MaxRemovals: 1})
		case "prune":
			f.pruneBy(t, 1-i, f.open(t, nil), vault.PruneOptions{MaxRemovals: 1})
		}
	})
	unfenced := rapid.Bool().Draw(t.T, "unfenced")
	v := f.open(t, func(b bucket.Bucket) bucket.Bucket {
		if unfenced {
			return hookedBucket{b, hook}
		}
		return fencedBucket{hookedBucket{b, hook}}
	})
	if rapid.Bool().Draw(t.T, "outer is a backup") {
		f.backup(t, i, v)
		return
	}
	// A prune that stood still may have been taken over: that is an error, and no loss.
	_, _ = v.Prune(t.Context(), f.stores[i], vault.PruneOptions{MaxRemovals: 1})
}

func (f *fleet) verify(t bubble) { allSound(t, f.open(t, nil)) }

func (f *fleet) wait(t bubble) {
	time.Sleep(time.Duration(rapid.IntRange(1, 50).Draw(t.T, "hours")) * time.Hour)
}

// check restores every snapshot that is visible.
func (f *fleet) check(t bubble) {
	v := f.open(t, nil)
	allSound(t, v)
	for _, id := range snapshotsOf(t, v) {
		f.restore++
		back := openStore(t, filepath.Join(f.dir, fmt.Sprint("back", f.restore)), f.c, nil)
		r := restore(t, v, back, vault.RestoreOptions{Snapshot: id})
		got := stateOf(t, back).Tags
		if err := back.Close(); err != nil || len(r.Failed) > 0 {
			t.Fatalf("snapshot %s: %+v, %v", id, r.Failed, err)
		}
		want, known := f.saved[id]
		if known && cmp.Diff(want, got) != "" {
			t.Fatalf("snapshot %s: %s", id, cmp.Diff(want, got))
		}
		if !known && !slices.ContainsFunc(f.maybe, func(m map[string]digest.Digest) bool { return cmp.Equal(m, got) }) {
			t.Fatalf("snapshot %s holds %v, which no backup has saved", id, got)
		}
	}
}
