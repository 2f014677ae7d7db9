package vault_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"lastro/store"
	"lastro/store/ledger"
	"lastro/store/vault"
	"lastro/store/vault/bucket"
	"lastro/store/vault/catalog"
	"lastro/store/vault/layout"
	"lastro/store/vault/prune"
)

// atOnce removes in one run whatever nothing needs.
var atOnce = vault.PruneOptions{MaxRemovals: 1}

func pruneBy(t tester, v *vault.Vault, st *store.Store, o vault.PruneOptions) vault.Pruned {
	t.Helper()
	r, err := v.Prune(t.Context(), st, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// allSound wants every snapshot that is there whole.
func allSound(t tester, v *vault.Vault) {
	t.Helper()
	all, err := v.VerifyAll(t.Context(), vault.VerifyOptions{All: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all.Snapshots {
		if len(s.Problems) > 0 {
			t.Fatalf("snapshot %s: %+v", s.Snapshot, s.Problems)
		}
	}
}

func headOf(t tester, dir string) layout.Head {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, layout.KeyHead))
	if err != nil {
		t.Fatal(err)
	}
	h, err := layout.ParseHead(raw)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func isThere(dir string, d digest.Digest) bool {
	_, err := os.Stat(filepath.Join(dir, layout.BlobKey(d)))
	return err == nil
}

// layerOf is the layer that only plain(name) has.
func layerOf(name string) digest.Digest { return plain(name).blobs[1].desc.Digest }

// grown is a vault with a snapshot of each of so many images; only the newest has the
// last of them, and none of the others.
func grown(t tester, v *vault.Vault, st *store.Store, images int) (ids []string, states []state) {
	t.Helper()
	for i := range images {
		if i > 0 {
			if err := st.Untag(t.Context(), "r", fmt.Sprint("t", i-1), ledger.Event{By: "test"}); err != nil {
				t.Fatal(err)
			}
			drop(t, st, "r", plain(fmt.Sprint("image ", i-1)).root.desc.Digest)
		}
		publish(t, st, "r", fmt.Sprint("t", i), plain(fmt.Sprint("image ", i)))
		ids, states = append(ids, backup(t, v, st).Snapshot), append(states, stateOf(t, st))
	}
	return ids, states
}

// givesBack wants the tags of a store out of a snapshot, with all below them.
func givesBack(t *testing.T, v *vault.Vault, c *clock, snapshot string, st *store.Store) {
	t.Helper()
	back := newStore(t, c)
	if r := restore(t, v, back, vault.RestoreOptions{Snapshot: snapshot}); len(r.Failed) > 0 {
		t.Errorf("got %+v", r.Failed)
	}
	if diff := cmp.Diff(stateOf(t, st).Tags, stateOf(t, back).Tags); diff != "" {
		t.Error(diff)
	}
}

// drop takes a manifest out of a repository, as collect does.
func drop(t tester, st *store.Store, repo string, d digest.Digest) {
	t.Helper()
	if err := st.Ledger().RecordUnlinked(t.Context(), repo, d); err != nil {
		t.Fatal(err)
	}
}

func TestAPruneRemovesWhatNoSnapshotNeedsAndNothingElse(t *testing.T) {
	c := &clock{}
	st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
	v := openVault(t, dir, c, nil)
	sample(t, st)
	ids, _ := grown(t, v, st, 4)
	before := files(t, dir, "blobs")
	if r := pruneBy(t, v, st, atOnce); r.Removed+r.Condemned+r.Records != 0 || r.Live != len(before) {
		t.Errorf("got %+v, want nothing to remove of %d blobs", r, len(before))
	}
	forget(t, v, ids[1], ids[2])
	verified(t, v, ids[0])
	dry := pruneBy(t, v, st, vault.PruneOptions{MaxRemovals: 1, DryRun: true})
	if len(files(t, dir, "blobs")) != len(before) || headOf(t, dir).Prune != nil {
		t.Fatal("a dry run has changed something")
	}
	r := pruneBy(t, v, st, atOnce)
	after := files(t, dir, "blobs")
	if r.Removed != len(before)-len(after) || r.Removed != dry.Condemned || r.FreedBytes != dry.Bytes || r.Live != len(after) || r.Records != 2 || r.Condemned != 0 {
		t.Errorf("got %+v for %d blobs of which %d stay; the dry run said %+v", r, len(before), len(after), dry)
	}
	for i, there := range []bool{true, false, false, true} {
		if got := isThere(dir, layerOf(fmt.Sprint("image ", i))); got != there {
			t.Errorf("the layer of image %d: there is %t, want %t", i, got, there)
		}
	}
	allSound(t, v)
	if keys := files(t, dir, "vault/snapshots"); len(keys) != 2 {
		t.Errorf("got records %v, want those of the two snapshots", keys)
	}
	if r := pruneBy(t, v, st, atOnce); r.Removed+r.Condemned+r.Records != 0 {
		t.Errorf("got %+v the second time", r)
	}
	publish(t, st, "r", "t1", plain("image 1"))
	if r := backup(t, v, st); r.NewBlobs < 3 {
		t.Errorf("got %+v, want what was removed sent again", r)
	}
	allSound(t, v)
}

// agedBucket has the clock of a server of its own.
type agedBucket struct {
	bucket.Bucket
	now func() time.Time
	mu  *sync.Mutex
	at  map[string]time.Time
}

func newAged(now func() time.Time) func(bucket.Bucket) bucket.Bucket {
	a := &agedBucket{now: now, mu: new(sync.Mutex), at: map[string]time.Time{}}
	return func(b bucket.Bucket) bucket.Bucket { return agedBucket{b, a.now, a.mu, a.at} }
}

func (b agedBucket) wrote(key string, created bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if created {
		b.at[key] = b.now()
	}
}

func (b agedBucket) Put(ctx context.Context, key string, o bucket.Object) (bool, error) {
	created, err := b.Bucket.Put(ctx, key, o)
	b.wrote(key, created)
	return created, err
}

func (b agedBucket) Replace(ctx context.Context, key string, o bucket.Object) error {
	err := b.Bucket.Replace(ctx, key, o)
	b.wrote(key, err == nil)
	return err
}

func (b agedBucket) Swap(ctx context.Context, key, etag string, data []byte) (string, error) {
	tag, err := b.Bucket.Swap(ctx, key, etag, data)
	b.wrote(key, err == nil)
	return tag, err
}

func (b agedBucket) aged(i bucket.Info) bucket.Info {
	b.mu.Lock()
	defer b.mu.Unlock()
	i.Modified = b.at[i.Key]
	return i
}

func (b agedBucket) Head(ctx context.Context, key string) (bucket.Info, error) {
	i, err := b.Bucket.Head(ctx, key)
	return b.aged(i), err
}

func (b agedBucket) List(ctx context.Context, prefix string) iter.Seq2[bucket.Info, error] {
	return func(yield func(bucket.Info, error) bool) {
		for i, err := range b.Bucket.List(ctx, prefix) {
			if !yield(b.aged(i), err) {
				return
			}
		}
	}
}

// TestWhatIsMarkedIsRemovedOnlyAfterItsGraceByBothClocks sets each clock forward alone.
func TestWhatIsMarkedIsRemovedOnlyAfterItsGraceByBothClocks(t *testing.T) {
	c := &clock{}
	var server time.Duration
	st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
	v := openVault(t, dir, c, newAged(func() time.Time { return c.now().Add(server) }))
	ids, _ := grown(t, v, st, 3)
	forget(t, v, ids[0])
	o := vault.PruneOptions{MaxRemovals: 1, Grace: time.Hour}
	first := pruneBy(t, v, st, o)
	if first.Removed != 0 || first.Condemned == 0 || headOf(t, dir).Prune == nil {
		t.Fatalf("got %+v, want blobs marked and none removed", first)
	}
	ours := func(d time.Duration) { c.seconds.Add(int64(d / time.Second)); server -= d }
	theirs := func(d time.Duration) { server += d }
	for _, step := range []struct {
		name   string
		pass   func()
		remove bool
	}{
		{name: "nothing is removed at once", pass: func() {}},
		{name: "the bucket's clock alone does not count", pass: func() { theirs(time.Hour) }},
		{name: "our clock alone does not count", pass: func() { theirs(-time.Hour); ours(time.Hour) }},
		{name: "after the grace by both it goes", pass: func() { theirs(time.Hour) }, remove: true},
	} {
		step.pass()
		r := pruneBy(t, v, st, o)
		if removed := r.Removed > 0; removed != step.remove || step.remove && r.Removed != first.Condemned {
			t.Errorf("%s: got %+v", step.name, r)
		}
		if gone := !isThere(dir, layerOf("image 0")); gone != step.remove {
			t.Errorf("%s: gone is %t", step.name, gone)
		}
	}
	allSound(t, v)
}

func TestWhatIsYoungIsNotMarked(t *testing.T) {
	c := &clock{}
	st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
	v := openVault(t, dir, c, newAged(c.now))
	ids, _ := grown(t, v, st, 2)
	forget(t, v, ids[0])
	o := vault.PruneOptions{MaxRemovals: 1, MinAge: time.Hour}
	if r := pruneBy(t, v, st, o); r.Removed+r.Condemned != 0 || r.Young == 0 {
		t.Errorf("got %+v, want what nothing needs left because it is young", r)
	}
	c.seconds.Add(3600)
	backup(t, v, st) // the time that has passed by the bucket's clock is seen at what is written
	if r := pruneBy(t, v, st, o); r.Removed == 0 || r.Young != 0 {
		t.Errorf("got %+v, want it removed an hour later", r)
	}
	allSound(t, v)
}

func TestWhatASnapshotComesToNeedAfterItWasMarkedStays(t *testing.T) {
	c := &clock{}
	st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
	v := openVault(t, dir, c, newAged(c.now))
	ids, _ := grown(t, v, st, 3)
	forget(t, v, ids[0])
	o := vault.PruneOptions{MaxRemovals: 1, Grace: time.Hour}
	pruneBy(t, v, st, o)
	publish(t, st, "r", "again", plain("image 0"))
	if r := backup(t, v, st); r.NewBlobs > 3 { // the index, the root and events
		t.Errorf("got %+v, want what is marked used again", r)
	}
	c.seconds.Add(2 * 3600)
	if r := pruneBy(t, v, st, o); r.Removed == 0 || !isThere(dir, layerOf("image 0")) {
		t.Errorf("got %+v, want the old index removed, and the image there", r)
	}
	allSound(t, v)
}

// TestWhatWasWrittenAgainAfterItWasMarkedStays has a repair rewrite a blob meanwhile.
func TestWhatWasWrittenAgainAfterItWasMarkedStays(t *testing.T) {
	c := &clock{}
	st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
	v := openVault(t, dir, c, newAged(c.now))
	ids, _ := grown(t, v, st, 3)
	forget(t, v, ids[0])
	o := vault.PruneOptions{MaxRemovals: 1, Grace: time.Hour}
	marked := pruneBy(t, v, st, o).Condemned
	layer := plain("image 0").blobs[1]
	if err := v.Bucket.Replace(t.Context(), layout.BlobKey(layer.desc.Digest), bucket.Bytes(layer.raw)); err != nil {
		t.Fatal(err)
	}
	c.seconds.Add(2 * 3600)
	if r := pruneBy(t, v, st, o); r.Removed != marked-1 || !isThere(dir, layer.desc.Digest) {
		t.Errorf("got %+v, want all removed that were marked but the one written since", r)
	}
}

func TestALoneWriterWaitsForLonger(t *testing.T) {
	c := &clock{}
	st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
	v := openVault(t, dir, c, newAged(c.now))
	ids, _ := grown(t, v, st, 2)
	config := filepath.Join(dir, layout.KeyConfig)
	var of layout.Config
	readJSON(t, config, &of)
	of.Proven.Swap = false
	data, err := layout.Encode(of)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, data, 0o600); err != nil {
		t.Fatal(err)
	}
	forget(t, v, ids[0])
	for _, hours := range []int64{0, 71, 2} {
		c.seconds.Add(hours * 3600)
		if r := pruneBy(t, v, st, atOnce); (r.Removed > 0) != (hours == 2) {
			t.Errorf("after %d hours more: got %+v", hours, r)
		}
	}
	allSound(t, v)
}

func TestAPruneIsRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		before func(t *testing.T, dir string, v *vault.Vault, ids []string)
		is     func(error) bool
		says   string
	}{
		{name: "when more would go than its share", before: func(*testing.T, string, *vault.Vault, []string) {}, is: func(err error) bool {
			_, ok := errors.AsType[*prune.GuardError](err)
			return ok
		}, says: "--max-removals"},
		{name: "when a manifest is gone", before: func(t *testing.T, dir string, _ *vault.Vault, _ []string) {
			remove(t, dir, layout.BlobKey(plain("image 3").root.desc.Digest))
		}, is: isErr(vault.ErrUnread), says: "lastro backup"},
		{name: "when a commit record is damaged", before: func(t *testing.T, dir string, v *vault.Vault, _ []string) {
			for _, e := range headOf(t, dir).Snapshots {
				if err := os.WriteFile(filepath.Join(dir, e.Record), []byte("{}"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}, is: isErr(vault.ErrUnread), says: "snapshot "},
		{name: "when the root of a snapshot is gone", before: func(t *testing.T, dir string, _ *vault.Vault, _ []string) {
			remove(t, dir, layout.BlobKey(headOf(t, dir).Snapshots[0].Root))
		}, is: isErr(vault.ErrUnread), says: "snapshot "},
		{name: "when the list of snapshots is lost", before: func(t *testing.T, dir string, _ *vault.Vault, _ []string) {
			remove(t, dir, layout.KeyHead)
		}, is: isErr(catalog.ErrLost), says: "lastro backup"},
		{name: "when the config is lost", before: func(t *testing.T, dir string, _ *vault.Vault, _ []string) {
			remove(t, dir, layout.KeyConfig)
		}, is: isErr(catalog.ErrLost), says: "lastro backup"},
		{name: "when a newer version wrote the head", before: func(t *testing.T, dir string, _ *vault.Vault, _ []string) {
			path := filepath.Join(dir, layout.KeyHead)
			raw, err := os.ReadFile(path)
			if err = errors.Join(err, os.WriteFile(path, []byte(strings.Replace(string(raw), `"format": 1`, `"format": 3`, 1)), 0o600)); err != nil {
				t.Fatal(err)
			}
		}, is: isErr(vault.ErrNewer)},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := &clock{}
			st, dir := newStore(t, k), filepath.Join(t.TempDir(), "vault")
			v := openVault(t, dir, k, nil)
			ids, _ := grown(t, v, st, 4)
			forget(t, v, ids[:2]...)
			c.before(t, dir, v, ids)
			keys := files(t, dir, ".")
			empty := newStore(t, k) // has no manifests that could stand in
			for _, dry := range []bool{true, false} {
				_, err := v.Prune(t.Context(), empty, vault.PruneOptions{MaxRemovals: 0.2, DryRun: dry})
				if !c.is(err) || !strings.Contains(err.Error(), c.says) {
					t.Errorf("dry run %t: got %v, want it refused with %q", dry, err, c.says)
				}
			}
			if !slices.Equal(keys, files(t, dir, ".")) {
				t.Error("something was changed")
			}
		})
	}
}

func isErr(want error) func(error) bool {
	return func(err error) bool { return errors.Is(err, want) }
}

func remove(t *testing.T, dir, key string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, key)); err != nil {
		t.Fatal(err)
	}
}

