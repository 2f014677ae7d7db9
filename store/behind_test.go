package store

import (
	"os"
	"path/filepath"
	"testing"

	"lastro/store/layout"
	"lastro/store/ledger"
	"lastro/store/storetest"
)

// changed is a data folder whose registry was changed while nobody had it open:
// the tag gone went, and came is there that the ledger does not know.
func changed(t *testing.T) string {
	t.Helper()
	dir := storetest.Folder(t)
	s := open(t, dir, Options{})
	m := storetest.New("a")
	m.MustPut(t, s, "a", "gone")
	m.MustPut(t, s, "a", "stays")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	tags := filepath.Join(dir, "registry", layout.Tags("a"))
	if err := os.Rename(filepath.Join(tags, "gone"), filepath.Join(tags, "came")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// said is what the ledger's newest event of a tag is.
func said(t *testing.T, s *Store, tag string) string {
	t.Helper()
	events, err := s.Ledger().History(t.Context(), "a", tag)
	if err != nil {
		t.Fatal(err)
	}
	if len(events) == 0 {
		return ""
	}
	return events[len(events)-1].Event
}

func TestTheRegistryIsComparedBehind(t *testing.T) {
	dir := changed(t)
	s := open(t, dir, Options{Behind: true})
	<-s.behind.ended
	if came, gone, stays := said(t, s, "came"), said(t, s, "gone"), said(t, s, "stays"); came != ledger.Adopted || gone != ledger.Removed || stays != ledger.Seen {
		t.Errorf("came: %s, gone: %s, stays: %s", came, gone, stays)
	}
}

func TestAfterACrashTheRegistryIsComparedFirst(t *testing.T) {
	dir := changed(t)
	s := open(t, dir, Options{})
	crashed := copyOf(t, dir) // open
	s.Close()
	tags := filepath.Join(crashed, "registry", layout.Tags("a"))
	if err := os.Rename(filepath.Join(tags, "stays"), filepath.Join(tags, "new")); err != nil {
		t.Fatal(err)
	}
	s = open(t, crashed, Options{Behind: true})
	if got := said(t, s, "new"); got != ledger.Adopted || s.behind != nil {
		t.Errorf("the newest event of the tag is %q", got)
	}
}

func TestAComparisonBehindDisturbsNoPublication(t *testing.T) {
	dir := storetest.Folder(t)
	s := open(t, dir, Options{})
	m, other := storetest.New("a"), storetest.New("b")
	for _, tag := range []string{"1", "2", "3", "4"} {
		m.MustPut(t, s, "a", tag)
	}
	s.Close()
	s = open(t, dir, Options{Behind: true})
	for _, tag := range []string{"1", "2", "3", "4", "5"} {
		other.MustPut(t, s, "a", tag)
		if err := s.Untag(t.Context(), "a", tag, ledger.Event{By: "test"}); err != nil {
			t.Fatal(err)
		}
	}
	<-s.behind.ended
	for _, tag := range []string{"1", "2", "3", "4", "5"} {
		events, err := s.Ledger().History(t.Context(), "a", tag)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			if e.By == "reconcile" {
				t.Errorf("recorded %+v", e)
			}
		}
	}
	checkWhole(t, s)
}

func TestClosingEndsAComparisonBehind(t *testing.T) {
	s := open(t, changed(t), Options{Behind: true})
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	select {
	case <-s.behind.ended:
	default:
		t.Error("it goes on in a store that is closed")
	}
}

func TestWhatAgreesByNowIsLeftAlone(t *testing.T) {
	s := open(t, storetest.Folder(t), Options{})
	m := storetest.New("a")
	m.MustPut(t, s, "a", "v1")
	for _, mend := range []error{s.adopt(t.Context(), "a", "v1"), s.dropIfVanished(t.Context(), "a", "v1"), s.adopt(t.Context(), "a", "never"), s.dropIfVanished(t.Context(), "a", "never")} {
		if mend != nil {
			t.Error(mend)
		}
	}
	if got := said(t, s, "v1") + said(t, s, "never"); got != ledger.Seen {
		t.Errorf("the newest event is %q", got)
	}
}
