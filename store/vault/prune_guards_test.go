package vault_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"lastro/store/vault"
	"lastro/store/vault/bucket"
	"lastro/store/vault/layout"
	"lastro/store/vault/prune"
)

// forgottenIn is a vault in a bubble whose first snapshot was forgotten, and a store
// that has published again what only that one had.
func forgottenIn(t *testing.T, c *clock) (dir string, plainly *vault.Vault, again func()) {
	t.Helper()
	st := newStore(t, c)
	dir = filepath.Join(t.TempDir(), "vault")
	plainly = openIn(t, dir, pass, true)
	ids, _ := grown(t, plainly, st, 3)
	verified(t, plainly, ids[0]) // its receipt goes with it
	forget(t, plainly, ids[0])
	return dir, plainly, func() {
		publish(t, st, "r", "again", plain("image 0"))
		backup(t, plainly, st)
		givesBack(t, plainly, c, "", st)
	}
}

// wrapped opens a vault of the bubble behind a bucket.
func wrapped(t *testing.T, dir string, wrap func(bucket.Bucket) bucket.Bucket) *vault.Vault {
	t.Helper()
	v, err := vault.Open(t.Context(), vault.Settings{Name: "main", To: "file://" + dir}, vault.Options{Wrap: wrap})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// sleepyBucket belongs to a machine that sleeps after it has read the head.
type sleepyBucket struct {
	bucket.Bucket
	sleep func()
}

func (b sleepyBucket) Load(ctx context.Context, key string) (bucket.Record, error) {
	rec, err := b.Bucket.Load(ctx, key)
	if key == layout.KeyHead {
		b.sleep()
	}
	return rec, err
}

// TestAMachineThatSleptLooksAgainBeforeItRemoves sleeps after each reading of the head,
// until another has taken over and saved again what is about to go.
func TestAMachineThatSleptLooksAgainBeforeItRemoves(t *testing.T) {
	t.Parallel()
	for n := int64(1); ; n++ {
		slept := false
		synctest.Test(t, func(t *testing.T) {
			dir, plainly, again := forgottenIn(t, &clock{})
			var heads atomic.Int64
			v := wrapped(t, dir, func(b bucket.Bucket) bucket.Bucket {
				return sleepyBucket{b, func() {
					if heads.Add(1) == n {
						slept = true
						again()
					}
				}}
			})
			if _, err := v.Prune(t.Context(), newStore(t, &clock{}), atOnce); err != nil && !slept {
				t.Error(err)
			}
			allSound(t, plainly)
		})
		if !slept || t.Failed() {
			return
		}
	}
}

// lateBucket loses the answer of the first removal and carries it out later.
type lateBucket struct {
	bucket.Bucket
	after time.Duration
	wg    *sync.WaitGroup
	once  *sync.Once
}

func (b lateBucket) Remove(ctx context.Context, objects []bucket.Info) (kept []bucket.Kept, err error) {
	late := false
	b.once.Do(func() {
		late = true
		b.wg.Go(func() {
			time.Sleep(b.after)
			_, _ = b.Bucket.Remove(context.WithoutCancel(ctx), objects)
		})
	})
	if late {
		return nil, errors.New("connection reset")
	}
	return b.Bucket.Remove(ctx, objects)
}

func TestARemovalThatIsCarriedOutLateRemovesNothingThatIsNeeded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir, plainly, again := forgottenIn(t, &clock{})
		var wg sync.WaitGroup
		v := wrapped(t, dir, func(b bucket.Bucket) bucket.Bucket {
			return onlyBlobs{b, lateBucket{b, 10 * time.Minute, &wg, new(sync.Once)}}
		})
		began := time.Now()
		if _, err := v.Prune(t.Context(), newStore(t, &clock{}), atOnce); err == nil {
			t.Error("got no error of a removal that had no answer")
		}
		again()
		if waited := time.Since(began); waited < 10*time.Minute {
			t.Errorf("a backup went on after %s", waited)
		}
		wg.Wait()
		allSound(t, plainly)
	})
}

// onlyBlobs removes blobs through another bucket.
type onlyBlobs struct {
	bucket.Bucket
	blobs bucket.Remover
}

func (b onlyBlobs) Remove(ctx context.Context, objects []bucket.Info) ([]bucket.Kept, error) {
	if len(objects) > 0 && strings.HasPrefix(objects[0].Key, layout.DirBlobs) {
		return b.blobs.Remove(ctx, objects)
	}
	return b.Bucket.Remove(ctx, objects)
}

func TestWhoGivesUpInGoodOrderKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir, plainly, again := forgottenIn(t, &clock{})
		v := openIn(t, dir, func(op, key string) error {
			if op == "head" && strings.HasPrefix(key, layout.DirBlobs) {
				return errors.New("503 Service Unavailable")
			}
			return nil
		}, true)
		began := time.Now()
		if _, err := v.Prune(t.Context(), newStore(t, &clock{}), atOnce); err == nil {
			t.Error("got no error")
		}
		if !headOf(t, dir).Sweeping() {
			t.Fatal("the prune was not cut short")
		}
		again()
		if waited := time.Since(began); waited > time.Minute {
			t.Errorf("a backup waited for %s", waited)
		}
		allSound(t, plainly)
	})
}

// TestASlowPruneIsNotTakenForDead removes for longer than a lease, while another waits.
func TestASlowPruneIsNotTakenForDead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir, plainly, again := forgottenIn(t, &clock{})
		v := openIn(t, dir, func(op, _ string) error {
			if op == "remove" {
				time.Sleep(14 * time.Minute)
			}
			return nil
		}, true)
		var wg sync.WaitGroup
		wg.Go(func() {
			if r, err := v.Prune(t.Context(), newStore(t, &clock{}), atOnce); err != nil || r.Removed == 0 {
				t.Errorf("got %+v, %v", r, err)
			}
		})
		time.Sleep(time.Minute)
		if !headOf(t, dir).Sweeping() {
			t.Fatal("the prune does not go on")
		}
		began := time.Now()
		again()
		if waited := time.Since(began); waited < 20*time.Minute {
			t.Errorf("the backup waited for %s only", waited)
		}
		wg.Wait()
		allSound(t, plainly)
	})
}

// lockedBucket has locks that Head tells of.
type lockedBucket struct {
	bucket.Bucket
	key   string
	until time.Time
	asked *atomic.Bool
}

func (b lockedBucket) Head(ctx context.Context, key string) (bucket.Info, error) {
	i, err := b.Bucket.Head(ctx, key)
	if key == b.key {
		i.LockedUntil = b.until
	}
	return i, err
}

func (b lockedBucket) Remove(ctx context.Context, objects []bucket.Info) ([]bucket.Kept, error) {
	if slices.ContainsFunc(objects, func(o bucket.Info) bool { return o.Key == b.key }) {
		b.asked.Store(true)
	}
	return b.Bucket.Remove(ctx, objects)
}

func TestWhatIsLockedIsNotAskedFor(t *testing.T) {
	for name, passed := range map[string]bool{"a lock that holds": false, "a lock that has ended": true} {
		t.Run(name, func(t *testing.T) {
			c := &clock{}
			st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
			plainly := openVault(t, dir, c, nil)
			ids, _ := grown(t, plainly, st, 3)
			forget(t, plainly, ids[0])
			until := c.now().Add(time.Hour)
			if passed {
				until = c.now().Add(-time.Hour)
			}
			var asked atomic.Bool
			v := openVault(t, dir, c, func(b bucket.Bucket) bucket.Bucket {
				return lockedBucket{b, layout.BlobKey(layerOf("image 0")), until, &asked}
			})
			r := pruneBy(t, v, st, atOnce)
			if asked.Load() != passed || isThere(dir, layerOf("image 0")) == passed || (r.Locked == 0) != passed || r.Removed == 0 {
				t.Errorf("got %+v, asked for %t", r, asked.Load())
			}
		})
	}
}

// TestWhatHasAnotherSizeThanWasMarkedStays changes a blob and not its time.
func TestWhatHasAnotherSizeThanWasMarkedStays(t *testing.T) {
	c := &clock{}
	st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
	v := openVault(t, dir, c, newAged(c.now))
	ids, _ := grown(t, v, st, 3)
	forget(t, v, ids[0])
	o := vault.PruneOptions{MaxRemovals: 1, Grace: time.Hour}
	pruneBy(t, v, st, o)
	damage(t, dir, layerOf("image 0"))
	c.seconds.Add(2 * 3600)
	if r := pruneBy(t, v, st, o); r.Removed == 0 || !isThere(dir, layerOf("image 0")) {
		t.Errorf("got %+v", r)
	}
}

