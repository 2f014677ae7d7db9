package vault_test

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	"lastro/store/vault"
	"lastro/store/vault/bucket/buckettest"
	"lastro/store/vault/bucket/s3"
	"lastro/store/vault/layout"
)

// TestAVaultOnAnS3Server saves, verifies, loses, heals and restores on a real server.
func TestAVaultOnAnS3Server(t *testing.T) {
	t.Parallel()
	c := &clock{}
	settings, data := startGateway(t)
	v, err := vault.Open(t.Context(), vault.Settings{Name: "main", To: "s3://bucket/some/prefix", S3: settings}, vault.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := v.Init(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	proven := layout.Proven{Conditions: true, PutOnce: true, Swap: true, Coherent: true, Checksum: true, Delete: true}
	if diff := cmp.Diff(proven, p.Config.Proven, cmpopts.IgnoreFields(layout.Proven{}, "When")); diff != "" || p.Left > 0 {
		t.Errorf("%s\n%+v", diff, p)
	}
	st := newStore(t, c)
	sample(t, st)
	publish(t, st, "r", "large", plain("large", newContent(ocispec.MediaTypeImageLayer, noise(1, 201<<20)))) // in parts
	want := stateOf(t, st)
	first := backup(t, v, st)
	if again := backup(t, v, st); again.Requests > 10 || again.NewBlobs != 0 {
		t.Errorf("got %d requests and %d new blobs with nothing new, want at most 10 and none", again.Requests, again.NewBlobs)
	} else {
		t.Logf("%d requests with nothing new", again.Requests)
	}
	wantSound(t, v, first.Snapshot)
	lost := plain("a-1-moved").blobs[1].desc.Digest
	if err := os.Remove(filepath.Join(data, "bucket/some/prefix/blobs/sha256", lost.Encoded())); err != nil {
		t.Fatal(err)
	}
	if p := verified(t, v, "").Problems; len(p) != 1 || p[0].Digest != lost {
		t.Errorf("got %+v, want the lost blob", p)
	}
	if r := backup(t, v, st); r.Repaired != 1 {
		t.Errorf("got %+v, want it repaired", r)
	}
	wantSound(t, v, "")
	back := newStore(t, c)
	if r := restore(t, v, back, vault.RestoreOptions{}); len(r.Failed) > 0 {
		t.Errorf("got %+v", r.Failed)
	}
	if diff := cmp.Diff(want, stateOf(t, back)); diff != "" {
		t.Error(diff)
	}
}

func TestOnlyLargeContentsGoToAnotherClass(t *testing.T) {
	c, fake := &clock{}, &buckettest.Server{}
	server := httptest.NewServer(fake)
	t.Cleanup(server.Close)
	set := s3.Settings{Endpoint: server.URL, Credentials: s3.Credentials{AccessKey: "k", SecretKey: "s"}, StorageClass: "STANDARD_IA"}
	v, err := vault.Open(t.Context(), vault.Settings{Name: "main", To: "s3://bucket/p", S3: set}, vault.Options{})
	if err != nil {
		t.Fatal(err)
	}
	st := newStore(t, c)
	large, just := newContent(ocispec.MediaTypeImageLayer, noise(1, mirror.MaxManifest+1)), newContent(ocispec.MediaTypeImageLayer, noise(2, mirror.MaxManifest))
	publish(t, st, "r", "1", plain("one", large, just))
	backup(t, v, st)
	var classed []string
	for _, key := range fake.Keys() {
		if fake.Header(key).Get("X-Amz-Storage-Class") != "" {
			classed = append(classed, key)
		}
	}
	if diff := cmp.Diff([]string{"p/blobs/sha256/" + large.desc.Digest.Encoded()}, classed); diff != "" {
		t.Error(diff)
	}
}

// TestAPruneOnAnS3Server forgets, prunes, and saves again what was removed.
func TestAPruneOnAnS3Server(t *testing.T) {
	t.Parallel()
	c := &clock{}
	settings, data := startGateway(t)
	v, err := vault.Open(t.Context(), vault.Settings{Name: "main", To: "s3://bucket/some/prefix", S3: settings}, vault.Options{})
	if err != nil {
		t.Fatal(err)
	}
	st := newStore(t, c)
	ids, states := grown(t, v, st, 3)
	forget(t, v, ids[0])
	root := filepath.Join(data, "bucket/some/prefix")
	before := files(t, root, "blobs")
	r := pruneBy(t, v, st, atOnce)
	after := files(t, root, "blobs")
	if r.Removed == 0 || r.Removed != len(before)-len(after) || r.Kept > 0 || isThere(root, layerOf("image 0")) {
		t.Errorf("got %+v, and %d of %d blobs are left", r, len(after), len(before))
	}
	allSound(t, v)
	back := newStore(t, c)
	restore(t, v, back, vault.RestoreOptions{Snapshot: ids[1]})
	if diff := cmp.Diff(states[1].Tags, stateOf(t, back).Tags); diff != "" {
		t.Error(diff)
	}
	publish(t, st, "r", "again", plain("image 0"))
	if r := backup(t, v, st); r.NewBlobs < 3 {
		t.Errorf("got %+v, want what was removed sent again", r)
	}
	allSound(t, v)
	if r := pruneBy(t, v, st, atOnce); r.Removed+r.Condemned != 0 || !isThere(root, layerOf("image 0")) {
		t.Errorf("got %+v, want nothing more to remove", r)
	}
}

// startGateway runs a real S3 server with a bucket, and tells where its files lie.
func startGateway(t *testing.T) (s s3.Settings, data string) {
	t.Helper()
	endpoint, data := buckettest.Gateway(t)
	if err := os.Mkdir(filepath.Join(data, "bucket"), 0o700); err != nil {
		t.Fatal(err)
	}
	return s3.Settings{Endpoint: endpoint, Credentials: s3.Credentials{AccessKey: buckettest.AccessKey, SecretKey: buckettest.SecretKey}}, data
}
