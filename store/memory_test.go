package store

import (
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"lastro/mirror"
	"lastro/store/storetest"
)

func TestADigestThatATagHadIsRememberedWithTheTimeWhenItLeft(t *testing.T) {
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	s := open(t, t.TempDir(), Options{Now: func() time.Time { return now }})
	a, b := storetest.New("a"), storetest.New("b")
	for _, m := range []*storetest.Image{a, b} {
		if _, err := m.Put(t.Context(), s, "lib/a", "v1"); err != nil {
			t.Fatal(err)
		}
		now = now.Add(time.Hour)
	}
	if err := s.Note(t.Context(), "lib/a", "v1", mirror.EventHeld, "a note"); err != nil {
		t.Fatal(err)
	}
	for d, want := range map[digest.Digest]time.Time{a.Root.Digest: now.Add(-time.Hour), b.Root.Digest: {}, digest.FromString("never"): {}} {
		if got, err := s.Had(t.Context(), "lib/a", "v1", d); err != nil || !got.Equal(want) {
			t.Errorf("%s left at %v, %v, want %v", d, got, err, want)
		}
	}
	if err := s.Retire(t.Context(), "lib/a", "v1", "gone upstream"); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Had(t.Context(), "lib/a", "v1", b.Root.Digest); err != nil || !got.Equal(now) {
		t.Errorf("what was retired left at %v, %v", got, err)
	}
	if _, _, err := s.Manifest(t.Context(), "lib/a", b.Root.Digest); err != nil {
		t.Errorf("what was retired cannot be had by digest: %v", err)
	}
}

func TestANoteThatIsTheNewestEventIsNotRepeated(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	for _, reason := range []string{"one", "one", "two", "one"} {
		if err := s.Note(t.Context(), "lib/a", "v1", mirror.EventAlarm, reason); err != nil {
			t.Fatal(err)
		}
	}
	events, err := s.Ledger().History(t.Context(), "lib/a", "v1")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range events {
		got = append(got, e.Reason)
	}
	if !slices.Equal(got, []string{"one", "two", "one"}) {
		t.Errorf("noted %q", got)
	}
}

func TestANoteMovesNoTag(t *testing.T) {
	s := open(t, t.TempDir(), Options{})
	m := storetest.New("a")
	if _, err := m.Put(t.Context(), s, "lib/a", "v1"); err != nil {
		t.Fatal(err)
	}
	if err := s.Note(t.Context(), "lib/a", "v1", mirror.EventVanished, "gone"); err != nil {
		t.Fatal(err)
	}
	state, err := s.Ledger().Tag(t.Context(), "lib/a", "v1")
	if err != nil || state.Digest != m.Root.Digest {
		t.Errorf("the ledger has %+v, %v", state, err)
	}
	var names []string
	for name, err := range s.Mirrored(t.Context(), "lib/a") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	if !slices.Equal(names, []string{"v1"}) {
		t.Errorf("tags %q", names)
	}
	if _, err := s.Room(t.Context()); err != nil {
		t.Error(err)
	}
}
