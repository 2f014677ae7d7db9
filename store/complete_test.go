package store

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"lastro/mirror"
	"lastro/store/layout"
	"lastro/store/storetest"
)

// first selects the first child of an index.
func first(m mirror.Manifest) (refs []mirror.Ref) {
	for child := range m.Children() {
		return []mirror.Ref{child}
	}
	return nil
}

func TestCompleteTellsWhatWasPublishedWhole(t *testing.T) {
	remove := func(name string) func(*testing.T, string, *Store, *storetest.Image) {
		return func(t *testing.T, dir string, s *Store, m *storetest.Image) {
			if err := os.Remove(filepath.Join(dir, "registry", name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	w := wide()
	amd64, arm64 := w.Manifests[0].Descriptor.Digest, w.Manifests[1].Descriptor.Digest
	for _, c := range []struct {
		name     string
		m        *storetest.Image
		lose     func(*testing.T, string, *Store, *storetest.Image)
		selected func(mirror.Manifest) []mirror.Ref
		repo     string
		want     bool
	}{
		{name: "an image is whole", m: wide(), repo: "r", want: true},
		{name: "it is not in another repository", m: wide(), repo: "other"},
		{name: "a sparse image is not, for who wants all", m: narrow(), repo: "r"},
		{name: "it is for who wants what is here", m: narrow(), repo: "r", selected: first, want: true},
		{name: "without the root's content it is not", m: wide(), lose: remove(layout.Data(w.Root.Digest)), repo: "r"},
		{name: "without the root's link it is not", m: wide(), lose: remove(layout.Revision("r", w.Root.Digest)), repo: "r"},
		{name: "without a child's link it is not", m: wide(), lose: remove(layout.Revision("r", arm64)), repo: "r"},
		{name: "nor for who wants that child", m: wide(), lose: remove(layout.Revision("r", amd64)), repo: "r", selected: first},
		{name: "a child that is not wanted may go", m: wide(), lose: remove(layout.Revision("r", arm64)), repo: "r", selected: first, want: true},
		{name: "content of a child is not looked at", m: wide(), lose: remove(layout.Data(arm64)), repo: "r", want: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := storetest.Folder(t)
			s := open(t, dir, Options{})
			c.m.MustPut(t, s, "r", "v1")
			if c.lose != nil {
				c.lose(t, dir, s, c.m)
			}
			if got, err := s.Complete(t.Context(), c.repo, c.m.Root.Digest, c.selected); err != nil || got != c.want {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

func TestWhatWasOnlyRecordedIsNotComplete(t *testing.T) {
	m := wide()
	s := open(t, storetest.Folder(t), Options{})
	if whole, err := s.Complete(t.Context(), "r", m.Root.Digest, nil); err != nil || whole {
		t.Errorf("what nobody knows: %v, %v", whole, err)
	}
	if err := m.Ingest(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if err := s.ledger.RecordGraph(t.Context(), "r", m.Manifests, nil); err != nil {
		t.Fatal(err)
	}
	if whole, err := s.Complete(t.Context(), "r", m.Root.Digest, nil); err != nil || whole {
		t.Errorf("what was recorded and not published: %v, %v", whole, err)
	}
	if _, err := s.Complete(t.Context(), "../r", m.Root.Digest, nil); err == nil {
		t.Error("a name that is none is taken")
	}
	if _, err := s.Complete(t.Context(), "r", digest.Digest("sha256:abc"), nil); err == nil {
		t.Error("a digest that is none is taken")
	}
}

func BenchmarkComplete(b *testing.B) {
	s := open(b, b.TempDir(), Options{})
	m := wide()
	m.MustPut(b, s, "r", "v1")
	b.Run("cheap", func(b *testing.B) {
		for b.Loop() {
			if whole, err := s.Complete(b.Context(), "r", m.Root.Digest, nil); err != nil || !whole {
				b.Fatal(whole, err)
			}
		}
	})
	b.Run("thorough", func(b *testing.B) {
		for b.Loop() {
			if err := lookAtAll(b, s, m); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("resolve", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.Resolve(b.Context(), "r", "v1"); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// lookAtAll reads the manifests of an index of two and asks for the rest.
func lookAtAll(b *testing.B, s *Store, m *storetest.Image) error {
	for _, node := range m.Manifests[:3] {
		desc, raw, err := s.Manifest(b.Context(), "r", node.Descriptor.Digest)
		if err != nil {
			return err
		}
		parsed, err := mirror.ParseManifest(desc, raw)
		if err != nil {
			return err
		}
		for blob := range parsed.Blobs() {
			if _, err := s.Linked(b.Context(), "r", blob.Descriptor, false); err != nil {
				return err
			}
		}
	}
	return nil
}