// TestBeforeTheFirstSnapshotNothingIsRemoved has a first backup that was cut short.
func TestBeforeTheFirstSnapshotNothingIsRemoved(t *testing.T) {
	c := &clock{}
	st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
	publish(t, st, "r", "1", plain("one"))
	cut := openVault(t, dir, c, func(b bucket.Bucket) bucket.Bucket { return cutBucket{b, writesLeft(20), false} })
	if _, err := cut.Backup(t.Context(), st, "test", nil); err == nil {
		t.Fatal("the backup was not cut short")
	}
	v := openVault(t, dir, c, nil)
	before := files(t, dir, "blobs")
	r, err := v.Prune(t.Context(), st, atOnce)
	if !errors.Is(err, vault.ErrNoVault) && (err != nil || r.Removed+r.Condemned > 0) || !slices.Equal(before, files(t, dir, "blobs")) {
		t.Errorf("got %+v, %v", r, err)
	}
}

// TestALedgerThatDoesNotKnowOfAPruneTrustsItNoMore prunes with another store.
func TestALedgerThatDoesNotKnowOfAPruneTrustsItNoMore(t *testing.T) {
	c := &clock{}
	a, b, dir := newStore(t, c), newStore(t, c), filepath.Join(t.TempDir(), "vault")
	v := openVault(t, dir, c, nil)
	ids, _ := grown(t, v, a, 2)
	publish(t, b, "other", "1", plain("other"))
	backup(t, openVault(t, dir, c, nil), b)
	forget(t, v, ids[0])
	if r := pruneBy(t, openVault(t, dir, c, nil), b, atOnce); r.Removed == 0 {
		t.Fatalf("got %+v", r)
	}
	publish(t, a, "r", "again", plain("image 0"))
	if r := backup(t, v, a); r.NewBlobs < 3 || len(r.Failed) > 0 {
		t.Errorf("got %+v, want sent again what the other has removed", r)
	}
	allSound(t, v)
	// What stays is not sent again, and a backup with nothing new is as short as before.
	if r := backup(t, v, a); r.NewBlobs != 0 || r.Requests > 10 {
		t.Errorf("got %+v with nothing new", r)
	}
}

