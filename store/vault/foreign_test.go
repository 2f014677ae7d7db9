package vault_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/store"
	"lastro/store/ledger"
	"lastro/store/vault"
	"lastro/store/vault/bucket"
	"lastro/store/vault/layout"
)

// foreignLayer has a home elsewhere, and bytes that a store may keep.
func foreignLayer(name string) content {
	l := newContent("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", []byte("foreign "+name))
	l.desc.URLs = []string{"https://example.com/" + name}
	return l
}

func TestAForeignLayerThatComesLaterIsSaved(t *testing.T) {
	c := &clock{}
	st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
	v := openVault(t, dir, c, nil)
	late, never := foreignLayer("late"), foreignLayer("never")
	img := plain("windows", content{desc: late.desc}, content{desc: never.desc})
	publish(t, st, "r", "1", img)
	backup(t, v, st)
	if r := backup(t, v, st); r.NewBlobs != 0 || r.Requests > 8 {
		t.Errorf("got %+v with nothing new, want at most 8 requests", r)
	}
	if err := ingest(t.Context(), st, late); err != nil {
		t.Fatal(err)
	}
	r := backup(t, v, st)
	if r.NewBlobs != 1 || r.NewBytes != late.desc.Size {
		t.Errorf("got %d new blobs, want the layer", r.NewBlobs)
	}
	wantSound(t, v, "")
	if r := backup(t, v, st); r.NewBlobs != 0 || r.Requests > 8 {
		t.Errorf("got %+v with nothing new, want at most 8 requests", r)
	}
	back := newStore(t, c)
	restore(t, v, back, vault.RestoreOptions{})
	hashContent(t, back, late.desc.Digest)
	if has, err := back.Has(t.Context(), never.desc); err != nil || has {
		t.Errorf("got %v, %v; want the other layer left elsewhere", has, err)
	}
}

// TestASnapshotThatDoesNotNoteForeignLayersIsLookedThrough has the record of an
// earlier version of the program.
func TestASnapshotThatDoesNotNoteForeignLayersIsLookedThrough(t *testing.T) {
	c := &clock{}
	st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
	v := openVault(t, dir, c, nil)
	late := foreignLayer("late")
	publish(t, st, "r", "1", plain("windows", content{desc: late.desc}))
	backup(t, v, st)
	var head layout.Head
	readJSON(t, filepath.Join(dir, layout.KeyHead), &head)
	e := &head.Snapshots[0]
	var record map[string]any
	readJSON(t, filepath.Join(dir, e.Record), &record)
	delete(record, "elsewhere")
	e.Digest = digest.FromBytes(writeJSON(t, filepath.Join(dir, e.Record), record))
	writeJSON(t, filepath.Join(dir, layout.KeyHead), head)
	if err := ingest(t.Context(), st, late); err != nil {
		t.Fatal(err)
	}
	if r := backup(t, v, st); r.NewBlobs != 1 || len(r.Failed) > 0 {
		t.Errorf("got %+v, want the layer saved", r)
	}
}

// TestForeignLayersOfAKeptImageAreNoted has a tag that stays as the snapshot before
// has it, because what a store has under it now is broken.
func TestForeignLayersOfAKeptImageAreNoted(t *testing.T) {
	for _, same := range []bool{true, false} {
		name := map[bool]string{true: "the store knows the kept image", false: "another store backs up, which does not"}[same]
		t.Run(name, func(t *testing.T) { keptForeign(t, same) })
	}
}

