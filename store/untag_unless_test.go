package store

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/opencontainers/go-digest"

	"lastro/store/ledger"
	"lastro/store/storetest"
)

func TestATagThatIsToBeKeptStaysWhereItIs(t *testing.T) {
	s := open(t, storetest.Folder(t), Options{})
	m := storetest.New("a")
	m.MustPut(t, s, "a", "v1")
	held := errors.New("held")
	at := func(d digest.Digest) error {
		if s.gates.stripes[stripe("a")%uint32(len(s.gates.stripes))].TryRLock() {
			t.Error("the tag may move after it was asked about")
		}
		if s.taking.TryLock() {
			s.taking.Unlock()
			t.Error("it may go after it was asked about")
		}
		if d != m.Root.Digest {
			t.Errorf("asked about %s", d)
		}
		return held
	}
	if _, err := s.UntagUnless(t.Context(), "a", "v1", ledger.Event{}, at); !errors.Is(err, held) {
		t.Error(err)
	}
	if d, err := s.Resolve(t.Context(), "a", "v1"); err != nil || d != m.Root.Digest {
		t.Errorf("it is at %s, %v", d, err)
	}
	held = nil
	if d, err := s.UntagUnless(t.Context(), "a", "v1", ledger.Event{By: "ann"}, at); err != nil || d != m.Root.Digest {
		t.Errorf("%s, %v", d, err)
	}
	events, err := s.Ledger().History(t.Context(), "a", "v1")
	if err != nil || len(events) != 2 || events[1].Event != ledger.Removed || events[1].By != "ann" {
		t.Errorf("%+v, %v", events, err)
	}
	for _, tag := range []string{"v1", "../v1"} {
		if _, err := s.UntagUnless(t.Context(), "a", tag, ledger.Event{}, at); err == nil || tag == "v1" && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", tag, err)
		}
	}
}

func TestABlobIsFoundOnlyWhereItMayBe(t *testing.T) {
	s := open(t, storetest.Folder(t), Options{})
	m := storetest.New("a")
	for _, repo := range []string{"a", "b", "c"} {
		m.MustPut(t, s, repo, "v1")
	}
	layer := digest.FromString("shared")
	for _, only := range []string{"a", "b", "c", ""} {
		found, err := s.ServedBlob(t.Context(), layer, func(repo string) bool { return repo == only })
		if err != nil || found != only {
			t.Errorf("found in %q, %v, and may be in %q only", found, err, only)
		}
	}
}
