package store

import (
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	bolt "go.etcd.io/bbolt"
	"pgregory.net/rapid"

	"lastro/mirror"
	"lastro/store/ledger"
	"lastro/store/storetest"
)

// graphOf is the graph of a ledger that nobody has open, entry by entry, and what is
// absent: <bucket> <key> to value.
func graphOf(t testing.TB, dir string) map[string]string {
	t.Helper()
	db, err := bolt.Open(filepath.Join(dir, "ledger.db"), 0o600, &bolt.Options{NoFreelistSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	all := map[string]string{}
	err = db.View(func(tx *bolt.Tx) error {
		graph := tx.Bucket([]byte("graph"))
		inUse := graph.Bucket(graph.Get([]byte("in use")))
		err := inUse.ForEachBucket(func(name []byte) error {
			return inUse.Bucket(name).ForEach(note(all, string(name)))
		})
		if err != nil {
			return err
		}
		return tx.Bucket([]byte("absent")).ForEach(note(all, "absent"))
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func note(all map[string]string, bucket string) func(k, v []byte) error {
	return func(k, v []byte) error {
		all[bucket+" "+hex.EncodeToString(k)] = string(v)
		return nil
	}
}

// randomImage draws an image of any of the shapes that registries have.
func randomImage(t *rapid.T, name string) *storetest.Image {
	switch rapid.SampledFrom([]string{"index", "sparse", "single", "nested", "sha512", "no media type", "foreign", "fallback"}).Draw(t, "shape") {
	case "index":
		return storetest.New(name)
	case "sparse":
		return storetest.Sparse(name)
	case "nested":
		m := &storetest.Image{}
		inner := m.Index(m.Single(name+"-a", nil), m.Single(name+"-b", nil))
		m.Index(inner, m.Single(name+"-c", nil))
		referrer := m.Single("sbom", &m.Root)
		m.Single("signature of the sbom", &referrer)
		return m
	case "sha512":
		return longNamed(name)
	case "no media type":
		m := &storetest.Image{}
		m.Manifest(map[string]any{"schemaVersion": 2, "config": m.Blob(ocispec.MediaTypeImageConfig, []byte(name)), "layers": []any{}})
		return m
	case "foreign":
		m := &storetest.Image{}
		gone := ocispec.Descriptor{MediaType: "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Digest: digest.FromString("elsewhere"), Size: 9, URLs: []string{"https://example.com/elsewhere"}}
		m.Manifest(ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
			Config: m.Blob(ocispec.MediaTypeImageConfig, []byte(name)), Layers: []ocispec.Descriptor{gone}})
		return m
	case "fallback": // the index that a client without the referrers API keeps at a tag
		m := &storetest.Image{}
		subject := storetest.New(name).Root
		m.Index(m.Single("signature", &subject))
		return m
	}
	m := &storetest.Image{}
	m.Single(name, nil)
	return m
}

// longNamed is an image whose manifest and layer have digests of sha512.
func longNamed(name string) *storetest.Image {
	m := &storetest.Image{Content: map[digest.Digest][]byte{}}
	long := func(kind string, raw []byte) ocispec.Descriptor {
		sum := sha512.Sum512(raw)
		d := digest.NewDigestFromBytes(digest.SHA512, sum[:])
		m.Content[d] = raw
		return ocispec.Descriptor{MediaType: kind, Digest: d, Size: int64(len(raw))}
	}
	raw, err := json.Marshal(ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: m.Blob(ocispec.MediaTypeImageConfig, []byte(name)), Layers: []ocispec.Descriptor{long(ocispec.MediaTypeImageLayerGzip, []byte("long "+name))}})
	if err != nil {
		panic(err)
	}
	parsed, err := mirror.ParseManifest(long(ocispec.MediaTypeImageManifest, raw), raw)
	if err != nil {
		panic(err)
	}
	m.Manifests, m.Root = []mirror.Manifest{parsed}, parsed.Descriptor
	m.Single("signature of "+name, &m.Root)
	return m
}

// fillRandomly publishes images, and where it may take away it also removes tags
// and manifests.
func fillRandomly(t *testing.T, r *rapid.T, s *Store, takesAway bool) {
	repos := rapid.SampledFrom([]string{"a", "a/b", "c"})
	for i := range rapid.IntRange(1, 8).Draw(r, "images") {
		m, repo := randomImage(r, fmt.Sprint("image-", rapid.IntRange(0, 4).Draw(r, "name"))), repos.Draw(r, "repo")
		tag := rapid.SampledFrom([]string{"", "1", "2", "latest", strings.Replace(m.Root.Digest.String(), ":", "-", 1)[:71], "sha256-" + strings.Repeat("a", 64) + ".sig"}).Draw(r, "tag")
		if _, err := m.Put(t.Context(), s, repo, tag); err != nil {
			t.Fatal(err)
		}
		if !takesAway || !rapid.Bool().Draw(r, "take away") {
			continue
		}
		if tag != "" {
			if err := s.Untag(t.Context(), repo, tag, ledger.Event{By: "test"}); err != nil {
				t.Fatal(err)
			}
		}
		gone := m.Manifests[rapid.IntRange(0, len(m.Manifests)-1).Draw(r, "gone")].Descriptor.Digest
		// What something else needs stays, and says so.
		err := s.Unpublish(t.Context(), repo, gone, ledger.Event{By: "test"}, func(string) error { return nil })
		if err != nil && i == 0 {
			r.Logf("%s stays: %v", gone, err)
		}
	}
}

// historyOf is every event, in words.
func historyOf(t testing.TB, s *Store) (all []string) {
	t.Helper()
	for repo, err := range s.Ledger().Repositories(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		for tag, err := range s.Ledger().Tags(t.Context(), repo) {
			if err != nil {
				t.Fatal(err)
			}
			events, err := s.Ledger().History(t.Context(), repo, tag.Tag)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, fmt.Sprint(repo, tag, events))
		}
	}
	return all
}

// The ledger and what a rebuild finds in storage are one.
func TestARebuildOfAStoreThatRestsIsTheLedger(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		dir := rapidFolder(t, r)
		s := open(t, dir, Options{})
		takesAway := rapid.Bool().Draw(r, "takes away")
		fillRandomly(t, r, s, takesAway)
		s.Close()
		recorded := graphOf(t, dir)

		s = open(t, dir, Options{})
		history := historyOf(t, s)
		out, err := s.Rebuild(t.Context())
		if err != nil || len(out.Problems) > 0 {
			r.Fatal(out.Problems, err)
		}
		if d := cmp.Diff(history, historyOf(t, s)); d != "" {
			r.Errorf("the history changed: %s", d)
		}
		s.Close()
		rebuilt := graphOf(t, dir)
		if takesAway {
			forget(recorded, rebuilt)
			withoutMarks(recorded, rebuilt)
		}
		if d := cmp.Diff(recorded, rebuilt); d != "" {
			r.Errorf("recorded (-) and rebuilt (+):\n%s", d)
		}

		// A ledger that is lost is made from storage alone.
		if err := os.Remove(filepath.Join(dir, "ledger.db")); err != nil {
			r.Fatal(err)
		}
		s = open(t, dir, Options{})
		if out, err := s.Rebuild(t.Context()); err != nil || len(out.Problems) > 0 {
			r.Fatal(out.Problems, err)
		}
		s.Close()
		alone := graphOf(t, dir)
		if takesAway {
			withoutMarks(alone)
		}
		if d := cmp.Diff(rebuilt, alone); d != "" {
			r.Errorf("rebuilt (-) and made from storage alone (+):\n%s", d)
		}
	})
}

func rapidFolder(t *testing.T, r *rapid.T) string {
	dir := storetest.Folder(t)
	r.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// withoutMarks takes what is absent from graphs: a mark may outlive the index that it
// was made for, and then says nothing.
func withoutMarks(graphs ...map[string]string) {
	for _, g := range graphs {
		maps.DeleteFunc(g, func(entry, _ string) bool { return strings.HasPrefix(entry, "absent ") })
	}
}

// forget takes from a recorded graph what it says too much, until a rebuild: of
// manifests that no repository holds.
func forget(recorded, rebuilt map[string]string) {
	held := map[string]bool{}
	for entry := range rebuilt {
		if key, ok := strings.CutPrefix(entry, "node "); ok {
			held[key] = true
		}
	}
	for entry := range recorded {
		bucket, key, _ := strings.Cut(entry, " ")
		of := key
		if bucket == "parent" || bucket == "subject" {
			of = key[firstOf(key):]
		}
		if slices.Contains([]string{"node", "child", "parent", "subject"}, bucket) && !held[of] {
			delete(recorded, entry)
		}
	}
}

// firstOf is how long the first digest of a key is, in hexadecimal.
func firstOf(key string) int {
	if strings.HasPrefix(key, "02") {
		return 2 * (1 + sha512.Size)
	}
	return 2 * (1 + 32)
}
