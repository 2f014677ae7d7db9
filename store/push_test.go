package store

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	"lastro/store/layout"
	"lastro/store/ledger"
	"lastro/store/storetest"
)

// uploaded puts a file where distribution has what was uploaded in a session.
func uploaded(t *testing.T, dir, repo, session, content string) (folder string) {
	t.Helper()
	folder = filepath.Join(dir, "registry", upload(repo, session))
	err := errors.Join(
		os.MkdirAll(filepath.Join(folder, "hashstates/sha256"), 0o700),
		os.WriteFile(filepath.Join(folder, "hashstates/sha256/3"), []byte("state"), 0o600),
		os.WriteFile(filepath.Join(folder, "data"), []byte(content), 0o600),
	)
	if err != nil {
		t.Fatal(err)
	}
	return folder
}

func serves(t *testing.T, s *Store, repo string, d digest.Digest) bool {
	t.Helper()
	ok, err := s.ServesBlob(t.Context(), repo, d)
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

func TestAnUploadIsAdoptedWhenItIsWhatItIsCalled(t *testing.T) {
	dir := storetest.Folder(t)
	s := open(t, dir, Options{})
	d := digest.SHA512.FromString("one")
	folder := uploaded(t, dir, "a", "s1", "one")
	if err := s.AdoptUpload(t.Context(), "a", "s1", d); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(folder); !errors.Is(err, fs.ErrNotExist) || !serves(t, s, "a", d) {
		t.Errorf("the session is there: %v, served %v", err, serves(t, s, "a", d))
	}
	folder = uploaded(t, dir, "a", "s2", "other")
	if err := s.AdoptUpload(t.Context(), "a", "s2", digest.SHA512.FromString("two")); !errors.Is(err, layout.ErrDigest) {
		t.Errorf("another digest: %v", err)
	}
	if _, err := os.Stat(folder); !errors.Is(err, fs.ErrNotExist) || serves(t, s, "a", digest.SHA512.FromString("two")) {
		t.Errorf("what is another is there: %v", err)
	}
	for _, session := range []string{"nowhere", "", "..", ".", "../s1", "a/b"} {
		if err := s.AdoptUpload(t.Context(), "a", session, d); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("session %q: %v", session, err)
		}
	}
	if err := s.DropUpload(t.Context(), "a", "nowhere"); err != nil {
		t.Error(err)
	}
	if err := s.DropUpload(t.Context(), "a", ".."); err == nil {
		t.Error("a session that is none was dropped")
	}
}

func TestUploadsArePurgedByAgeAndHashedAgainAfterAnUncleanStop(t *testing.T) {
	dir := storetest.Folder(t)
	s := open(t, dir, Options{})
	old, young := uploaded(t, dir, "a/b", "old", "one"), uploaded(t, dir, "c", "young", "one")
	weekAgo := time.Now().Add(-time.Hour)
	if err := errors.Join(os.Chtimes(old, weekAgo, weekAgo), os.Chtimes(old+"/data", weekAgo, weekAgo), os.Chtimes(young, weekAgo, weekAgo)); err != nil {
		t.Fatal(err)
	}
	before := time.Now().Add(-time.Minute)
	if n, err := s.PurgeUploads(t.Context(), before, nobodyWrites); err != nil || n != 1 {
		t.Errorf("%d purged, %v", n, err)
	}
	if err := s.ForgetHashes(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(old); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the old one: %v", err)
	}
	if _, err := os.Stat(young + "/hashstates"); err != nil {
		t.Errorf("after a clean stop: %v", err)
	}
	// Of the store that is still open, a copy is what a kill leaves.
	after := copyOf(t, dir)
	s = open(t, after, Options{})
	if n, err := s.PurgeUploads(t.Context(), before, nobodyWrites); err != nil || n != 0 {
		t.Errorf("%d purged, %v", n, err)
	}
	if err := s.ForgetHashes(t.Context()); err != nil {
		t.Fatal(err)
	}
	young = filepath.Join(after, "registry", upload("c", "young"))
	if _, err := os.Stat(young + "/hashstates"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after an unclean stop: %v", err)
	}
	if _, err := os.Stat(young + "/data"); err != nil {
		t.Error(err)
	}
}

func nobodyWrites(string, string) (release func(), ok bool) { return func() {}, true }