// TestWhatRequiresABackupIsKnownAfterAPrune asks the ledger.
func TestWhatRequiresABackupIsKnownAfterAPrune(t *testing.T) {
	c := &clock{}
	st := newStore(t, c)
	v := openVault(t, filepath.Join(t.TempDir(), "vault"), c, nil)
	ids, _ := grown(t, v, st, 2)
	before, err := v.HeldAs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	forget(t, v, ids[0])
	pruneBy(t, v, st, atOnce)
	after, err := v.HeldAs(t.Context())
	if err != nil || after == before {
		t.Fatalf("got %q, %v; want another name than %q", after, err, before)
	}
	held, err := st.Ledger().Held(t.Context(), after, []digest.Digest{layerOf("image 0"), layerOf("image 1")})
	if err != nil || len(held) != 1 || !held[layerOf("image 1")] {
		t.Errorf("got %v, %v; want the image of the snapshot that is left", held, err)
	}
	if held, err := st.Ledger().Held(t.Context(), before, []digest.Digest{layerOf("image 0"), layerOf("image 1")}); err != nil || len(held) > 0 {
		t.Errorf("got %v, %v; want nothing known under the old name", held, err)
	}
}

// refusingBucket does not remove what a lock or missing rights keep.
type refusingBucket struct {
	bucket.Bucket
	why func(key string) error
}

