package vault_test

import (
	"context"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"pgregory.net/rapid"

	"lastro/mirror"
	"lastro/store"
	"lastro/store/vault"
	"lastro/store/vault/bucket"
	"lastro/store/vault/bucket/buckettest"
	"lastro/store/vault/bucket/s3"
	"lastro/store/vault/catalog"
	"lastro/store/vault/layout"
)

const (
	day   = 24 * time.Hour
	month = 30 * day
)

// later is the real time and what was added to it: a server checks signatures by it.
type later struct{ by atomic.Int64 }

func (l *later) now() time.Time       { return time.Now().Add(time.Duration(l.by.Load())) }
func (l *later) wait(d time.Duration) { l.by.Add(int64(d)) }

// locked opens a vault that locks for a month.
func locked(t tester, endpoint string, l *later) *vault.Vault {
	t.Helper()
	set := s3.Settings{Endpoint: endpoint, Credentials: s3.Credentials{AccessKey: buckettest.AccessKey, SecretKey: buckettest.SecretKey},
		ObjectLock: &s3.ObjectLock{Mode: "governance", Retain: month}}
	v, err := vault.Open(t.Context(), vault.Settings{Name: "main", To: "s3://bucket/p", S3: set}, vault.Options{Now: l.now})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// wantLocked looks at everything that the snapshots need.
func wantLocked(t tester, v *vault.Vault) (least time.Time) {
	t.Helper()
	h, err := v.Heads(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	keys := slices.AppendSeq([]string{layout.KeyConfig, layout.KeyHead}, maps.Keys(liveOf(t, v, false)))
	for _, e := range h.Snapshots {
		keys = append(keys, e.Record)
	}
	for _, key := range keys {
		info, err := v.Bucket.Head(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if info.LockedUntil.Before(h.Locked) {
			t.Errorf("%s is locked until %s, and the head says %s", key, info.LockedUntil, h.Locked)
		}
	}
	return h.Locked
}

// TestLocksOnAnS3Server extends what stays and lets go what does not, on a real server.
func TestLocksOnAnS3Server(t *testing.T) {
	t.Parallel()
	endpoint, _ := buckettest.Gateway(t)
	buckettest.MakeBucket(t, endpoint, "bucket")
	c, l := &clock{}, &later{}
	v, st := locked(t, endpoint, l), newStore(t, c)
	p, err := v.Init(t.Context())
	if err != nil || !p.Config.Proven.Lock || p.Config.Mode() != layout.Strict || p.Left != 1 {
		t.Fatalf("got %+v, %v", p, err)
	}
	goes, other := plain("goes"), newStore(t, c)
	publish(t, other, "r", "goes", goes)
	first := backup(t, v, other)
	if until := wantLocked(t, v); first.Extended != 0 || until.Before(l.now().Add(month-time.Hour)) || !first.LockedUntil.Equal(until) {
		t.Errorf("got %+v, locked until %s; want a month, by writing alone", first, until)
	}
	publish(t, st, "r", "stays", plain("stays"))
	backup(t, v, st)
	if _, err := v.Forget(t.Context(), vault.ForgetOptions{IDs: []string{first.Snapshot}, AllowLastOfStore: true}); err != nil {
		t.Fatal(err)
	}
	l.wait(14 * day)
	if r := backup(t, v, st); r.Extended != 0 || r.Requests > 10 {
		t.Errorf("got %+v, want nothing extended before half of the time is over", r)
	}
	l.wait(2 * day)
	if r := backup(t, v, st); r.Extended == 0 {
		t.Errorf("got %+v, want the locks extended", r)
	}
	if until := wantLocked(t, v); until.Before(l.now().Add(month - time.Hour)) {
		t.Errorf("locked until %s, want a month from now", until)
	}
	info, err := v.Bucket.Head(t.Context(), layout.BlobKey(goes.root.desc.Digest))
	if err != nil || !info.LockedUntil.Before(l.now().Add(15*day)) {
		t.Errorf("what no snapshot needs: got %s, %v, want its first lock", info.LockedUntil, err)
	}
	backup(t, v, other) // its ledger knows that all was sent
	wantLocked(t, v)
}

// TestWhatAnotherWroteOverIsLockedBelow keeps the right bytes when a newer version hides them.
func TestWhatAnotherWroteOverIsLockedBelow(t *testing.T) {
	t.Parallel()
	endpoint, _ := buckettest.Gateway(t)
	buckettest.MakeBucket(t, endpoint, "bucket")
	l := &later{}
	v, st := locked(t, endpoint, l), newStore(t, &clock{})
	img := plain("one")
	publish(t, st, "r", "1", img)
	backup(t, v, st)
	key := layout.BlobKey(img.blobs[0].desc.Digest)
	right, err := v.Bucket.Head(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Bucket.Replace(t.Context(), key, bucket.Bytes(make([]byte, right.Size))); err != nil {
		t.Fatal(err)
	}
	l.wait(20 * day)
	backup(t, v, st)
	kept, err := v.Bucket.Remove(t.Context(), []bucket.Info{right})
	if err != nil || len(kept) != 1 {
		t.Fatalf("got %v, %v; want the right version kept", kept, err)
	}
	if want := l.now().Add(29 * day).Format("2006-01"); !strings.Contains(kept[0].Err.Error(), "locked until "+want) {
		t.Errorf("got %v, want its lock extended", kept[0].Err)
	}
}

func TestWithoutLockInTheBucketNothingIsMadeOrSaved(t *testing.T) {
	for name, c := range map[string]struct {
		server *buckettest.Server
		want   string
	}{
		"none":              {&buckettest.Server{}, "the bucket has no Object Lock"},
		"one that is a lie": {&buckettest.Server{Lock: true, IgnoreLock: true}, "the bucket removes what is locked"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(c.server)
			t.Cleanup(server.Close)
			st := newStore(t, &clock{})
			publish(t, st, "r", "1", plain("one"))
			_, err := locked(t, server.URL, &later{}).Backup(t.Context(), st, "test", nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if keys := c.server.Keys(); len(keys) > 0 {
				t.Errorf("got %q, want nothing", keys)
			}
		})
	}
}

// headBucket does something before the n-th swap of the head.
type headBucket struct {
	bucket.Bucket
	n    *atomic.Int64
	does func()
}

func (b headBucket) Swap(ctx context.Context, key, etag string, data []byte) (string, error) {
	if key == layout.KeyHead && b.n.Add(-1) == 0 {
		b.does()
	}
	return b.Bucket.Swap(ctx, key, etag, data)
}

// onFake opens a vault that locks, on a small server, with something before its n-th
// commit, which gets the same vault without locks.
func onFake(t *testing.T, l *later, n int64, does func(plainly *vault.Vault)) (locks *vault.Vault, endpoint string, fake *buckettest.Server) {
	t.Helper()
	fake = &buckettest.Server{Lock: true}
	server := httptest.NewServer(fake)
	t.Cleanup(server.Close)
	set := vault.Settings{Name: "main", To: "s3://bucket/p", S3: s3.Settings{Endpoint: server.URL, Credentials: s3.Credentials{AccessKey: "k", SecretKey: "s"}}}
	plainly, err := vault.Open(t.Context(), set, vault.Options{Now: l.now})
	if err == nil {
		_, err = plainly.Init(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	var left atomic.Int64
	left.Store(n)
	set.S3.ObjectLock = &s3.ObjectLock{Mode: "governance", Retain: month}
	locks, err = vault.Open(t.Context(), set, vault.Options{Now: l.now, Wrap: func(b bucket.Bucket) bucket.Bucket {
		return headBucket{b, &left, func() { does(plainly) }}
	}})
	if err != nil {
		t.Fatal(err)
	}
	return locks, server.URL, fake
}

// TestABackupWithoutLocksComesInBetween has it commit before a backup's own commit, and
// before that of an extension.
func TestABackupWithoutLocksComesInBetween(t *testing.T) {
	for _, n := range []int64{3, 4} {
		st, other, l := newStore(t, &clock{}), newStore(t, &clock{}), &later{}
		publish(t, st, "r", "1", plain("one"))
		publish(t, other, "s", "2", plain("two"))
		came := false
		v, _, _ := onFake(t, l, n, func(plainly *vault.Vault) { backup(t, plainly, other); came = true })
		backup(t, v, st) // two commits: its config was not locked
		publish(t, st, "r", "1", plain("more"))
		l.wait(20 * day)
		r := backup(t, v, st)
		if until := wantLocked(t, v); !came || r.Extended == 0 || until.Before(l.now().Add(month-time.Hour)) {
			t.Errorf("before commit %d: came %v, got %+v, locked until %s", n, came, r, until)
		}
	}
}

// TestAnExtensionComesInBetween has another daemon lock all that its snapshot needs
// before the commit of a backup that needs what a forgotten one had.
func TestAnExtensionComesInBetween(t *testing.T) {
	st, other, l := newStore(t, &clock{}), newStore(t, &clock{}), &later{}
	publish(t, st, "r", "1", plain("one"))
	publish(t, other, "s", "2", plain("two"))
	var second *vault.Vault
	extended := 0
	v, endpoint, _ := onFake(t, l, 3, func(*vault.Vault) { extended = backup(t, second, other).Extended })
	first := backup(t, v, st) // two commits: its config was not locked
	second = locked(t, endpoint, l)
	backup(t, second, other)
	if _, err := second.Forget(t.Context(), vault.ForgetOptions{IDs: []string{first.Snapshot}, AllowLastOfStore: true}); err != nil {
		t.Fatal(err)
	}
	l.wait(20 * day)
	backup(t, v, st)
	if wantLocked(t, v); extended == 0 {
		t.Error("the other daemon did not extend")
	}
}

func TestWhereSomethingIsDamagedTheRestIsLockedAndItIsSaid(t *testing.T) {
	st, l := newStore(t, &clock{}), &later{}
	v, _, fake := onFake(t, l, -1, nil)
	publish(t, st, "r", "1", plain("one"))
	backup(t, v, st)
	old, err := v.Heads(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	publish(t, st, "r", "2", plain("two"))
	second := backup(t, v, st)
	if err := v.Bucket.Replace(t.Context(), layout.BlobKey(old.Snapshots[0].Root), bucket.Bytes([]byte("damaged"))); err != nil {
		t.Fatal(err)
	}
	l.wait(20 * day)
	_, err = v.Backup(t.Context(), st, "test", nil)
	if err == nil || !strings.Contains(err.Error(), "is saved, but: extend the locks in vault main: snapshot "+old.Snapshots[0].ID) {
		t.Errorf("got %v, want it said that the snapshot is saved and what is damaged", err)
	}
	h, err := v.Heads(t.Context())
	if err != nil || len(h.Snapshots) != 3 || !h.Locked.Equal(second.LockedUntil) {
		t.Errorf("got %d snapshots, locked until %s, %v; want three and the time of before", len(h.Snapshots), h.Locked, err)
	}
	if until := fake.LockedUntil("p/" + layout.BlobKey(plain("two").root.desc.Digest)); until.Before(l.now().Add(month - time.Hour)) {
		t.Errorf("what is sound is locked until %s, want a month", until)
	}
}

func TestAVaultOfBeforeIsLockedByTheNextBackup(t *testing.T) {
	fake, l, st := &buckettest.Server{Lock: true}, &later{}, newStore(t, &clock{})
	server := httptest.NewServer(fake)
	t.Cleanup(server.Close)
	set := s3.Settings{Endpoint: server.URL, Credentials: s3.Credentials{AccessKey: "k", SecretKey: "s"}}
	plainly, err := vault.Open(t.Context(), vault.Settings{Name: "main", To: "s3://bucket/p", S3: set}, vault.Options{Now: l.now})
	if err != nil {
		t.Fatal(err)
	}
	publish(t, st, "r", "1", plain("one"))
	backup(t, plainly, st)
	v := locked(t, server.URL, l)
	if r := backup(t, v, st); r.Extended == 0 || wantLocked(t, v).IsZero() {
		t.Errorf("got %+v, want all of it locked", r)
	}
	publish(t, st, "r", "2", plain("two"))
	backup(t, plainly, st)
	if h, err := v.Heads(t.Context()); err != nil || !h.Locked.IsZero() {
		t.Errorf("got %s, %v; want it unknown after a backup without locks", h.Locked, err)
	}
	if r := backup(t, v, st); r.Extended == 0 || wantLocked(t, v).IsZero() {
		t.Errorf("got %+v, want all of it locked", r)
	}
}

// TestLiveIsAllThatSnapshotsNeed compares it with what lies in a vault of one backup.
func TestLiveIsAllThatSnapshotsNeed(t *testing.T) {
	c, dir := &clock{}, filepath.Join(t.TempDir(), "vault")
	v, st := openVault(t, dir, c, nil), newStore(t, c)
	sample(t, st)
	backup(t, v, st)
	want := map[string]int64{}
	for info, err := range v.Bucket.List(t.Context(), layout.DirBlobs) {
		if err != nil {
			t.Fatal(err)
		}
		want[info.Key] = info.Size
	}
	if diff := cmp.Diff(want, liveOf(t, v, false)); diff != "" {
		t.Error(diff)
	}
	publish(t, st, "r", "more", plain("more"))
	backup(t, v, st)
	lost := plain("more").root.desc.Digest
	if err := os.Remove(filepath.Join(dir, layout.BlobKey(lost))); err != nil {
		t.Fatal(err)
	}
	got := liveOf(t, v, true)
	for key := range want {
		if _, there := got[key]; !there {
			t.Errorf("%s is not live any more", key)
		}
	}
}

func liveOf(t tester, v *vault.Vault, damaged bool) map[string]int64 {
	t.Helper()
	h, err := v.Heads(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	live, err := v.Live(t.Context(), h.Snapshots, fromVault(v))
	if _, bad := catalog.Damage(err); err != nil && !bad || bad != damaged {
		t.Fatalf("got %v, want damage: %v", err, damaged)
	}
	keys := map[string]int64{}
	for d, size := range live {
		keys[layout.BlobKey(d)] = size
	}
	return keys
}

func fromVault(v *vault.Vault) func(context.Context, ocispec.Descriptor) (mirror.Manifest, error) {
	return func(ctx context.Context, desc ocispec.Descriptor) (mirror.Manifest, error) {
		m, _, err := v.Manifest(ctx, desc)
		return m, err
	}
}

// daemons are two that back up to one vault, on the days that are drawn.
type daemons struct {
	l      later
	vaults [2]*vault.Vault
	stores [2]*store.Store
}

func newDaemons(t *rapid.T) *daemons {
	d, c := &daemons{}, &clock{}
	server := httptest.NewServer(&buckettest.Server{Lock: true, Now: d.l.now})
	t.Cleanup(server.Close)
	for i := range d.stores {
		dir, err := os.MkdirTemp("", "locks")
		if err != nil {
			t.Fatal(err)
		}
		d.stores[i], d.vaults[i] = openStore(t, dir, c, nil), locked(t, server.URL, &d.l)
		t.Cleanup(func() { _, _ = d.stores[i].Close(), os.RemoveAll(dir) })
	}
	if _, err := d.vaults[0].Init(t.Context()); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *daemons) one(t *rapid.T) (*vault.Vault, *store.Store) {
	i := rapid.IntRange(0, 1).Draw(t, "daemon")
	return d.vaults[i], d.stores[i]
}

func (d *daemons) publish(t *rapid.T) {
	_, st := d.one(t)
	name := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"}).Draw(t, "image")
	publish(t, st, rapid.SampledFrom([]string{"r", "s"}).Draw(t, "repo"), "latest", plain(name))
}

func (d *daemons) backup(t *rapid.T) {
	v, st := d.one(t)
	r := backup(t, v, st)
	if until := wantLocked(t, v); until.Before(d.l.now().Add(month/2-time.Hour)) || !until.Equal(r.LockedUntil) {
		t.Fatalf("locked until %s, reported %s: want half of a month", until, r.LockedUntil)
	}
}

func (d *daemons) forget(t *rapid.T) {
	list, err := d.vaults[0].List(t.Context())
	if err != nil || len(list.Snapshots) < 2 {
		return
	}
	id := rapid.SampledFrom(list.Snapshots).Draw(t, "snapshot").ID
	if _, err := d.vaults[0].Forget(t.Context(), vault.ForgetOptions{IDs: []string{id}, AllowLastOfStore: true}); err != nil {
		t.Fatal(err)
	}
}

func (d *daemons) wait(t *rapid.T) {
	d.l.wait(time.Duration(rapid.IntRange(1, 20).Draw(t, "days")) * day)
}

// TestWhatSnapshotsNeedIsAlwaysLocked does anything in any order.
func TestWhatSnapshotsNeedIsAlwaysLocked(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := newDaemons(t)
		for range rapid.IntRange(4, 24).Draw(t, "steps") {
			rapid.SampledFrom([]func(*rapid.T){d.publish, d.publish, d.backup, d.backup, d.forget, d.wait}).Draw(t, "step")(t)
		}
		d.backup(t)
	})
}