func TestAnUploadThatSomebodyWritesToIsNotPurged(t *testing.T) {
	dir := storetest.Folder(t)
	s := open(t, dir, Options{})
	folder := uploaded(t, dir, "a/b", "old", "one")
	weekAgo := time.Now().Add(-7 * 24 * time.Hour)
	age := func() {
		if err := errors.Join(os.Chtimes(folder, weekAgo, weekAgo), os.Chtimes(folder+"/data", weekAgo, weekAgo)); err != nil {
			t.Fatal(err)
		}
	}
	claimed, released := 0, 0
	for _, c := range []struct {
		name   string
		claim  Claim
		purged int
	}{
		{"it is being written to", func(string, string) (func(), bool) { return nil, false }, 0},
		{"it was written to just before it was claimed", func(string, string) (func(), bool) {
			now := time.Now()
			return func() {}, os.Chtimes(folder+"/data", now, now) == nil
		}, 0},
		{"nobody writes to it", func(repo, session string) (func(), bool) {
			claimed++
			return func() {
				if _, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) {
					released++
				}
			}, repo == "a/b" && session == "old"
		}, 1},
	} {
		age()
		if n, err := s.PurgeUploads(t.Context(), time.Now().Add(-time.Hour), c.claim); err != nil || n != c.purged {
			t.Errorf("%s: %d purged, %v", c.name, n, err)
		}
		if _, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) != (c.purged == 1) {
			t.Fatalf("%s: the folder: %v", c.name, err)
		}
	}
	if claimed != 1 || released != 1 {
		t.Errorf("claimed %d times, and released %d times after it had gone", claimed, released)
	}
}

func TestABlobIsFoundAndMounted(t *testing.T) {
	dir := storetest.Folder(t)
	s := open(t, dir, Options{})
	d := digest.FromString("one")
	uploaded(t, dir, "deep/down/here", "s", "one")
	if err := s.AdoptUpload(t.Context(), "deep/down/here", "s", d); err != nil {
		t.Fatal(err)
	}
	everywhere := func(string) bool { return true }
	if repo, err := s.ServedBlob(t.Context(), d, everywhere); err != nil || repo != "deep/down/here" {
		t.Errorf("found in %q, %v", repo, err)
	}
	if repo, err := s.ServedBlob(t.Context(), d, func(string) bool { return false }); err != nil || repo != "" {
		t.Errorf("found in %q, %v", repo, err)
	}
	if repo, err := s.ServedBlob(t.Context(), digest.FromString("two"), everywhere); err != nil || repo != "" {
		t.Errorf("what is not here was found in %q, %v", repo, err)
	}
	if err := s.Mount(t.Context(), "deep/down", "b", d); !errors.Is(err, fs.ErrNotExist) || serves(t, s, "b", d) {
		t.Errorf("mounted from where it is not: %v", err)
	}
	if err := s.Mount(t.Context(), "deep/down/here", "b", d); err != nil || !serves(t, s, "b", d) {
		t.Errorf("not mounted: %v", err)
	}
	if err := s.Mount(t.Context(), "b", "../c", d); err == nil {
		t.Error("mounted into what is no repository")
	}
	// A link without its content serves nothing.
	if err := s.tree.Remove(layout.Data(d)); err != nil {
		t.Fatal(err)
	}
	if serves(t, s, "b", d) {
		t.Error("what is not here is served")
	}
}

func fetchText(text string) mirror.Fetch {
	return func(_ context.Context, offset int64) (io.ReadCloser, int64, error) {
		return io.NopCloser(strings.NewReader(text[offset:])), offset, nil
	}
}