func (b refusingBucket) Remove(ctx context.Context, objects []bucket.Info) (kept []bucket.Kept, err error) {
	objects = slices.DeleteFunc(slices.Clone(objects), func(o bucket.Info) bool {
		why := b.why(o.Key)
		if why != nil {
			kept = append(kept, bucket.Kept{Key: o.Key, Err: why})
		}
		return why != nil
	})
	more, err := b.Bucket.Remove(ctx, objects)
	return append(kept, more...), err
}

// TestWhatCannotBeRemovedIsNamedAndARecordThatStaysSaysNothing loses the head after.
func TestWhatCannotBeRemovedIsNamedAndARecordThatStaysSaysNothing(t *testing.T) {
	c := &clock{}
	st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
	plainly := openVault(t, dir, c, nil)
	ids, _ := grown(t, plainly, st, 3)
	forget(t, plainly, ids[0])
	locked := layout.BlobKey(layerOf("image 0"))
	v := openVault(t, dir, c, func(b bucket.Bucket) bucket.Bucket {
		return refusingBucket{b, func(key string) error {
			if key == locked {
				return &bucket.LockedError{Until: c.now().Add(time.Hour)}
			}
			if strings.HasPrefix(key, layout.DirSnapshots) {
				return fs.ErrPermission
			}
			return nil
		}}
	})
	r := pruneBy(t, v, st, atOnce)
	if r.Removed == 0 || r.Kept != 2 || r.Locked != 1 || len(r.Problems) != 2 || !isThere(dir, layerOf("image 0")) {
		t.Errorf("got %+v, want a record and a blob kept and named", r)
	}
	remove(t, dir, layout.KeyHead)
	if got := snapshotsOf(t, plainly); !slices.Equal(got, ids[1:]) {
		t.Errorf("got snapshots %v after the head was lost, want %v", got, ids[1:])
	}
	publish(t, st, "r", "again", plain("image 0"))
	backup(t, plainly, st)
	allSound(t, plainly)
	// When it can be removed at last, the mark goes with the next.
	if r := pruneBy(t, plainly, st, atOnce); r.Records == 0 {
		t.Errorf("got %+v", r)
	}
	for range 2 {
		forget(t, plainly, snapshotsOf(t, plainly)[0])
		pruneBy(t, plainly, st, atOnce)
	}
	if left := files(t, dir, "vault/forgotten"); len(left) > 0 {
		t.Errorf("got %v left", left)
	}
}

