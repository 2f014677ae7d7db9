package store

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"lastro/store/layout"
	"lastro/store/ledger"
	"lastro/store/storetest"
)

func keepNone(string) error { return nil }

func TestUnpublishKeepsWhatItIsToldToKeep(t *testing.T) {
	s := open(t, storetest.Folder(t), Options{})
	m := storetest.New("a")
	for _, tag := range []string{"v1", "v2"} {
		if _, err := m.Put(t.Context(), s, "a", tag); err != nil {
			t.Fatal(err)
		}
	}
	held := errors.New("held")
	for _, kept := range []string{"v2", ""} {
		err := s.Unpublish(t.Context(), "a", m.Root.Digest, ledger.Event{}, func(tag string) error {
			if tag == kept {
				return held
			}
			return nil
		})
		if !errors.Is(err, held) {
			t.Errorf("%q: %v", kept, err)
		}
		checkWhole(t, s)
		for _, tag := range []string{"v1", "v2"} {
			if _, err := s.Resolve(t.Context(), "a", tag); err != nil {
				t.Errorf("%q is kept, and tag %s: %v", kept, tag, err)
			}
		}
	}
	if err := s.Unpublish(t.Context(), "a", m.Root.Digest, ledger.Event{By: "ann", Reason: "because"}, keepNone); err != nil {
		t.Fatal(err)
	}
	checkWhole(t, s)
	for _, tag := range []string{"v1", "v2"} {
		events, err := s.Ledger().History(t.Context(), "a", tag)
		if err != nil || len(events) != 2 || events[1].Event != ledger.Removed || events[1].By != "ann" || events[1].Reason != "because" {
			t.Errorf("%+v, %v", events, err)
		}
	}
	if err := s.Unpublish(t.Context(), "a", m.Root.Digest, ledger.Event{}, keepNone); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("again: %v", err)
	}
	if has, err := s.Has(t.Context(), m.Root); err != nil || !has {
		t.Errorf("content went too: %v", err)
	}
}

// TestDoubtKeepsWhatAManifestMayReferTo takes from the ledger what it knows, and
// from the disk what can be read.
func TestDoubtKeepsWhatAManifestMayReferTo(t *testing.T) {
	ctx := context.Background()
	layer := digest.FromString("shared")
	for _, c := range []struct {
		name  string
		doubt func(t *testing.T, dir string, s *Store, m *storetest.Image)
	}{
		{"a manifest that the ledger does not know", func(t *testing.T, _ string, s *Store, m *storetest.Image) {
			if err := s.ledger.RecordUnlinked(ctx, "a", m.Root.Digest); err != nil {
				t.Fatal(err)
			}
		}},
		{"a manifest whose link cannot be read", func(t *testing.T, dir string, s *Store, m *storetest.Image) {
			name := layout.Revision("a", digest.FromString("unreadable"))
			if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, "registry", name)), 0o700), os.WriteFile(filepath.Join(dir, "registry", name), []byte("rubbish"), 0o600)); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := storetest.Folder(t)
			s := open(t, dir, Options{})
			m, other := storetest.New("a"), storetest.New("b")
			if _, err := m.Put(ctx, s, "a", "v1"); err != nil {
				t.Fatal(err)
			}
			unused := digest.FromString("unused")
			uploaded(t, dir, "a", "s", "unused")
			if err := s.AdoptUpload(ctx, "a", "s", unused); err != nil {
				t.Fatal(err)
			}
			c.doubt(t, dir, s, m)
			if err := s.Unlink(ctx, "a", layer); err == nil || !serves(t, s, "a", layer) {
				t.Errorf("a layer in use went: %v", err)
			}
			if err := s.Unlink(ctx, "a", unused); err == nil || !serves(t, s, "a", unused) {
				t.Errorf("a layer that may be in use went: %v", err)
			}
			if _, err := other.Put(ctx, s, "b", "v1"); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestATagThatCannotBeReadKeepsEveryManifest(t *testing.T) {
	dir := storetest.Folder(t)
	s := open(t, dir, Options{})
	m := storetest.New("a")
	if _, err := m.Put(t.Context(), s, "a", "v1"); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "registry", layout.Tag("a", "v2"))
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, []byte("rubbish"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := s.Unpublish(t.Context(), "a", m.Root.Digest, ledger.Event{}, keepNone); err == nil || s.revision("a", m.Root.Digest) != nil {
		t.Errorf("it went: %v", err)
	}
	if _, err := s.Resolve(t.Context(), "a", "v1"); err != nil {
		t.Error(err)
	}
}

func TestWhatIsInUseStays(t *testing.T) {
	s := open(t, storetest.Folder(t), Options{})
	m := storetest.New("a")
	if _, err := m.Put(t.Context(), s, "a", "v1"); err != nil {
		t.Fatal(err)
	}
	child := m.Manifests[0].Descriptor.Digest
	err := s.Unpublish(t.Context(), "a", child, ledger.Event{}, keepNone)
	if used, ok := errors.AsType[*InUseError](err); !ok || used.Digest != child {
		t.Errorf("a child: %v", err)
	}
	err = s.Unlink(t.Context(), "a", digest.FromString("shared"))
	if _, ok := errors.AsType[*InUseError](err); !ok {
		t.Errorf("a layer: %v", err)
	}
	checkWhole(t, s)
	if err := s.Unlink(t.Context(), "a", digest.FromString("nowhere")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is not there: %v", err)
	}
}
