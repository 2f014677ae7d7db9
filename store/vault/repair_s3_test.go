package vault_test

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"lastro/store/vault"
	"lastro/store/vault/bucket"
	"lastro/store/vault/bucket/buckettest"
	"lastro/store/vault/bucket/s3"
	"lastro/store/vault/layout"
)

// onVersions is a vault on a real server that keeps versions, and what is saved there.
func onVersions(t *testing.T, wrap func(bucket.Bucket) bucket.Bucket) *vault.Vault {
	t.Helper()
	endpoint, _ := buckettest.Gateway(t)
	buckettest.MakeBucket(t, endpoint, "bucket")
	return atGateway(t, endpoint, wrap)
}

func atGateway(t *testing.T, endpoint string, wrap func(bucket.Bucket) bucket.Bucket) *vault.Vault {
	t.Helper()
	set := s3.Settings{Endpoint: endpoint, Credentials: s3.Credentials{AccessKey: buckettest.AccessKey, SecretKey: buckettest.SecretKey}}
	v, err := vault.Open(t.Context(), vault.Settings{Name: "main", To: "s3://bucket/p", S3: set}, vault.Options{Wrap: wrap})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// overwrite hides right bytes under wrong ones of the same length.
func overwrite(t *testing.T, v *vault.Vault, key string) {
	t.Helper()
	info, err := v.Bucket.Head(t.Context(), key)
	if err == nil {
		err = v.Bucket.Replace(t.Context(), key, bucket.Bytes(make([]byte, info.Size)))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func unlink(t *testing.T, v *vault.Vault, key string) {
	t.Helper()
	if kept, err := v.Bucket.Remove(t.Context(), []bucket.Info{{Key: key}}); err != nil || len(kept) > 0 {
		t.Fatal(kept, err)
	}
}

func versionsOf(t *testing.T, v *vault.Vault, key string) (list []bucket.Info) {
	t.Helper()
	for info, err := range v.Server.Versions(t.Context(), key) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, info)
	}
	return list
}

// TestAnOlderVersionRepairs hides or removes objects of every sort in a bucket that
// keeps versions. The local store has nothing.
func TestAnOlderVersionRepairs(t *testing.T) {
	t.Parallel()
	v := onVersions(t, nil)
	c := &clock{}
	st := newStore(t, c)
	sample(t, st)
	id := backup(t, v, st).Snapshot
	shown, err := v.Show(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	h, err := v.Heads(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]string{
		"a layer": layout.BlobKey(sharedLayer().desc.Digest), "a manifest": layout.BlobKey(plain("a-1-moved", sharedLayer()).root.desc.Digest),
		"the index of a repository": layout.BlobKey(shown.Repositories[0].Index.Digest), "the root": layout.BlobKey(shown.Root.Digest),
		"the history": layout.BlobKey(shown.History.Segments[0].Digest), "the record": h.Snapshots[0].Record,
	}
	for name, key := range keys {
		for kind, hide := range map[string]func(*testing.T, *vault.Vault, string){"corrupt": overwrite, "missing": unlink} {
			t.Run(name+" "+kind, func(t *testing.T) {
				before := versionsOf(t, v, key)
				hide(t, v, key)
				all := repaired(t, v, vault.VerifyOptions{All: true, Repair: &vault.RepairOptions{Store: newStore(t, c)}})
				p := all.Snapshots[0].Problems
				if len(p) != 1 || !p[0].Repaired || p[0].Source != "older version" || p[0].Kind != kind || all.Left() > 0 {
					t.Fatalf("got %+v", p)
				}
				wantSound(t, v, "")
				after := versionsOf(t, v, key)
				for _, was := range before {
					if !slices.ContainsFunc(after, func(is bucket.Info) bool { return is.Version == was.Version }) {
						t.Errorf("version %s is gone", was.Version)
					}
				}
				if len(after) != len(before)+2 {
					t.Errorf("got %d versions, want what hid it and what repairs it beside %d", len(after), len(before))
				}
			})
		}
	}
	if got := verified(t, v, id); got.Left() > 0 || got.Read.Blobs != got.Blobs {
		t.Errorf("got %+v", got)
	}
}

// TestAVersionWithWrongBytesIsNotTaken goes below it.
func TestAVersionWithWrongBytesIsNotTaken(t *testing.T) {
	t.Parallel()
	v := onVersions(t, nil)
	c := &clock{}
	st := newStore(t, c)
	sample(t, st)
	backup(t, v, st)
	key := layout.BlobKey(sharedLayer().desc.Digest)
	for range 3 {
		overwrite(t, v, key)
	}
	unlink(t, v, key)
	all := repaired(t, v, vault.VerifyOptions{List: true, Repair: &vault.RepairOptions{}})
	if p := all.Snapshots[0].Problems; len(p) != 1 || !p[0].Repaired || p[0].Source != "older version" {
		t.Fatalf("got %+v", p)
	}
	wantSound(t, v, "")
	// The right one may lie between others.
	list := versionsOf(t, v, key)
	if _, err := v.Bucket.Remove(t.Context(), []bucket.Info{list[slices.IndexFunc(list, func(i bucket.Info) bool { return i.ETag == list[0].ETag && i != list[0] })]}); err != nil {
		t.Fatal(err)
	}
	overwrite(t, v, key)
	if all := repaired(t, v, vault.VerifyOptions{Repair: &vault.RepairOptions{}}); all.Left() > 0 || all.Repaired()["older version"] != 1 {
		t.Errorf("got %+v", all.Snapshots[0].Problems)
	}
	// Where no version has it right, that is said.
	for _, info := range versionsOf(t, v, key) {
		if info.Version != "" {
			if _, err := v.Bucket.Remove(t.Context(), []bucket.Info{info}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := v.Bucket.Replace(t.Context(), key, bucket.Bytes([]byte("wrong"))); err != nil {
		t.Fatal(err)
	}
	p := repaired(t, v, vault.VerifyOptions{Repair: &vault.RepairOptions{}}).Snapshots[0].Problems
	if len(p) != 1 || p[0].Repaired || p[0].Unrepaired != "older version: its bytes do not match the digest and size" {
		t.Errorf("got %+v", p)
	}
}

// TestByHeadsAServerSaysWhatLiesThere needs no byte of a layer.
func TestByHeadsAServerSaysWhatLiesThere(t *testing.T) {
	t.Parallel()
	v := onVersions(t, nil)
	c := &clock{}
	st := newStore(t, c)
	sample(t, st)
	backup(t, v, st)
	all := repaired(t, v, vault.VerifyOptions{All: true, Head: true})
	if all.Left() > 0 || all.ByHash.Blobs == 0 || all.Read.Blobs+all.ByHash.Blobs+all.ByLength.Blobs != all.Blobs {
		t.Errorf("got %+v", all.Coverage)
	}
	key := layout.BlobKey(sharedLayer().desc.Digest)
	overwrite(t, v, key)
	all = repaired(t, v, vault.VerifyOptions{All: true, Head: true})
	if p := all.Snapshots[0].Problems; len(p) != 1 || p[0].Kind != "corrupt" || !strings.Contains(p[0].Error, "the server says that its SHA-256 is") {
		t.Errorf("got %+v", p)
	}
	all = repaired(t, v, vault.VerifyOptions{All: true, Head: true, Repair: &vault.RepairOptions{Store: st}})
	if p := all.Snapshots[0].Problems; len(p) != 1 || p[0].Source != "local store" {
		t.Errorf("got %+v", p)
	}
	wantSound(t, v, "")
}

// TestARepairIsLockedAsABackupIs keeps what hid the right bytes, and locks the repair.
func TestARepairIsLockedAsABackupIs(t *testing.T) {
	t.Parallel()
	endpoint, _ := buckettest.Gateway(t)
	buckettest.MakeBucket(t, endpoint, "bucket")
	l := &later{}
	v, st := locked(t, endpoint, l), newStore(t, &clock{})
	publish(t, st, "r", "1", plain("one"))
	backup(t, v, st)
	key := layout.BlobKey(layerOf("one"))
	overwrite(t, v, key)
	l.wait(10 * day)
	all := repaired(t, v, vault.VerifyOptions{Repair: &vault.RepairOptions{}})
	if p := all.Snapshots[0].Problems; len(p) != 1 || p[0].Source != "older version" {
		t.Fatalf("got %+v", p)
	}
	info, err := v.Bucket.Head(t.Context(), key)
	if err != nil || info.LockedUntil.Before(l.now().Add(month-time.Hour)) {
		t.Errorf("locked until %s, %v, want a month from now", info.LockedUntil, err)
	}
	if n := len(versionsOf(t, v, key)); n != 3 {
		t.Errorf("got %d versions, want all three", n)
	}
	wantLocked(t, v)
}

// whileRecord does something before a commit record is written.
type whileRecord struct {
	bucket.Bucket
	does func()
}

func (w whileRecord) Replace(ctx context.Context, key string, o bucket.Object) error {
	if strings.HasPrefix(key, layout.DirSnapshots) {
		w.does()
	}
	return w.Bucket.Replace(ctx, key, o)
}

// TestTheRecordOfAForgottenSnapshotDoesNotComeBack forgets it and prunes while it is
// put back.
func TestTheRecordOfAForgottenSnapshotDoesNotComeBack(t *testing.T) {
	t.Parallel()
	endpoint, _ := buckettest.Gateway(t)
	buckettest.MakeBucket(t, endpoint, "bucket")
	v := atGateway(t, endpoint, nil)
	c := &clock{}
	st := newStore(t, c)
	ids, _ := grown(t, v, st, 2)
	h, err := v.Heads(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	record := h.Snapshots[0].Record
	unlink(t, v, record)
	w := atGateway(t, endpoint, func(b bucket.Bucket) bucket.Bucket {
		return whileRecord{b, func() { forget(t, v, ids[0]); pruneBy(t, v, st, atOnce) }}
	})
	all := repaired(t, w, vault.VerifyOptions{All: true, Repair: &vault.RepairOptions{}})
	if p := all.Snapshots[0].Problems; len(p) != 1 || p[0].Repaired || !strings.Contains(p[0].Unrepaired, "the snapshot was forgotten meanwhile") {
		t.Errorf("got %+v", p)
	}
	if _, err := v.Bucket.Head(t.Context(), record); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want no record", err)
	}
	allSound(t, v)
}

// TestAnotherVaultRepairs takes what this one has lost from a vault of another kind.
func TestAnotherVaultRepairs(t *testing.T) {
	t.Parallel()
	c := &clock{}
	st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
	sample(t, st)
	v, other := openVault(t, dir, c, nil), onVersions(t, nil)
	backup(t, v, st)
	backup(t, other, st)
	for _, d := range []digest.Digest{sharedLayer().desc.Digest, plain("a-1-moved", sharedLayer()).root.desc.Digest} {
		damage(t, dir, d)
	}
	all := repaired(t, v, vault.VerifyOptions{Repair: &vault.RepairOptions{Others: []vault.RepairSource{anotherVault{other}}}})
	if all.Left() > 0 || all.Repaired()["vault main"] != 2 {
		t.Errorf("got %+v", all.Snapshots[0].Problems)
	}
	wantSound(t, v, "")
}