// TestAHeadThatIsLostBringsNoForgottenSnapshotBackBroken loses it at any moment.
func TestAHeadThatIsLostBringsNoForgottenSnapshotBackBroken(t *testing.T) {
	for _, answer := range []bool{false, true} {
		for k := int64(1); ; k++ {
			c := &clock{}
			st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
			plainly := openVault(t, dir, c, nil)
			ids, _ := grown(t, plainly, st, 3)
			forget(t, plainly, ids[0])
			writes := writesLeft(k)
			cut := openVault(t, dir, c, func(b bucket.Bucket) bucket.Bucket { return cutBucket{b, writes, answer} })
			_, err := cut.Prune(t.Context(), st, atOnce)
			remove(t, dir, layout.KeyHead)
			v := openVault(t, dir, c, nil)
			allSound(t, v)
			publish(t, st, "r", "again", plain("image 0"))
			backup(t, v, st)
			allSound(t, v)
			if err == nil && writes.Load() > 0 {
				break
			}
		}
	}
}

func TestWhatIsGoneIsDamagedNoMore(t *testing.T) {
	c := &clock{}
	st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
	v := openVault(t, dir, c, nil)
	ids, _ := grown(t, v, st, 3)
	damage(t, dir, layerOf("image 0"))
	damage(t, dir, layerOf("image 2"))
	if _, err := v.VerifyAll(t.Context(), vault.VerifyOptions{All: true}, nil); err != nil {
		t.Fatal(err)
	}
	forget(t, v, ids[0])
	pruneBy(t, v, st, atOnce)
	if got := headOf(t, dir).Damaged; !slices.Equal(got, []digest.Digest{layerOf("image 2")}) {
		t.Errorf("got %v, want only what is there", got)
	}
}

