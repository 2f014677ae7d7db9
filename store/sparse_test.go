package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"lastro/store/ledger"
	"lastro/store/storetest"
)

// wide publishes all platforms of an image, narrow only one of them.
func wide() *storetest.Image   { return storetest.New("a") }
func narrow() *storetest.Image { return storetest.Sparse("a") }

func leftOut() digest.Digest { return narrow().Absent[0] }

func stillAbsent(t *testing.T, s *Store) bool {
	t.Helper()
	absent, err := s.Ledger().Absent(t.Context(), "r", leftOut())
	if err != nil {
		t.Fatal(err)
	}
	return absent
}

// TestAWideningThatEndsAtAnyStepLeavesTheImageSparseOrWhole widens the platform
// filter of an image whose tag stays where it is, and ends a store at every
// change on disk.
func TestAWideningThatEndsAtAnyStepLeavesTheImageSparseOrWhole(t *testing.T) {
	t.Parallel()
	type died struct{ step int }
	for k := 1; ; k += stride() {
		steps := -1
		dir := storetest.Folder(t)
		s := open(t, dir, Options{Step: func(string, string) {
			if steps >= 0 {
				steps++
			}
			if steps == k {
				panic(died{k})
			}
		}})
		narrow().MustPut(t, s, "r", "v1")
		steps = 0
		ended := func() (ended bool) {
			defer func() { ended = recover() == any(died{k}) }()
			wide().MustPut(t, s, "r", "v1")
			return false
		}()
		found := copyOf(t, dir)
		s.Close()
		after := open(t, found, Options{})
		checkWhole(t, after)
		wide().MustPut(t, after, "r", "v1")
		checkWhole(t, after)
		if stillAbsent(t, after) {
			t.Error("the child that came is absent")
		}
		after.Close()
		if t.Failed() {
			t.Fatalf("at step %d", k)
		}
		if !ended {
			if k < 10 {
				t.Errorf("only %d steps", k)
			}
			return
		}
	}
}

// A mark that outlives its child's coming would call a later loss intended.
func TestTheMarkOfAChildThatIsServedEnds(t *testing.T) {
	for _, order := range [][]*storetest.Image{{narrow(), wide()}, {wide(), narrow()}, {narrow(), wide(), narrow()}} {
		s := open(t, storetest.Folder(t), Options{})
		for _, m := range order {
			m.MustPut(t, s, "r", "v1")
		}
		if stillAbsent(t, s) {
			t.Errorf("after %d publications what is served is absent", len(order))
		}
	}
}

// The mark is durably gone when its transaction returns, so the link has to be
// there before.
func TestTheLinkOfAChildThatCameIsDurableBeforeItsMarkEnds(t *testing.T) {
	var s *Store
	link, barrier := false, ""
	s = open(t, storetest.Folder(t), Options{Step: func(op, subject string) {
		if s == nil || s.revision("r", leftOut()) != nil {
			return
		}
		link = true
		if op == "syncfs" && barrier == "" {
			barrier = fmt.Sprint(stillAbsent(t, s))
		}
	}})
	narrow().MustPut(t, s, "r", "v1")
	wide().MustPut(t, s, "r", "v1")
	if !link || barrier != "true" {
		t.Errorf("linked %v; absent at the barrier after: %q, want true", link, barrier)
	}
}

// What is left behind is a mark beside a link: a crash came between the two.
func TestAMarkThatACrashLeftEndsWhenTheStoreIsOpenedAgain(t *testing.T) {
	dir := storetest.Folder(t)
	s := open(t, dir, Options{})
	wide().MustPut(t, s, "r", "v1")
	if err := s.ledger.RecordGraph(t.Context(), "r", nil, []digest.Digest{leftOut(), digest.FromString("never came")}); err != nil {
		t.Fatal(err)
	}
	crashed := open(t, copyOf(t, dir), Options{})
	if stillAbsent(t, crashed) {
		t.Error("what is served is marked as absent")
	}
	if absent, err := crashed.Absent(t.Context(), "r", digest.FromString("never came")); err != nil || !absent {
		t.Errorf("what is not served is no longer absent (%v)", err)
	}
}

func TestWhatIsServedIsNotAbsentThoughItIsMarked(t *testing.T) {
	s := open(t, storetest.Folder(t), Options{})
	wide().MustPut(t, s, "r", "v1")
	if err := s.ledger.RecordGraph(t.Context(), "r", nil, []digest.Digest{leftOut()}); err != nil {
		t.Fatal(err)
	}
	if absent, err := s.Absent(t.Context(), "r", leftOut()); err != nil || absent {
		t.Errorf("got %v, %v", absent, err)
	}
}

// A store that learns a repository anew ends the marks of what it serves there.
func TestWhatIsLearntIsNotAbsent(t *testing.T) {
	dir := storetest.Folder(t)
	s := open(t, dir, Options{})
	wide().MustPut(t, s, "r", "v1")
	if err := errors.Join(s.Close(), os.Remove(filepath.Join(dir, "ledger.db"))); err != nil {
		t.Fatal(err)
	}
	l, err := ledger.Open(filepath.Join(dir, "ledger.db"), ledger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.RecordGraph(t.Context(), "r", nil, []digest.Digest{leftOut()}), l.Close()); err != nil {
		t.Fatal(err)
	}
	if stillAbsent(t, open(t, dir, Options{})) {
		t.Error("what is served is marked as absent")
	}
}