func TestNothingIsTakenOutWhileSomethingIsPublished(t *testing.T) {
	var s *Store
	look := func(string) {}
	s = open(t, storetest.Folder(t), Options{Step: func(op, _ string) { look(op) }})
	gate := &s.gates.stripes[stripe("a")%uint32(len(s.gates.stripes))]
	m := storetest.New("a")
	if err := m.Ingest(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	published, removed := 0, 0
	look = func(op string) {
		published++
		if gate.TryLock() {
			gate.Unlock()
			t.Errorf("%s of a publication, and the gate can be shut", op)
		}
	}
	if _, err := s.Publish(t.Context(), m.Publication("a", "v1")); err != nil {
		t.Fatal(err)
	}
	look = func(op string) {
		removed++
		if gate.TryRLock() {
			gate.RUnlock()
			t.Errorf("%s of a removal, and the gate is open", op)
		}
		if s.taking.TryLock() {
			s.taking.Unlock()
			t.Errorf("%s of a removal, and another may go on", op)
		}
	}
	if err := s.Unpublish(t.Context(), "a", m.Root.Digest, ledger.Event{}, keepNone); err != nil {
		t.Fatal(err)
	}
	alone := digest.FromString(`{"name":"a-amd64"}`)
	if err := s.Unpublish(t.Context(), "a", m.Manifests[0].Descriptor.Digest, ledger.Event{}, keepNone); err != nil {
		t.Fatal(err)
	}
	if err := s.Unlink(t.Context(), "a", alone); err != nil {
		t.Fatal(err)
	}
	if look = func(string) {}; published < 5 || removed < 4 {
		t.Errorf("looked at %d and %d steps", published, removed)
	}
}

func TestWhatAClientCallsForeignIsNotGivenToIt(t *testing.T) {
	s := open(t, storetest.Folder(t), Options{})
	m := storetest.New("a")
	if _, err := m.Put(t.Context(), s, "secret", "v1"); err != nil {
		t.Fatal(err)
	}
	layer := ocispec.Descriptor{Digest: digest.FromString("shared"), Size: int64(len("shared")), MediaType: "x/y", URLs: []string{"https://example.com"}}
	raw := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","layers":[{"mediaType":"x/y","digest":"` +
		layer.Digest.String() + `","size":6,"urls":["https://example.com"]}]}`
	desc := ocispec.Descriptor{Digest: digest.FromString(raw), Size: int64(len(raw))}
	parsed, err := mirror.ParseManifest(desc, []byte(raw))
	if err == nil {
		err = s.Ingest(t.Context(), desc, fetchText(raw))
	}
	if err != nil {
		t.Fatal(err)
	}
	for kind, given := range map[string]bool{ledger.Pushed: false, "": true} {
		p := mirror.Publication{Repo: "a", Root: parsed.Descriptor, Manifests: []mirror.Manifest{parsed}, Kind: kind}
		if kind == "" {
			p.Repo = "mirrored"
		}
		if _, err := s.Publish(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		if got := serves(t, s, p.Repo, layer.Digest); got != given {
			t.Errorf("event %q: given %v", kind, got)
		}
	}
}

func TestAManifestKeepsTheTypeThatItCameWith(t *testing.T) {
	s := open(t, storetest.Folder(t), Options{})
	raw := `{"schemaVersion":2,"layers":[]}`
	desc := ocispec.Descriptor{MediaType: "application/vnd.example+json", Digest: digest.FromString(raw), Size: int64(len(raw))}
	parsed, err := mirror.ParseManifest(desc, []byte(raw))
	if err == nil {
		err = s.Ingest(t.Context(), desc, fetchText(raw))
	}
	if err != nil {
		t.Fatal(err)
	}
	if got, _, err := s.Manifest(t.Context(), "", desc.Digest); err != nil || got.MediaType != ocispec.MediaTypeImageManifest {
		t.Errorf("unknown to the ledger: %q, %v", got.MediaType, err)
	}
	if _, err := s.Publish(t.Context(), mirror.Publication{Repo: "a", Root: parsed.Descriptor, Manifests: []mirror.Manifest{parsed}}); err != nil {
		t.Fatal(err)
	}
	if got, _, err := s.Manifest(t.Context(), "a", desc.Digest); err != nil || got.MediaType != desc.MediaType {
		t.Errorf("served as %q, %v", got.MediaType, err)
	}
	if _, err := s.Rebuild(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, _, err := s.Manifest(t.Context(), "a", desc.Digest); err != nil || got.MediaType != desc.MediaType {
		t.Errorf("after a rebuild as %q, %v", got.MediaType, err)
	}
}

func TestTheKeyOfUploadsCannotBeKeptWhereNothingCan(t *testing.T) {
	dir := storetest.Folder(t)
	s := open(t, dir, Options{})
	if err := os.Mkdir(filepath.Join(dir, uploadKey), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := s.UploadKey(); err == nil || !strings.Contains(err.Error(), "the key of uploads") {
		t.Errorf("%v", err)
	}
}
