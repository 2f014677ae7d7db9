package vault_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	"lastro/store"
	"lastro/store/ledger"
	"lastro/store/vault"
	"lastro/store/vault/bucket"
)

// tester is what *testing.T, *testing.B and *rapid.T have in common.
type tester interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
	Errorf(string, ...any)
	Context() context.Context
}

// clock goes on by a second whenever it is read.
type clock struct{ seconds atomic.Int64 }

func (c *clock) now() time.Time {
	return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(c.seconds.Add(1)) * time.Second)
}

// content is bytes with a name for them.
type content struct {
	desc ocispec.Descriptor
	raw  []byte
}

func newContent(mediaType string, raw []byte) content {
	return content{ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}, raw}
}

// image is an image to publish: all contents, and its manifests in order.
type image struct {
	root      content
	blobs     []content
	manifests []content
	absent    []digest.Digest
}

func encoded(mediaType string, v any) content {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return newContent(mediaType, raw)
}

// plain is an image of a config and layers that are made of its name.
func plain(name string, layers ...content) image {
	config := newContent(ocispec.MediaTypeImageConfig, []byte(`{"os":"linux","config":{"Labels":{"name":"`+name+`"}}}`))
	layers = append(layers, newContent(ocispec.MediaTypeImageLayerGzip, bytes.Repeat([]byte("layer of "+name+"\n"), 300)))
	return imageOf(nil, config, layers...)
}

func imageOf(subject *ocispec.Descriptor, config content, layers ...content) image {
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config.desc, Subject: subject}
	img := image{blobs: []content{config}}
	for _, l := range layers {
		m.Layers = append(m.Layers, l.desc)
		if l.raw != nil {
			img.blobs = append(img.blobs, l)
		}
	}
	img.root = encoded(ocispec.MediaTypeImageManifest, m)
	img.manifests = []content{img.root}
	return img
}

// signature is an image that refers to another one.
func signature(of content, name string) image {
	config := newContent("application/vnd.example.signature", []byte("{}"))
	return imageOf(&of.desc, config, newContent("application/vnd.example.bytes", []byte("signed: "+name)))
}

// index lists images, and one that a platform filter left out if absent is set.
func index(absent string, children ...image) image {
	idx := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	var img image
	for _, c := range children {
		idx.Manifests = append(idx.Manifests, c.root.desc)
		img.blobs = append(img.blobs, c.blobs...)
		img.manifests = append(img.manifests, c.manifests...)
		img.absent = append(img.absent, c.absent...)
	}
	if absent != "" {
		out := plain(absent).root.desc
		idx.Manifests = append(idx.Manifests, out)
		img.absent = append(img.absent, out.Digest)
	}
	img.root = encoded(ocispec.MediaTypeImageIndex, idx)
	img.manifests = append(img.manifests, img.root)
	return img
}

// with is the image together with what refers to it.
func (img image) with(referrer image) image {
	img.blobs = append(slices.Clone(img.blobs), referrer.blobs...)
	img.manifests = append(slices.Clone(img.manifests), referrer.manifests...)
	return img
}