func TestAShareIsOfBlobsAndOfBytes(t *testing.T) {
	for _, c := range []struct {
		name string
		e    prune.GuardError
		want float64
	}{
		{name: "many small blobs", e: prune.GuardError{Blobs: 9, Of: 10, Bytes: 1, OfBytes: 100}, want: 0.9},
		{name: "one large blob", e: prune.GuardError{Blobs: 1, Of: 10, Bytes: 80, OfBytes: 100}, want: 0.8},
		{name: "nothing of nothing", e: prune.GuardError{}, want: 0},
	} {
		if got := c.e.Share(); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

// TestAVaultWithoutSnapshotsKeepsItsBlobs has blobs that are older than the head.
func TestAVaultWithoutSnapshotsKeepsItsBlobs(t *testing.T) {
	c := &clock{}
	st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
	v := openVault(t, dir, c, nil)
	if _, err := v.Init(t.Context()); err != nil {
		t.Fatal(err)
	}
	publish(t, st, "r", "1", plain("one"))
	cut := openVault(t, dir, c, func(b bucket.Bucket) bucket.Bucket { return cutBucket{b, writesLeft(4), false} })
	if _, err := cut.Backup(t.Context(), st, "test", nil); err == nil {
		t.Fatal("the backup was not cut short")
	}
	config, err := v.Config(t.Context())
	if err == nil {
		err = v.ChangeHead(t.Context(), config, func(*layout.Head) error { return nil })
	}
	if err != nil {
		t.Fatal(err)
	}
	before := files(t, dir, "blobs")
	if r := pruneBy(t, v, st, atOnce); r.Removed+r.Condemned > 0 || len(before) == 0 || !slices.Equal(before, files(t, dir, "blobs")) {
		t.Errorf("got %+v of %d blobs", r, len(before))
	}
}

func TestAMarkIsNotWrittenOverAnother(t *testing.T) {
	c := &clock{}
	st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
	plainly := openVault(t, dir, c, nil)
	ids, _ := grown(t, plainly, st, 3)
	forget(t, plainly, ids[0])
	o := vault.PruneOptions{MaxRemovals: 1, Grace: time.Hour}
	var first string
	v := openVault(t, dir, c, func(b bucket.Bucket) bucket.Bucket {
		return overtakenBucket{b, func() {
			pruneBy(t, plainly, st, o)
			first = headOf(t, dir).Prune.ID
		}, new(sync.Once)}
	})
	pruneBy(t, v, st, o)
	if got := headOf(t, dir).Prune.ID; got != first {
		t.Errorf("got the mark %s in place of %s", got, first)
	}
	plans := files(t, dir, "vault/prune")
	pruneBy(t, plainly, st, o)
	if got := files(t, dir, "vault/prune"); !slices.Equal(plans, got) {
		t.Errorf("got plans %v, want no other than %v while one waits", got, plans)
	}
}

// TestAPlanOfOtherBytesIsNotUsed puts a blob into a plan that was not marked.
func TestAPlanOfOtherBytesIsNotUsed(t *testing.T) {
	c := &clock{}
	st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
	v := openVault(t, dir, c, newAged(c.now))
	ids, _ := grown(t, v, st, 4)
	forget(t, v, ids[0])
	o := vault.PruneOptions{MaxRemovals: 1, Grace: time.Hour}
	pruneBy(t, v, st, o)
	forget(t, v, ids[1])
	path := filepath.Join(dir, headOf(t, dir).Prune.Plan)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := v.Bucket.Head(t.Context(), layout.BlobKey(layerOf("image 1")))
	if err != nil {
		t.Fatal(err)
	}
	entry := fmt.Sprintf(`"blobs": [{"digest": %q, "size": %d, "modified": %q},`, layerOf("image 1"), info.Size, info.Modified.Format(time.RFC3339Nano))
	if err := os.WriteFile(path, []byte(strings.Replace(string(raw), `"blobs": [`, entry, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	c.seconds.Add(2 * 3600)
	pruneBy(t, v, st, o)
	if !isThere(dir, layerOf("image 1")) {
		t.Error("a blob was removed that was never marked")
	}
}

// TestAPruneThatRemovesNothingMakesNobodyLearnAgain has all needed again that was marked.
func TestAPruneThatRemovesNothingMakesNobodyLearnAgain(t *testing.T) {
	c := &clock{}
	st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
	v := openVault(t, dir, c, newAged(c.now))
	publish(t, st, "r", "t", plain("one"))
	backup(t, v, st)
	raw := plain("two").blobs[1]
	if _, err := v.Bucket.Put(t.Context(), layout.BlobKey(raw.desc.Digest), bucket.Bytes(raw.raw)); err != nil {
		t.Fatal(err)
	}
	backup(t, v, st)
	o := vault.PruneOptions{MaxRemovals: 1, Grace: time.Hour}
	if r := pruneBy(t, v, st, o); r.Condemned != 1 {
		t.Fatalf("got %+v", r)
	}
	publish(t, st, "r", "u", plain("two"))
	backup(t, v, st)
	c.seconds.Add(2 * 3600)
	pruneBy(t, v, st, o)
	if h := headOf(t, dir); h.Prune != nil || h.Swept != "" {
		t.Errorf("got %+v", h)
	}
	allSound(t, v)
}

// TestARecordOfNoSnapshotGoesWithoutAnyBlob has two snapshots of the same.
func TestARecordOfNoSnapshotGoesWithoutAnyBlob(t *testing.T) {
	c := &clock{}
	st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
	v := openVault(t, dir, c, nil)
	publish(t, st, "r", "t", plain("one"))
	first := backup(t, v, st).Snapshot
	backup(t, v, st)
	forget(t, v, first)
	if r := pruneBy(t, v, st, atOnce); r.Records != 1 || r.Removed != 0 || len(files(t, dir, "vault/snapshots")) != 1 {
		t.Errorf("got %+v", r)
	}
	allSound(t, v)
}

func TestReceiptsOfForgottenSnapshotsAndOldPlansGo(t *testing.T) {
	c := &clock{}
	st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
	v := openVault(t, dir, c, nil)
	ids, _ := grown(t, v, st, 4)
	for i := range 2 {
		verified(t, v, ids[i])
		forget(t, v, ids[i])
		pruneBy(t, v, st, atOnce)
	}
	if got := files(t, dir, "vault/verified"); len(got) > 0 {
		t.Errorf("got %v", got)
	}
	if got := files(t, dir, "vault/prune"); len(got) != 1 {
		t.Errorf("got plans %v, want the last one", got)
	}
}

// TestStoresOfOneVaultGoOnFromTheirOwnSnapshots lets two take turns.
func TestStoresOfOneVaultGoOnFromTheirOwnSnapshots(t *testing.T) {
	c := &clock{}
	a, b := newStore(t, c), newStore(t, c)
	v := openVault(t, filepath.Join(t.TempDir(), "vault"), c, nil)
	publish(t, a, "a", "1", plain("a"))
	publish(t, b, "b", "1", plain("b"))
	own := backup(t, v, a).Snapshot
	backup(t, v, b)
	got := backup(t, v, a)
	if got.NewBlobs != 0 || got.Requests > 10 {
		t.Errorf("got %+v with nothing new", got)
	}
	if shown, err := v.Show(t.Context(), ""); err != nil || shown.Parent != own || len(shown.Repositories) != 1 || shown.Repositories[0].Name != "a" {
		t.Errorf("got %+v, %v", shown, err)
	}
}

// TestARestoreRemembersWhatStays restores after a prune, and a snapshot that is forgotten
// meanwhile.
func TestARestoreRemembersWhatStays(t *testing.T) {
	c := &clock{}
	st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
	plainly := openVault(t, dir, c, nil)
	ids, _ := grown(t, plainly, st, 4)
	forget(t, plainly, ids[0])
	pruneBy(t, plainly, st, atOnce)
	back := newStore(t, c)
	restore(t, plainly, back, vault.RestoreOptions{Snapshot: ids[3]})
	name, err := plainly.HeldAs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if held, err := back.Ledger().Held(t.Context(), name, []digest.Digest{layerOf("image 3")}); err != nil || len(held) != 1 {
		t.Errorf("got %v, %v; want what was restored known to be in the vault", held, err)
	}
	gone := newStore(t, c)
	v := openVault(t, dir, c, func(b bucket.Bucket) bucket.Bucket {
		hook, _ := atRequest(8, func() { forget(t, plainly, ids[1]) })
		return hookedBucket{b, hook}
	})
	restore(t, v, gone, vault.RestoreOptions{Snapshot: ids[1]})
	if held, err := gone.Ledger().Held(t.Context(), name, []digest.Digest{layerOf("image 1")}); err != nil || len(held) > 0 {
		t.Errorf("got %v, %v; want nothing remembered of a snapshot that is no more", held, err)
	}
}