func keptForeign(t *testing.T, same bool) {
	c := &clock{}
	data := t.TempDir()
	st := openStore(t, data, c, nil)
	defer st.Close()
	v := openVault(t, filepath.Join(t.TempDir(), "vault"), c, nil)
	late, kept := foreignLayer("late"), foreignLayer("kept")
	old, broken := plain("windows", content{desc: late.desc}, kept), plain("broken")
	first := newStore(t, c)
	if same {
		first = st
	}
	publish(t, first, "r", "1", old)
	backup(t, v, first)
	if same {
		loseContent(t, data, kept)
	}
	publish(t, st, "r", "1", broken)
	loseContent(t, data, broken.blobs[1])
	if r := backup(t, v, st); len(r.Failed) != 1 || r.Failed[0].Kept != old.root.desc.Digest {
		t.Fatalf("got %+v, want the image kept", r.Failed)
	}
	wantSound(t, v, "")
	shown, err := v.Show(t.Context(), "")
	if err != nil || !slices.Equal(shown.Foreign, []digest.Digest{kept.desc.Digest}) || len(shown.Elsewhere) != 1 || shown.Elsewhere[0].Digest != late.desc.Digest {
		t.Errorf("got foreign layers %v and elsewhere %v, %v; want one of each", shown.Foreign, shown.Elsewhere, err)
	}
	// Who restores has what the snapshot has; then the layer comes.
	back := newStore(t, c)
	restore(t, v, back, vault.RestoreOptions{})
	hashContent(t, back, kept.desc.Digest)
	if err := ingest(t.Context(), back, late); err != nil {
		t.Fatal(err)
	}
	if r := backup(t, v, back); len(r.Failed) > 0 || !lies(t, v, late) {
		t.Errorf("got %+v, want the late layer saved", r)
	}
}

