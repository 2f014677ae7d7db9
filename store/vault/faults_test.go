package vault_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
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

	"github.com/google/go-cmp/cmp"

	"lastro/store/ledger"
	"lastro/store/vault"
	"lastro/store/vault/bucket"
)

var long = flag.Bool("long", false, "try every point of failure, not some of them")

var errCut = errors.New("the power went")

// cutBucket lets some writes pass; then every call fails.
type cutBucket struct {
	bucket.Bucket
	writes *atomic.Int64 // that still pass
	answer bool          // the last one takes place, and only its answer is lost
}

func (b cutBucket) write(do func() error) error {
	switch left := b.writes.Add(-1); {
	case left > 0:
		return do()
	case left == 0 && b.answer:
		return errors.Join(do(), errCut)
	}
	return errCut
}

func (b cutBucket) read() error {
	if b.writes.Load() <= 0 {
		return errCut
	}
	return nil
}

func (b cutBucket) Put(ctx context.Context, key string, o bucket.Object) (created bool, err error) {
	err = b.write(func() (err error) { created, err = b.Bucket.Put(ctx, key, o); return err })
	return created, err
}

func (b cutBucket) Replace(ctx context.Context, key string, o bucket.Object) error {
	return b.write(func() error { return b.Bucket.Replace(ctx, key, o) })
}

func (b cutBucket) Swap(ctx context.Context, key, etag string, data []byte) (tag string, err error) {
	err = b.write(func() (err error) { tag, err = b.Bucket.Swap(ctx, key, etag, data); return err })
	return tag, err
}

func (b cutBucket) Remove(ctx context.Context, objects []bucket.Info) (kept []bucket.Kept, err error) {
	err = b.write(func() (err error) { kept, err = b.Bucket.Remove(ctx, objects); return err })
	return kept, err
}

func (b cutBucket) Head(ctx context.Context, key string) (bucket.Info, error) {
	if err := b.read(); err != nil {
		return bucket.Info{}, err
	}
	return b.Bucket.Head(ctx, key)
}

func (b cutBucket) Load(ctx context.Context, key string) (bucket.Record, error) {
	if err := b.read(); err != nil {
		return bucket.Record{}, err
	}
	return b.Bucket.Load(ctx, key)
}

func (b cutBucket) Get(ctx context.Context, key string, offset int64) (io.ReadCloser, bucket.Info, error) {
	if err := b.read(); err != nil {
		return nil, bucket.Info{}, err
	}
	return b.Bucket.Get(ctx, key, offset)
}

func (b cutBucket) List(ctx context.Context, prefix string) iter.Seq2[bucket.Info, error] {
	if err := b.read(); err != nil {
		return func(yield func(bucket.Info, error) bool) { yield(bucket.Info{}, err) }
	}
	return b.Bucket.List(ctx, prefix)
}

// TestABackupThatIsCutAtAnyWriteLosesNothing cuts a second backup at each write.
func TestABackupThatIsCutAtAnyWriteLosesNothing(t *testing.T) {
	t.Parallel()
	for _, answer := range []bool{false, true} {
		name := map[bool]string{false: "the write does not take place", true: "the answer of the write is lost"}[answer]
		t.Run(name, func(t *testing.T) { cutEverywhere(t, answer) })
	}
}

func cutEverywhere(t *testing.T, answer bool) {
	c := &clock{}
	st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
	sample(t, st)
	first := backup(t, openVault(t, dir, c, nil), st)
	before := stateOf(t, st)
	for k := range int64(60) {
		publish(t, st, "r/new", "moving", plain(fmt.Sprint("new ", answer, k)))
		var writes atomic.Int64
		writes.Store(k + 1)
		_, err := openVault(t, dir, c, func(b bucket.Bucket) bucket.Bucket { return cutBucket{b, &writes, answer} }).Backup(t.Context(), st, "test", nil)
		done := writes.Load() > 0
		if err == nil && !done && writes.Load() < -1 {
			t.Errorf("cut at write %d: no error", k)
		}
		v := openVault(t, dir, c, nil)
		wantSound(t, v, "") // whatever is newest is whole
		wantSound(t, v, first.Snapshot)
		backup(t, v, st)
		wantSound(t, v, "")
		if done && err == nil {
			restoresTo(t, v, c, first.Snapshot, before)
			restoresTo(t, v, c, "", stateOf(t, st))
			t.Logf("%d writes", k)
			return
		}
	}
	t.Fatal("the backup never ends")
}

