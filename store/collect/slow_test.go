package collect

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"lastro/store/ledger"
	"lastro/store/storetest"
)

func TestWhoeverWasToldDuringASlowRunHasTheWholeGraceToo(t *testing.T) {
	s := opened(t)
	s.collect(t)
	one, two := &storetest.Image{}, &storetest.Image{}
	one.Single("one", nil)
	two.Single("two", nil)
	for repo, m := range map[string]*storetest.Image{"a": one, "b": two} {
		m.MustPut(t, s, repo, "v1")
		s.untag(t, repo, "v1")
	}
	s.o.Undo = 0
	asked := 0
	s.o.Keep = func(_ context.Context, q Question) (Answer, error) {
		// It takes long to decide, and about the first it was decided already.
		s.now = s.now.Add(time.Hour)
		if asked++; asked < 2 {
			return Answer{}, nil
		}
		return Answer{}, errors.Join(s.ServesManifest("a", one.Root.Digest), s.ServesManifest("b", two.Root.Digest))
	}
	s.collect(t)
	told := s.now
	s.o.Keep = nil
	if asked != 2 {
		t.Fatalf("asked %d times", asked)
	}
	s.now = told.Add(grace - 2*time.Second)
	s.collect(t)
	s.whole(t, "a", one)
	s.whole(t, "b", two)
	s.now = told.Add(grace)
	if s.collect(t); len(s.files(t)) > 0 {
		t.Errorf("left: %v", s.files(t))
	}
}

func TestATagThatMovesWhileItIsAskedAboutIsNoDoubt(t *testing.T) {
	s := opened(t)
	s.collect(t)
	one := &storetest.Image{}
	one.Single("one", nil)
	one.MustPut(t, s, "a", "")
	s.now = s.now.Add(2 * grace)
	r := newRun(s.Store, s.o)
	v := ledger.Review{Held: ledger.Held{Repo: "a", Digest: one.Root.Digest}}
	r.tagged["a"] = map[digest.Digest][]string{one.Root.Digest: {"v1"}} // as it was before the tag moved on
	if err := r.known(t.Context(), v); err != nil {
		t.Errorf("a tag that is not there any more: %v", err)
	}
	r.tagged["a"] = map[digest.Digest][]string{one.Root.Digest: {"v1"}}
	one.MustPut(t, s, "a", "v1")
	if err := r.known(t.Context(), v); err != nil {
		t.Errorf("a tag that the ledger knows by now: %v", err)
	}
}