func openStore(t tester, dir string, c *clock, step func(op, subject string)) *store.Store {
	t.Helper()
	st, err := store.Open(dir, store.Options{Now: c.now, Step: step})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// newStore is an empty store that is closed with the test.
func newStore(t *testing.T, c *clock) *store.Store {
	t.Helper()
	st := openStore(t, t.TempDir(), c, nil)
	t.Cleanup(func() { _ = st.Close() })
	return st
}

func ingest(ctx context.Context, st *store.Store, c content) error {
	return st.Ingest(ctx, c.desc, func(_ context.Context, offset int64) (io.ReadCloser, int64, error) {
		return io.NopCloser(bytes.NewReader(c.raw[offset:])), offset, nil
	})
}

func publishTo(ctx context.Context, st *store.Store, repo, tag string, img image) error {
	p := mirror.Publication{Repo: repo, Tag: tag, Root: img.root.desc, Absent: img.absent, By: "test", Reason: "published as " + tag}
	for _, c := range slices.Concat(img.blobs, img.manifests) {
		if err := ingest(ctx, st, c); err != nil {
			return err
		}
	}
	for _, c := range img.manifests {
		m, err := mirror.ParseManifest(c.desc, c.raw)
		if err != nil {
			return err
		}
		p.Manifests = append(p.Manifests, m)
	}
	_, err := st.Publish(ctx, p)
	return err
}

func publish(t tester, st *store.Store, repo, tag string, img image) {
	t.Helper()
	if err := publishTo(t.Context(), st, repo, tag, img); err != nil {
		t.Fatal(err)
	}
}

func sharedLayer() content {
	return newContent(ocispec.MediaTypeImageLayerZstd, bytes.Repeat([]byte("shared "), 1000))
}

// sample publishes one of everything.
func sample(t tester, st *store.Store) {
	t.Helper()
	shared := sharedLayer()
	long := []byte("named by a longer digest")
	sha512 := content{ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.SHA512.FromBytes(long), Size: int64(len(long))}, long}
	foreign := content{desc: ocispec.Descriptor{MediaType: "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", Digest: digest.FromString("elsewhere"), Size: 9, URLs: []string{"https://example.com/layer"}}}
	kept := foreign
	kept.raw = []byte("kept here")
	kept.desc.Digest, kept.desc.Size = digest.FromBytes(kept.raw), int64(len(kept.raw))

	publish(t, st, "docker.io/library/a", "1", plain("a-1", shared))
	publish(t, st, "docker.io/library/a", "2", plain("a-2", shared, sha512))
	publish(t, st, "docker.io/library/a", "1", plain("a-1-moved", shared))
	publish(t, st, "docker.io/library/a", "gone", plain("a-gone"))
	if err := st.Untag(t.Context(), "docker.io/library/a", "gone", ledger.Event{By: "retention", Reason: "too old"}); err != nil {
		t.Fatal(err)
	}
	amd, arm := plain("b-amd64", shared), plain("b-arm64")
	multi := index("b-s390x", amd, arm)
	sig := signature(multi.root, "multi")
	publish(t, st, "docker.io/library/b", "multi", index("", multi, plain("b-attestation")).with(sig).with(signature(sig.root, "the signature")))
	publish(t, st, "docker.io/library/b", strings.Replace(string(multi.root.desc.Digest), ":", "-", 1)+".sig", plain("cosign"))
	publish(t, st, "ghcr.io/c", "windows", plain("windows", foreign, kept))
	publish(t, st, "ghcr.io/c", "", plain("by digest only"))
}

// state is all that a client can see of a store, and that a person can ask it.
type state struct {
	Tags      map[string]digest.Digest // by repo:tag
	Manifests map[string]int           // by repo@digest: how many contents lie below, all of them right
	History   map[string][]ledger.Event
}

// stateOf reads all contents and hashes them.
func stateOf(t tester, st *store.Store) state {
	t.Helper()
	ctx := t.Context()
	s := state{map[string]digest.Digest{}, map[string]int{}, map[string][]ledger.Event{}}
	for repo, err := range st.Repositories(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		for tag, err := range st.Tags(ctx, repo) {
			if err != nil {
				t.Fatal(err)
			}
			s.Tags[repo+":"+tag.Name] = tag.Digest
		}
		for d, err := range st.Revisions(ctx, repo) {
			if err != nil {
				t.Fatal(err)
			}
			all, err := st.Closure(ctx, repo, d)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range all {
				hashContent(t, st, c.Digest)
			}
			s.Manifests[repo+"@"+d.String()] = len(all)
		}
	}
	for e, err := range st.Ledger().Events(ctx, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Event != ledger.Restored {
			e.Seq = 0
			s.History[e.Repo+":"+e.Tag] = append(s.History[e.Repo+":"+e.Tag], e)
		}
	}
	for repo, err := range st.Ledger().Tags(ctx, "") {
		if name := repo.Repo + ":" + repo.Tag; err != nil || s.Tags[name] != repo.Digest {
			t.Fatalf("the ledger has %s at %s, the registry at %q (%v)", name, repo.Digest, s.Tags[name], err)
		}
	}
	return s
}