// lies tells whether the newest snapshot keeps a foreign layer.
func lies(t *testing.T, v *vault.Vault, l content) bool {
	t.Helper()
	shown, err := v.Show(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return slices.Contains(shown.Foreign, l.desc.Digest)
}

func loseContent(t *testing.T, data string, c content) {
	t.Helper()
	d := c.desc.Digest.Encoded()
	if err := os.Remove(filepath.Join(data, "registry/docker/registry/v2/blobs/sha256", d[:2], d, "data")); err != nil {
		t.Fatal(err)
	}
}

// TestAVerificationTellsSnapshotsApartByTheirForeignLayers has two of the same root.
func TestAVerificationTellsSnapshotsApartByTheirForeignLayers(t *testing.T) {
	c := &clock{}
	st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
	v := openVault(t, dir, c, nil)
	late := foreignLayer("late")
	publish(t, st, "r", "1", plain("windows", content{desc: late.desc}))
	backup(t, v, st)
	if err := ingest(t.Context(), st, late); err != nil {
		t.Fatal(err)
	}
	backup(t, v, st)
	if err := os.Remove(filepath.Join(dir, layout.BlobKey(late.desc.Digest))); err != nil {
		t.Fatal(err)
	}
	var opened countingBucket
	all, err := openVault(t, dir, c, func(b bucket.Bucket) bucket.Bucket { opened = counting(b); return opened }).VerifyAll(t.Context(), vault.VerifyOptions{All: true}, nil)
	if err != nil || len(all.Snapshots) != 2 {
		t.Fatalf("got %+v, %v", all, err)
	}
	for key, n := range opened.gets {
		if n != 1 {
			t.Errorf("%s was read %d times", key, n)
		}
	}
	if a, b := all.Snapshots[0], all.Snapshots[1]; len(a.Problems) != 0 || len(b.Problems) != 1 || b.Blobs != a.Blobs+1 {
		t.Errorf("got %+v and %+v, want the problem in the second alone", a, b)
	}
}

// TestAnEventThatCouldNotBeReadBackIsLeftOut has a reason of megabytes.
func TestAnEventThatCouldNotBeReadBackIsLeftOut(t *testing.T) {
	c := &clock{}
	st, v := newStore(t, c), openVault(t, filepath.Join(t.TempDir(), "vault"), c, nil)
	publish(t, st, "r", "1", plain("one"))
	publish(t, st, "r", "2", plain("two"))
	if err := st.Untag(t.Context(), "r", "2", ledger.Event{By: "test", Reason: strings.Repeat("x", layout.EventMax)}); err != nil {
		t.Fatal(err)
	}
	backup(t, v, st)
	wantSound(t, v, "")
	back := newStore(t, c)
	if r := restore(t, v, back, vault.RestoreOptions{}); len(r.Failed) > 0 {
		t.Errorf("got %+v", r.Failed)
	}
	if events, err := back.Ledger().History(t.Context(), "r", "1"); err != nil || len(events) == 0 {
		t.Errorf("got %+v, %v; want the rest of the history", events, err)
	}
}

func writeJSON(t *testing.T, path string, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err == nil {
		err = os.WriteFile(path, raw, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestAKeptSparseImageHidesNothing has a tag that stays as the snapshot before has
// it, without a child, beside an image that by now has that child.
func TestAKeptSparseImageHidesNothing(t *testing.T) {
	c := &clock{}
	data := t.TempDir()
	st := openStore(t, data, c, nil)
	defer st.Close()
	v := openVault(t, filepath.Join(t.TempDir(), "vault"), c, nil)
	amd, arm := plain("amd64"), plain("arm64")
	sparse := index("arm64", amd)
	publish(t, st, "r", "moved", sparse)
	backup(t, v, st)

	publish(t, st, "r", "whole", index("", arm, amd))
	broken := plain("broken")
	publish(t, st, "r", "moved", broken)
	loseContent(t, data, broken.blobs[1])
	r := backup(t, v, st)
	if len(r.Failed) != 1 || r.Failed[0].Kept != sparse.root.desc.Digest {
		t.Fatalf("got %+v, want the sparse image kept", r.Failed)
	}
	wantSound(t, v, "")
	back := newStore(t, c)
	restored := restore(t, v, back, vault.RestoreOptions{})
	got := stateOf(t, back)
	if len(restored.Failed) > 0 || got.Tags["r:moved"] != sparse.root.desc.Digest {
		t.Errorf("got %+v and %v", restored.Failed, got.Tags)
	}
	whole := got.Tags["r:whole"]
	all, err := back.Closure(t.Context(), "r", whole)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range slices.Concat(arm.blobs, arm.manifests) {
		if !slices.ContainsFunc(all, func(got store.Content) bool { return got.Digest == want.desc.Digest }) {
			t.Errorf("%s of the child is missing", want.desc.Digest)
		}
	}
	// A third machine, and one repository alone, find the same.
	only := newStore(t, c)
	restore(t, v, only, vault.RestoreOptions{Patterns: []string{"r:whole"}})
	if n := stateOf(t, only).Manifests["r@"+whole.String()]; n != len(all) {
		t.Errorf("got %d contents, want %d", n, len(all))
	}
}

// TestASparseReferrerIsRestoredWithItsSubject has an index that refers to an image
// without a tag and leaves out a child.
func TestASparseReferrerIsRestoredWithItsSubject(t *testing.T) {
	c := &clock{}
	st, v := newStore(t, c), openVault(t, filepath.Join(t.TempDir(), "vault"), c, nil)
	subject, out := plain("subject"), plain("left out")
	part := plain("part")
	idx := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, ArtifactType: "application/vnd.example", Subject: &subject.root.desc, Manifests: []ocispec.Descriptor{part.root.desc, out.root.desc}}
	idx.SchemaVersion = 2
	referrer := image{root: encoded(ocispec.MediaTypeImageIndex, idx), blobs: part.blobs, absent: []digest.Digest{out.root.desc.Digest}}
	referrer.manifests = append(slices.Clone(part.manifests), referrer.root)
	publish(t, st, "r", "", subject)
	publish(t, st, "r", "", referrer)
	first := backup(t, v, st)
	if len(first.Failed) > 0 {
		t.Errorf("got %+v", first.Failed)
	}
	wantSound(t, v, "")
	restoresTo(t, v, c, first.Snapshot, stateOf(t, st))
}