func restoresTo(t *testing.T, v *vault.Vault, c *clock, snapshot string, want state) {
	t.Helper()
	back := newStore(t, c)
	if r := restore(t, v, back, vault.RestoreOptions{Snapshot: snapshot}); len(r.Failed) > 0 {
		t.Errorf("got %+v", r.Failed)
	}
	if diff := cmp.Diff(want, stateOf(t, back)); diff != "" {
		t.Error(diff)
	}
}

// TestTheFirstBackupMayBeCutAnywhere makes sure that what it leaves is taken for a
// vault or for an empty place.
func TestTheFirstBackupMayBeCutAnywhere(t *testing.T) {
	c := &clock{}
	st := newStore(t, c)
	publish(t, st, "r", "1", plain("one"))
	for k := int64(1); ; k++ {
		dir := filepath.Join(t.TempDir(), "vault")
		var writes atomic.Int64
		writes.Store(k)
		_, err := openVault(t, dir, c, func(b bucket.Bucket) bucket.Bucket { return cutBucket{b, &writes, k%2 == 0} }).Backup(t.Context(), st, "test", nil)
		v := openVault(t, dir, c, nil)
		backup(t, v, st)
		wantSound(t, v, "")
		if err == nil && writes.Load() > 0 {
			return
		}
	}
}

// TestWhatAnInterruptedBackupSentIsNotSentAgain counts what the next one creates.
func TestWhatAnInterruptedBackupSentIsNotSentAgain(t *testing.T) {
	c := &clock{}
	st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
	sample(t, st)
	if _, err := openVault(t, dir, c, nil).Init(t.Context()); err != nil {
		t.Fatal(err)
	}
	var writes atomic.Int64
	writes.Store(14)
	if _, err := openVault(t, dir, c, func(b bucket.Bucket) bucket.Bucket { return cutBucket{b, &writes, false} }).Backup(t.Context(), st, "test", nil); err == nil {
		t.Fatal("the backup was not interrupted")
	}
	sent := len(files(t, dir, "blobs"))
	v := openVault(t, dir, c, nil)
	if list, err := v.List(t.Context()); err == nil && len(list.Snapshots) > 0 {
		t.Errorf("got snapshots %+v of an interrupted backup", list.Snapshots)
	}
	r := backup(t, v, st)
	if all := len(files(t, dir, "blobs")); sent == 0 || r.NewBlobs != all-sent {
		t.Errorf("got %d new blobs, want the %d that were not there", r.NewBlobs, all-sent)
	}
}

// damages are what a disk or a person may do to an object.
func damages() map[string]func(path string) error {
	rewrite := func(change func([]byte) []byte) func(string) error {
		return func(path string) error {
			raw, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(path, change(raw), 0o600)
		}
	}
	return map[string]func(string) error{
		"lost":      os.Remove,
		"truncated": rewrite(func(b []byte) []byte { return b[:len(b)/2] }),
		"grown":     rewrite(func(b []byte) []byte { return append(b, 'x') }),
		"flipped":   rewrite(func(b []byte) []byte { b[len(b)/2] ^= 1; return b }),
		"emptied":   rewrite(func([]byte) []byte { return nil }),
		"a folder":  func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
	}
}

// TestAnyDamageIsFoundNamedAndHealed damages every blob of a vault in turn.
func TestAnyDamageIsFoundNamedAndHealed(t *testing.T) {
	t.Parallel()
	for name, damage := range damages() {
		t.Run(name, func(t *testing.T) {
			c := &clock{}
			st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
			sample(t, st)
			v := openVault(t, dir, c, nil)
			backup(t, v, st)
			for i, key := range files(t, dir, "blobs") {
				if !*long && i%13 != len(name) {
					continue
				}
				path := filepath.Join(dir, key)
				whole, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if err := damage(path); err != nil {
					t.Fatal(err)
				}
				found := verified(t, v, "")
				if len(found.Problems) != 1 || !strings.HasSuffix(key, found.Problems[0].Digest.Encoded()) {
					t.Fatalf("%s %s: got problems %+v", key, name, found.Problems)
				}
				if list, err := v.List(t.Context()); err != nil || list.Snapshots[len(list.Snapshots)-1].Verified != nil {
					t.Errorf("%s: the snapshot still counts as verified (%v)", key, err)
				}
				restoresAllBut(t, v, c, found.Problems[0].Images)
				healed := backup(t, v, st)
				if len(healed.Failed) > 0 || healed.Repaired == 0 {
					t.Fatalf("%s: got %+v, want it repaired", key, healed)
				}
				if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, whole) {
					t.Fatalf("%s was not healed: %v", key, err)
				}
				wantSound(t, v, "")
			}
		})
	}
}