func damage(t *testing.T, dir string, d digest.Digest) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, layout.BlobKey(d)), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAPlanThatIsLostIsMadeAgain(t *testing.T) {
	for _, text := range []string{"", "{}", `{"format": 1}`} {
		c := &clock{}
		st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
		v := openVault(t, dir, c, newAged(c.now))
		ids, _ := grown(t, v, st, 3)
		forget(t, v, ids[0])
		marked := pruneBy(t, v, st, vault.PruneOptions{MaxRemovals: 1, Grace: time.Hour}).Condemned
		plan := filepath.Join(dir, headOf(t, dir).Prune.Plan)
		if err := os.WriteFile(plan, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if text == "" {
			remove(t, dir, headOf(t, dir).Prune.Plan)
		}
		if r := pruneBy(t, v, st, atOnce); r.Removed != marked {
			t.Errorf("%q: got %+v, want %d removed", text, r, marked)
		}
		allSound(t, v)
	}
}

// hookedBucket calls a hook before each request.
type hookedBucket struct {
	bucket.Bucket
	hook func(op, key string) error
}

func (b hookedBucket) Put(ctx context.Context, key string, o bucket.Object) (bool, error) {
	if err := b.hook("put", key); err != nil {
		return false, err
	}
	return b.Bucket.Put(ctx, key, o)
}

func (b hookedBucket) Replace(ctx context.Context, key string, o bucket.Object) error {
	if err := b.hook("replace", key); err != nil {
		return err
	}
	return b.Bucket.Replace(ctx, key, o)
}

func (b hookedBucket) Swap(ctx context.Context, key, etag string, data []byte) (string, error) {
	if err := b.hook("swap", key); err != nil {
		return "", err
	}
	return b.Bucket.Swap(ctx, key, etag, data)
}

// A request that was signed long ago is refused, as S3 does.
func (b hookedBucket) Remove(ctx context.Context, objects []bucket.Info) ([]bucket.Kept, error) {
	signed := time.Now()
	if err := b.hook("remove", ""); err != nil {
		return nil, err
	}
	if time.Since(signed) > 15*time.Minute {
		return nil, errors.New("RequestTimeTooSkewed")
	}
	return b.Bucket.Remove(ctx, objects)
}

func (b hookedBucket) Head(ctx context.Context, key string) (bucket.Info, error) {
	if err := b.hook("head", key); err != nil {
		return bucket.Info{}, err
	}
	return b.Bucket.Head(ctx, key)
}

func (b hookedBucket) Load(ctx context.Context, key string) (bucket.Record, error) {
	if err := b.hook("load", key); err != nil {
		return bucket.Record{}, err
	}
	return b.Bucket.Load(ctx, key)
}

func (b hookedBucket) Get(ctx context.Context, key string, offset int64) (io.ReadCloser, bucket.Info, error) {
	if err := b.hook("get", key); err != nil {
		return nil, bucket.Info{}, err
	}
	return b.Bucket.Get(ctx, key, offset)
}

func (b hookedBucket) List(ctx context.Context, prefix string) iter.Seq2[bucket.Info, error] {
	if err := b.hook("list", prefix); err != nil {
		return func(yield func(bucket.Info, error) bool) { yield(bucket.Info{}, err) }
	}
	return b.Bucket.List(ctx, prefix)
}

// fencedBucket keeps the fence of the folder below it.
type fencedBucket struct{ hookedBucket }

func (b fencedBucket) RemoveWhile(ctx context.Context, key, etag string, objects []bucket.Info) ([]bucket.Kept, error) {
	if err := b.hook("remove", ""); err != nil {
		return nil, err
	}
	return b.Bucket.(bucket.Fenced).RemoveWhile(ctx, key, etag, objects)
}

// atRequest is a hook that does something once, before the n-th request.
func atRequest(n int64, do func()) (hook func(op, key string) error, done *atomic.Bool) {
	var count atomic.Int64
	done = new(atomic.Bool)
	return func(string, string) error {
		if count.Add(1) == n {
			do()
			done.Store(true)
		}
		return nil
	}, done
}

// pass is a hook that does nothing.
func pass(string, string) error { return nil }

// openIn opens a vault whose clock is that of the bubble.
func openIn(t tester, dir string, hook func(op, key string) error, unfenced bool) *vault.Vault {
	t.Helper()
	o := vault.Options{Version: "test"}
	if hook != nil {
		o.Wrap = func(b bucket.Bucket) bucket.Bucket { return fencedBucket{hookedBucket{b, hook}} }
		if unfenced {
			o.Wrap = func(b bucket.Bucket) bucket.Bucket { return hookedBucket{b, hook} }
		}
	}
	v, err := vault.Open(t.Context(), vault.Settings{Name: "main", To: "file://" + dir}, o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// atEachRequest runs something with a hook before each of its requests, where the place
// has a fence and where it has none; without -long before every other.
func atEachRequest(t *testing.T, run func(t *testing.T, n int64, unfenced bool) (ended bool)) {
	for from, unfenced := range []bool{false, true} {
		t.Run(fmt.Sprint("unfenced ", unfenced), func(t *testing.T) {
			t.Parallel()
			step := int64(2)
			if *long {
				step = 1
			}
			atEach(t, int64(from), step, func(t *testing.T, n int64) bool { return run(t, n, unfenced) })
		})
	}
}

func atEach(t *testing.T, from, step int64, run func(t *testing.T, n int64) (ended bool)) {
	for n := from + 1; ; n += step {
		ended := false
		synctest.Test(t, func(t *testing.T) { ended = run(t, n) })
		if ended || t.Failed() {
			t.Logf("%d requests", n-1)
			return
		}
	}
}

// TestAPruneInTheMiddleOfABackupLosesNothing lets another daemon forget and prune
// before each request of a backup which needs what only the forgotten snapshot has.
func TestAPruneInTheMiddleOfABackupLosesNothing(t *testing.T) {
	t.Parallel()
	atEachRequest(t, func(t *testing.T, n int64, unfenced bool) bool {
		c := &clock{}
		st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
		plainly := openIn(t, dir, pass, unfenced)
		ids, _ := grown(t, plainly, st, 3)
		publish(t, st, "r", "again", plain("image 0"))
		hook, done := atRequest(n, func() {
			forget(t, plainly, ids[0])
			pruneBy(t, plainly, newStore(t, c), atOnce)
		})
		r := backup(t, openIn(t, dir, hook, unfenced), st)
		if len(r.Failed) > 0 {
			t.Errorf("got %+v", r.Failed)
		}
		allSound(t, plainly)
		givesBack(t, plainly, c, r.Snapshot, st)
		if records := files(t, dir, "vault/snapshots"); done.Load() && len(records) != len(snapshotsOf(t, plainly)) {
			t.Errorf("got %v for %v", records, snapshotsOf(t, plainly))
		}
		return !done.Load()
	})
}

// TestABackupInTheMiddleOfAPruneLosesNothing lets a prune stand still before each of
// its requests, until another daemon has backed up what is about to be removed.
func TestABackupInTheMiddleOfAPruneLosesNothing(t *testing.T) {
	t.Parallel()
	atEachRequest(t, func(t *testing.T, n int64, unfenced bool) bool {
		c := &clock{}
		st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
		plainly := openIn(t, dir, pass, unfenced)
		ids, _ := grown(t, plainly, st, 3)
		forget(t, plainly, ids[0])
		publish(t, st, "r", "again", plain("image 0"))
		hook, done := atRequest(n, func() { backup(t, plainly, st) })
		_, err := openIn(t, dir, hook, unfenced).Prune(t.Context(), newStore(t, c), atOnce)
		if err != nil && !done.Load() {
			t.Error(err)
		}
		allSound(t, plainly)
		if done.Load() {
			givesBack(t, plainly, c, "", st)
		}
		// Whatever became of it, the next one ends it.
		pruneBy(t, plainly, st, atOnce)
		allSound(t, plainly)
		if h := headOf(t, dir); h.Prune != nil {
			t.Errorf("got %+v left", h.Prune)
		}
		return !done.Load()
	})
}

// TestAPruneInTheMiddleOfAPruneLosesNothing has two that think each other dead.
func TestAPruneInTheMiddleOfAPruneLosesNothing(t *testing.T) {
	t.Parallel()
	atEachRequest(t, func(t *testing.T, n int64, unfenced bool) bool {
		c := &clock{}
		st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
		plainly := openIn(t, dir, pass, unfenced)
		ids, _ := grown(t, plainly, st, 3)
		forget(t, plainly, ids[0])
		hook, done := atRequest(n, func() { pruneBy(t, plainly, newStore(t, c), atOnce) })
		_, err := openIn(t, dir, hook, unfenced).Prune(t.Context(), newStore(t, c), atOnce)
		if err != nil && !done.Load() {
			t.Error(err)
		}
		publish(t, st, "r", "again", plain("image 0"))
		backup(t, plainly, st)
		allSound(t, plainly)
		return !done.Load()
	})
}

// TestAPruneThatIsCutAtAnyRequestLosesNothing cuts it at each, with and without the
// answer; the next backup waits until it is dead, ends it, and is whole.
func TestAPruneThatIsCutAtAnyRequestLosesNothing(t *testing.T) {
	t.Parallel()
	for _, answer := range []bool{false, true} {
		atEach(t, 0, 1, func(t *testing.T, n int64) bool {
			const unfenced = true
			c := &clock{}
			st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
			plainly := openIn(t, dir, pass, unfenced)
			ids, _ := grown(t, plainly, st, 3)
			forget(t, plainly, ids[0])
			cut, err := vault.Open(t.Context(), vault.Settings{Name: "main", To: "file://" + dir}, vault.Options{Wrap: func(b bucket.Bucket) bucket.Bucket { return cutBucket{b, writesLeft(n), answer} }})
			if err != nil {
				t.Fatal(err)
			}
			_, err = cut.Prune(t.Context(), st, atOnce)
			allSound(t, plainly)
			publish(t, st, "r", "again", plain("image 0"))
			backup(t, plainly, st)
			allSound(t, plainly)
			givesBack(t, plainly, c, "", st)
			pruneBy(t, plainly, st, atOnce)
			allSound(t, plainly)
			return err == nil
		})
	}
}