func hashContent(t tester, st *store.Store, d digest.Digest) {
	t.Helper()
	f, err := st.OpenContent(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got, err := d.Algorithm().FromReader(f); err != nil || got != d {
		t.Fatalf("content %s hashes to %s, %v", d, got, err)
	}
}

// openVault opens the vault in a folder, behind what wrap makes of its bucket.
func openVault(t tester, dir string, c *clock, wrap func(bucket.Bucket) bucket.Bucket) *vault.Vault {
	t.Helper()
	v, err := vault.Open(t.Context(), vault.Settings{Name: "main", To: "file://" + dir}, vault.Options{Now: c.now, Version: "test", Wrap: wrap})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func backup(t tester, v *vault.Vault, st *store.Store) vault.Report {
	t.Helper()
	r, err := v.Backup(t.Context(), st, "test", nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func restore(t tester, v *vault.Vault, st *store.Store, o vault.RestoreOptions) vault.Restored {
	t.Helper()
	r, err := v.Restore(t.Context(), st, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func verified(t tester, v *vault.Vault, snapshot string) vault.Verified {
	t.Helper()
	r, err := v.Verify(t.Context(), snapshot, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func wantSound(t tester, v *vault.Vault, snapshot string) {
	t.Helper()
	if r := verified(t, v, snapshot); len(r.Problems) > 0 {
		t.Fatalf("got problems %+v, want none", r.Problems)
	}
}

// files are the keys below a folder of a vault, blobs of it for instance.
func files(t tester, dir, under string) (keys []string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(dir, under), func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			key, _ := filepath.Rel(dir, path)
			keys = append(keys, key)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return keys
}

func TestARestoreBringsBackEverything(t *testing.T) {
	c := &clock{}
	st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
	sample(t, st)
	want := stateOf(t, st)
	v := openVault(t, dir, c, nil)
	report := backup(t, v, st)
	if len(report.Failed) > 0 || report.NewBlobs == 0 || report.Images == 0 {
		t.Errorf("got %+v, want images saved and none failed", report)
	}
	wantSound(t, v, "")

	back := newStore(t, c)
	plan, err := v.PlanRestore(t.Context(), back, vault.RestoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	restored := restore(t, v, back, vault.RestoreOptions{By: "test"})
	if len(restored.Failed) > 0 || restored.Images != report.Images || restored.Blobs != plan.Blobs || restored.Bytes != plan.Bytes || restored.Requests != plan.Requests || plan.Seconds <= 0 {
		t.Errorf("got %+v, saved %d images, planned %d blobs of %d bytes in %d requests and %f seconds", restored, report.Images, plan.Blobs, plan.Bytes, plan.Requests, plan.Seconds)
	}
	if diff := cmp.Diff(want, stateOf(t, back)); diff != "" {
		t.Error(diff)
	}
	events, err := back.Ledger().History(t.Context(), "docker.io/library/a", "1")
	if err != nil || len(events) != 3 || events[2].Event != ledger.Restored || events[2].Reason != "snapshot "+report.Snapshot {
		t.Errorf("got history %+v, %v; want what it was, and the restore", events, err)
	}
	for _, d := range index("b-s390x", plain("b-amd64"), plain("b-arm64")).absent {
		if absent, err := back.Ledger().Absent(t.Context(), "docker.io/library/b", d); err != nil || !absent {
			t.Errorf("got absent %v, %v; want the child that a filter left out to be known as such", absent, err)
		}
	}

	// The machine that restored goes on with the vault as if it had made it.
	next := backup(t, v, back)
	if next.NewBlobs > 1 || len(next.Failed) > 0 {
		t.Errorf("got %d new blobs after a restore, want at most the history: %+v", next.NewBlobs, next)
	}
	if again := restore(t, v, back, vault.RestoreOptions{}); again.Blobs != 0 || len(again.Failed) > 0 {
		t.Errorf("got %+v, want nothing to fetch the second time", again)
	}
}

func TestABackupWithNothingNewSendsEightRequestsAtAnySize(t *testing.T) {
	t.Parallel()
	c := &clock{}
	st := newStore(t, c)
	v := openVault(t, filepath.Join(t.TempDir(), "vault"), c, nil)
	var before int64
	for round := range 40 { // more than the segments that may pile up
		publish(t, st, "r"+fmt.Sprint(round%7), fmt.Sprint("t", round), plain(fmt.Sprint("image ", round)))
		backup(t, v, st)
		for range 2 {
			got := backup(t, v, st)
			if got.Requests > 8 || got.NewBlobs != 0 || got.NewBytes != 0 {
				t.Fatalf("round %d: got %d requests and %d new blobs, want at most 8 and none", round, got.Requests, got.NewBlobs)
			}
			if round > 0 && got.Requests != before {
				t.Errorf("round %d: got %d requests, before %d: they grow with something", round, got.Requests, before)
			}
			before = got.Requests
		}
	}
	t.Logf("%d requests", before)
	// One image more sends only what is new: config, layer, manifest, index, root, events.
	publish(t, st, "r1", "more", plain("one more"))
	if got := backup(t, v, st); got.NewBlobs != 6 || got.Requests > 16 {
		t.Errorf("got %d new blobs and %d requests, want 6 and at most 16", got.NewBlobs, got.Requests)
	}
	wantSound(t, v, "")
}

// TestTheLayoutNeedsNoLastro reads the vault as the image-spec says, from files alone.
func TestTheLayoutNeedsNoLastro(t *testing.T) {
	c := &clock{}
	st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
	sample(t, st)
	backup(t, openVault(t, dir, c, nil), st)
	var marker ocispec.ImageLayout
	readJSON(t, filepath.Join(dir, "oci-layout"), &marker)
	if marker.Version != "1.0.0" {
		t.Errorf("got version %q", marker.Version)
	}
	var idx ocispec.Index
	readJSON(t, filepath.Join(dir, "index.json"), &idx)
	if idx.SchemaVersion != 2 || idx.MediaType != ocispec.MediaTypeImageIndex {
		t.Errorf("got %+v", idx.Versioned)
	}
	names := map[string]digest.Digest{}
	for _, m := range idx.Manifests {
		if name := m.Annotations[ocispec.AnnotationRefName]; name != "" {
			names[name] = m.Digest
		}
		readBlob(t, dir, m)
	}
	if diff := cmp.Diff(stateOf(t, st).Tags, names); diff != "" {
		t.Error(diff)
	}
}

func readJSON(t tester, path string, v any) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(raw, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// readBlob reads a blob and all below it. Only what a filter left out may be missing.
func readBlob(t tester, dir string, desc ocispec.Descriptor) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "blobs", desc.Digest.Algorithm().String(), desc.Digest.Encoded()))
	if errors.Is(err, fs.ErrNotExist) && (desc.Digest == plain("b-s390x").root.desc.Digest || len(desc.URLs) > 0) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := desc.Digest.Algorithm().FromBytes(raw); got != desc.Digest || int64(len(raw)) != desc.Size {
		t.Fatalf("%s holds %d bytes of %s", desc.Digest, len(raw), got)
	}
	var doc struct {
		Config            *ocispec.Descriptor
		Layers, Manifests []ocispec.Descriptor
	}
	if !strings.Contains(desc.MediaType, "manifest") && !strings.Contains(desc.MediaType, "index") {
		return
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	if doc.Config != nil {
		readBlob(t, dir, *doc.Config)
	}
	for _, d := range slices.Concat(doc.Layers, doc.Manifests) {
		readBlob(t, dir, d)
	}
}

func TestSnapshotsAreListedAndShown(t *testing.T) {
	c := &clock{}
	st := newStore(t, c)
	v := openVault(t, filepath.Join(t.TempDir(), "vault"), c, nil)
	if _, err := v.List(t.Context()); !errors.Is(err, vault.ErrNoVault) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want ErrNoVault", err)
	}
	first := backup(t, v, st) // of nothing
	sample(t, st)
	second := backup(t, v, st)
	wantSound(t, v, first.Snapshot)
	list, err := v.List(t.Context())
	if err != nil || len(list.Snapshots) != 2 || list.Snapshots[0].ID != first.Snapshot || list.Snapshots[1].ID != second.Snapshot {
		t.Fatalf("got %+v, %v", list, err)
	}
	if list.Snapshots[0].Verified == nil || list.Snapshots[1].Verified != nil || list.Snapshots[1].Blobs != second.Blobs {
		t.Errorf("got %+v, want the first verified and the second not", list.Snapshots)
	}
	shown, err := v.Show(t.Context(), second.Snapshot)
	if err != nil {
		t.Fatal(err)
	}
	tags := map[string]digest.Digest{}
	for _, r := range shown.Repositories {
		for _, i := range r.Images {
			if i.Tag != "" {
				tags[r.Name+":"+i.Tag] = i.Digest
			}
		}
	}
	if diff := cmp.Diff(stateOf(t, st).Tags, tags); diff != "" || shown.Parent != first.Snapshot || shown.Version != "test" {
		t.Errorf("got %s, parent %s", diff, shown.Parent)
	}
	if _, err := v.Show(t.Context(), "0"); err == nil {
		t.Error("an ambiguous start of an id is taken")
	}
}

func TestOnlyIncludedRepositoriesAreSaved(t *testing.T) {
	c := &clock{}
	st := newStore(t, c)
	sample(t, st)
	v, err := vault.Open(t.Context(), vault.Settings{Name: "part", To: "file://" + filepath.Join(t.TempDir(), "v"), Include: []string{"ghcr.io/**"}}, vault.Options{Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	backup(t, v, st)
	back := newStore(t, c)
	restore(t, v, back, vault.RestoreOptions{})
	got := stateOf(t, back)
	if len(got.Tags) != 1 || got.Tags["ghcr.io/c:windows"] == "" || len(got.History) != 1 {
		t.Errorf("got tags %v and history of %d tags", got.Tags, len(got.History))
	}
}

// noise is bytes that do not compress, always the same for a seed.
func noise(seed uint64, n int) []byte {
	r, b := rand.New(rand.NewPCG(seed, 1)), make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}