// restoresAllBut restores what is hurt and wants only the named images to fail.
func restoresAllBut(t *testing.T, v *vault.Vault, c *clock, hurt []string) {
	t.Helper()
	st := openStore(t, t.TempDir(), c, nil)
	defer st.Close()
	shown, err := v.Show(t.Context(), "")
	if err != nil {
		return // the root itself: nothing can be restored, and the error says so
	}
	var want []string
	for _, r := range shown.Repositories {
		for _, i := range r.Images {
			if name := r.Name + ":" + i.Tag; i.Tag != "" && !slices.Contains(hurt, name) {
				want = append(want, name)
			}
		}
	}
	r, err := v.Restore(t.Context(), st, vault.RestoreOptions{}, nil)
	if err != nil || len(r.Failed) == 0 {
		t.Fatalf("got %v and failures %+v, want some failed and no error", err, r.Failed)
	}
	got := stateOf(t, st)
	for _, name := range want {
		failedToo := slices.ContainsFunc(r.Failed, func(f vault.Failure) bool { return f.Repo+":"+f.Tag == name })
		if got.Tags[name] == "" && !failedToo {
			t.Errorf("%s is not hurt and was neither restored nor named", name)
		}
	}
	for _, f := range r.Failed {
		if got.Tags[f.Repo+":"+f.Tag] != "" {
			t.Errorf("%s:%s failed and is visible", f.Repo, f.Tag)
		}
		if f.Error == "" {
			t.Errorf("no reason for %+v", f)
		}
	}
}

// TestADamagedBlobSpoilsNoOtherImage looks at one blob that exactly one image needs.
func TestADamagedBlobSpoilsNoOtherImage(t *testing.T) {
	c := &clock{}
	st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
	sample(t, st)
	v := openVault(t, dir, c, nil)
	backup(t, v, st)
	bad := plain("a-1-moved").blobs[1].desc.Digest
	if err := os.Remove(filepath.Join(dir, "blobs/sha256", bad.Encoded())); err != nil {
		t.Fatal(err)
	}
	if p := verified(t, v, "").Problems; len(p) != 1 || !slices.Equal(p[0].Images, []string{"docker.io/library/a:1"}) || p[0].Kind != "missing" {
		t.Errorf("got %+v, want the one image named", p)
	}
	back := newStore(t, c)
	r := restore(t, v, back, vault.RestoreOptions{})
	if len(r.Failed) != 1 || r.Failed[0].Tag != "1" {
		t.Errorf("got %+v, want the one image failed", r.Failed)
	}
	if _, err := back.Ledger().Tag(t.Context(), "docker.io/library/a", "1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want no tag in the ledger that the registry does not have", err)
	}
	events, err := back.Ledger().History(t.Context(), "docker.io/library/a", "1")
	if err != nil || len(events) != 3 || events[2].Event != ledger.Removed || !strings.Contains(events[2].Reason, r.Snapshot) {
		t.Errorf("got history %+v, %v; want it whole, and that it ended", events, err)
	}
	// Once the vault is healed the restore goes on, and the image is there again.
	backup(t, v, st)
	if r := restore(t, v, back, vault.RestoreOptions{}); len(r.Failed) > 0 {
		t.Errorf("got %+v", r.Failed)
	}
	if diff := cmp.Diff(stateOf(t, st).Tags, stateOf(t, back).Tags); diff != "" {
		t.Error(diff)
	}
}

func TestAVaultThatLostARecordIsStillRead(t *testing.T) {
	for _, key := range []string{"vault/HEAD.json", "vault/config.json", "index.json", "oci-layout"} {
		for name, damage := range damages() {
			if name == "a folder" || name == "grown" {
				continue
			}
			t.Run(key+" "+name, func(t *testing.T) {
				c := &clock{}
				st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
				publish(t, st, "r", "1", plain("one"))
				v := openVault(t, dir, c, nil)
				first := backup(t, v, st)
				if err := damage(filepath.Join(dir, key)); err != nil {
					t.Fatal(err)
				}
				if name == "flipped" && key == "vault/config.json" || key == "vault/HEAD.json" && name == "flipped" {
					// One bit in the middle of a record may be one in a time: only a
					// record that does not read is known to be damaged.
					if err := os.WriteFile(filepath.Join(dir, key), []byte("{"), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				want := stateOf(t, st)
				restoresTo(t, openVault(t, dir, c, nil), c, first.Snapshot, want)
				v = openVault(t, dir, c, nil)
				backup(t, v, st)
				wantSound(t, v, "")
				if list, err := v.List(t.Context()); err != nil || len(list.Snapshots) != 2 {
					t.Errorf("got %+v, %v; want both snapshots", list, err)
				}
				for _, key := range []string{"vault/HEAD.json", "vault/config.json", "index.json", "oci-layout"} {
					var doc map[string]any
					readJSON(t, filepath.Join(dir, key), &doc)
				}
			})
		}
	}
}

func TestWhatIsNotAVaultIsLeftAlone(t *testing.T) {
	c := &clock{}
	st, dir := newStore(t, c), t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "holiday.jpg"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := openVault(t, dir, c, nil).Backup(t.Context(), st, "test", nil)
	if !errors.Is(err, vault.ErrForeign) || !strings.Contains(err.Error(), "holiday.jpg") {
		t.Errorf("got %v, want ErrForeign that names what is there", err)
	}
	if got := files(t, dir, "."); !slices.Equal(got, []string{"holiday.jpg"}) {
		t.Errorf("got %v", got)
	}
}

func TestAVaultOfANewerVersionIsLeftAlone(t *testing.T) {
	for _, key := range []string{"vault/config.json", "vault/HEAD.json"} {
		c := &clock{}
		st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
		publish(t, st, "r", "1", plain("one"))
		v := openVault(t, dir, c, nil)
		backup(t, v, st)
		path := filepath.Join(dir, key)
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, bytes.Replace(raw, []byte(`"format": 1`), []byte(`"format": 3`), 1), 0o600); err != nil {
			t.Fatal(err)
		}
		before := files(t, dir, ".")
		_, backupErr := v.Backup(t.Context(), st, "test", nil)
		_, verifyErr := v.Verify(t.Context(), "", nil)
		_, restoreErr := v.Restore(t.Context(), newStore(t, c), vault.RestoreOptions{}, nil)
		_, listErr := v.List(t.Context())
		for _, err := range []error{backupErr, verifyErr, restoreErr, listErr} {
			if !errors.Is(err, vault.ErrNewer) {
				t.Errorf("%s: got %v, want ErrNewer", key, err)
			}
		}
		if diff := cmp.Diff(before, files(t, dir, ".")); diff != "" {
			t.Error(diff)
		}
	}
}

// TestManyWritersLoseNoSnapshot backs up many stores to one new vault at once.
func TestManyWritersLoseNoSnapshot(t *testing.T) {
	c := &clock{}
	dir := filepath.Join(t.TempDir(), "vault")
	var wg sync.WaitGroup
	ids := make([]string, 5)
	for i := range ids {
		st := newStore(t, c)
		publish(t, st, "shared", "1", plain("the same"))
		publish(t, st, fmt.Sprint("own/", i), "1", plain(fmt.Sprint("own ", i)))
		v := openVault(t, dir, c, nil)
		wg.Go(func() {
			for range 3 {
				r, err := v.Backup(t.Context(), st, "test", nil)
				if err != nil {
					t.Error(err)
				}
				ids[i] = r.Snapshot
			}
		})
	}
	wg.Wait()
	v := openVault(t, dir, c, nil)
	list, err := v.List(t.Context())
	if err != nil || len(list.Snapshots) != 15 {
		t.Fatalf("got %d snapshots, %v; want 15", len(list.Snapshots), err)
	}
	for i, id := range ids {
		wantSound(t, v, id)
		back := newStore(t, c)
		restore(t, v, back, vault.RestoreOptions{Snapshot: id})
		if got := stateOf(t, back).Tags; len(got) != 2 || got[fmt.Sprint("own/", i, ":1")] == "" {
			t.Errorf("snapshot of store %d holds %v", i, got)
		}
	}
}

// TestABackupBesideAPublisherIsWhole publishes images that move two tags one after
// the other, and wants every image of every snapshot whole.
func TestABackupBesideAPublisherIsWhole(t *testing.T) {
	c := &clock{}
	st := newStore(t, c)
	v := openVault(t, filepath.Join(t.TempDir(), "vault"), c, nil)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			img := index("", plain(fmt.Sprint("x ", i)), plain(fmt.Sprint("y ", i)))
			img = img.with(signature(img.root, fmt.Sprint(i)))
			for _, tag := range []string{"first", fmt.Sprint("t", i)} {
				if err := publishTo(ctx, st, "r", tag, img); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			}
		}
	})
	for range 4 {
		if r := backup(t, v, st); len(r.Failed) > 0 {
			t.Errorf("got %+v", r.Failed)
		}
		wantSound(t, v, "")
		back := newStore(t, c)
		if r := restore(t, v, back, vault.RestoreOptions{}); len(r.Failed) > 0 {
			t.Errorf("got %+v", r.Failed)
		}
		stateOf(t, back)
	}
	cancel()
	wg.Wait()
}

// TestWhatTheStoreHasNotRightIsLeftOut damages the store before a backup.
func TestWhatTheStoreHasNotRightIsLeftOut(t *testing.T) {
	for name, damage := range damages() {
		if name == "a folder" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			c := &clock{}
			data := t.TempDir()
			st := openStore(t, data, c, nil)
			defer st.Close()
			publish(t, st, "r", "old", plain("old"))
			publish(t, st, "r", "moved", plain("before"))
			v := openVault(t, filepath.Join(t.TempDir(), "vault"), c, nil)
			backup(t, v, st)
			publish(t, st, "r", "moved", plain("after"))
			publish(t, st, "r", "new", plain("new"))
			publish(t, st, "r", "fine", plain("fine"))
			for _, img := range []image{plain("after"), plain("new")} {
				d := img.blobs[1].desc.Digest.Encoded()
				if err := damage(filepath.Join(data, "registry/docker/registry/v2/blobs/sha256", d[:2], d, "data")); err != nil {
					t.Fatal(err)
				}
			}
			r := backup(t, v, st)
			if len(r.Failed) != 2 || r.Failed[0].Tag != "moved" || r.Failed[0].Kept != plain("before").root.desc.Digest || r.Failed[1].Tag != "new" || r.Failed[1].Kept != "" {
				t.Errorf("got %+v, want moved kept as it was and new left out", r.Failed)
			}
			wantSound(t, v, "")
			back := newStore(t, c)
			restore(t, v, back, vault.RestoreOptions{})
			tags := stateOf(t, back).Tags
			if len(tags) != 3 || tags["r:moved"] != plain("before").root.desc.Digest || tags["r:fine"] == "" {
				t.Errorf("got %v", tags)
			}
		})
	}
}

// overtakenBucket lets another writer commit just before the head is swapped.
type overtakenBucket struct {
	bucket.Bucket
	other func()
	once  *sync.Once
}

func (b overtakenBucket) Swap(ctx context.Context, key, etag string, data []byte) (string, error) {
	b.once.Do(b.other)
	return b.Bucket.Swap(ctx, key, etag, data)
}

func TestAnOvertakenBackupKeepsBothSnapshots(t *testing.T) {
	c := &clock{}
	st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
	publish(t, st, "r", "1", plain("one"))
	plainly := openVault(t, dir, c, nil)
	ids := []string{backup(t, plainly, st).Snapshot}
	v := openVault(t, dir, c, func(b bucket.Bucket) bucket.Bucket {
		return overtakenBucket{b, func() { ids = append(ids, backup(t, plainly, st).Snapshot) }, new(sync.Once)}
	})
	ids = append(ids, backup(t, v, st).Snapshot)
	list, err := v.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range list.Snapshots {
		got = append(got, s.ID)
	}
	if diff := cmp.Diff(ids, got); diff != "" || len(got) != 3 {
		t.Errorf("got %v: %s", got, diff)
	}
}
