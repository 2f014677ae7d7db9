package store

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/opencontainers/go-digest"

	"lastro/store/layout"
	"lastro/store/ledger"
	"lastro/store/storetest"
)

// condemned is a registry with an image in many repositories that nothing needs, and
// of which the manifest is condemned and due.
func condemned(t *testing.T, step func(op, subject string), repos ...string) (s *Store, hs []ledger.Held) {
	t.Helper()
	s = open(t, storetest.Folder(t), Options{Step: step, Now: storetest.Now})
	m := storetest.New("a")
	var answers []ledger.Review
	for _, repo := range repos {
		m.MustPut(t, s, repo, "v1")
		if err := s.Untag(t.Context(), repo, "v1", ledger.Event{}); err != nil {
			t.Fatal(err)
		}
		h := ledger.Held{Repo: repo, Digest: m.Root.Digest}
		hs = append(hs, h)
		answers = append(answers, ledger.Review{Held: h, State: ledger.Condemned, Since: storetest.Now(), Due: storetest.Now(), Left: storetest.Now()})
	}
	if done, err := s.Condemn(t.Context(), answers, storetest.Now()); err != nil || len(done) != len(repos) {
		t.Fatalf("%d are condemned, %v", len(done), err)
	}
	return s, hs
}

// lookContext calls at before every transaction of the ledger.
type lookContext struct {
	context.Context
	at func()
}

func (c lookContext) Err() error {
	c.at()
	return nil
}

func (s *Store) isGateOpen(repo string) bool {
	gate := &s.gates.stripes[stripe(repo)%uint32(len(s.gates.stripes))]
	open := gate.TryRLock()
	if open {
		gate.RUnlock()
	}
	return open
}

func (s *Store) isClaimed(h ledger.Held) bool {
	s.sentences.mu.Lock()
	defer s.sentences.mu.Unlock()
	sentence := s.sentences.of[h.Digest][h.Repo]
	return sentence != nil && sentence.going != nil
}

// isTaking reports whether somebody removes, and shares it with nobody.
func (s *Store) isTaking() bool {
	free := s.taking.TryRLock()
	if free {
		s.taking.RUnlock()
	}
	return !free
}

func TestTheLastLookIsWhileNobodyPublishesAndWhatGoesIsClaimedBeforeAnybodyMay(t *testing.T) {
	var s *Store
	looks, drops := 0, 0
	look := func(string) {}
	s, hs := condemned(t, func(op, _ string) { look(op) }, "a", "b", "c")
	look = func(op string) {
		if op != "remove" {
			return
		}
		drops++
		for _, h := range hs {
			if !s.isClaimed(h) || !s.isGateOpen(h.Repo) || !s.isTaking() {
				t.Errorf("%s goes: claimed %v, gate open %v, alone %v", h, s.isClaimed(h), s.isGateOpen(h.Repo), s.isTaking())
			}
		}
	}
	counted := s.sentences.gone.Load()
	last := lookContext{t.Context(), func() {
		if drops > 0 {
			return // it is decided
		}
		looks++
		if s.sentences.gone.Load() == counted {
			t.Error("who looked before does not see that something may go")
		}
		for _, h := range hs {
			if !s.isClaimed(h) || s.isGateOpen(h.Repo) || !s.isTaking() {
				t.Errorf("%s is looked at: claimed %v, gate open %v, alone %v", h, s.isClaimed(h), s.isGateOpen(h.Repo), s.isTaking())
			}
		}
	}}
	gone, err := s.RemoveLinks(last, hs, storetest.Now(), storetest.Now())
	if err != nil || len(gone) != len(hs) || looks == 0 || drops < len(hs) {
		t.Fatalf("%d of %d are gone after %d looks and %d removals, %v", len(gone), len(hs), looks, drops, err)
	}
	for _, h := range hs {
		if s.isClaimed(h) || !s.isGateOpen(h.Repo) || s.isTaking() {
			t.Errorf("%s is gone, and somebody would wait for it", h)
		}
	}
}

func TestWhoHoldsLosesNothing(t *testing.T) {
	s, hs := condemned(t, nil, "a")
	release := s.Hold()
	if gone, err := s.RemoveLinks(t.Context(), hs, storetest.Now(), storetest.Now()); err != nil || len(gone) > 0 {
		t.Fatalf("%d are gone, %v", len(gone), err)
	}
	release()
	if gone, err := s.RemoveLinks(t.Context(), hs, storetest.Now(), storetest.Now()); err != nil || len(gone) != 1 {
		t.Fatalf("%d are gone, %v", len(gone), err)
	}
}

func TestNobodyLooksQuietlyWhileSomethingGoes(t *testing.T) {
	s, hs := condemned(t, nil, "a")
	err := s.Quiet("a", "", func() error {
		if s.taking.TryLock() {
			s.taking.Unlock()
			t.Error("something may go")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if gone, err := s.RemoveLinks(t.Context(), hs, storetest.Now(), storetest.Now()); err != nil || len(gone) != 1 {
		t.Errorf("%d are gone, %v", len(gone), err)
	}
}

func TestWhatIsNeededAfterAllIsCondemnedNoMore(t *testing.T) {
	s, hs := condemned(t, nil, "a", "b")
	p := ledger.Protection{Name: "release", Repo: "a", Digest: hs[0].Digest, Owner: "ann", Created: storetest.Now()}
	if err := s.Ledger().RecordProtection(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	gone, err := s.RemoveLinks(t.Context(), hs, storetest.Now(), storetest.Now())
	if err != nil || len(gone) != 1 || gone[0].Held != hs[1] {
		t.Fatalf("%+v are gone, %v", gone, err)
	}
	if n := s.sentences.count.Load(); n != 0 {
		t.Errorf("%d are condemned, of one that is gone and one that is needed", n)
	}
}

func TestNobodyWaitsForEverForARemovalThatPanicked(t *testing.T) {
	s, hs := condemned(t, nil, "a")
	panics := lookContext{t.Context(), func() {
		if !s.isClaimed(hs[0]) {
			t.Error("it is not claimed yet")
		}
		panic("the last look")
	}}
	func() {
		defer func() {
			if p := recover(); p != "the last look" {
				t.Errorf("it ended with %v", p)
			}
		}()
		_, err := s.RemoveLinks(panics, hs, storetest.Now(), storetest.Now())
		t.Errorf("it did not panic: %v", err)
	}()
	if s.isClaimed(hs[0]) || !s.isGateOpen("a") || s.isTaking() {
		t.Fatalf("claimed %v, gate open %v, alone %v", s.isClaimed(hs[0]), s.isGateOpen("a"), s.isTaking())
	}
	if gone, err := s.RemoveLinks(t.Context(), hs, storetest.Now(), storetest.Now()); err != nil || len(gone) != 1 {
		t.Errorf("%d are gone, %v", len(gone), err)
	}
}

// TestAPublicationThatLookedBeforeContentWentMissesIt lets content be condemned and go
// after a publication has found it, and before that records what it refers to: the
// content is not off the disk yet when it has.
func TestAPublicationThatLookedBeforeContentWentMissesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		goes := func(string, string) {}
		s := open(t, storetest.Folder(t), Options{Step: func(op, subject string) { goes(op, subject) }})
		m, layer := storetest.New("a"), ledger.Held{Digest: digest.FromString("shared")}
		now := storetest.Now()
		if err := m.Ingest(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if err := s.Settle(); err != nil {
			t.Fatal(err)
		}
		if err := s.Ledger().RecordReviews(t.Context(), []ledger.Review{{Held: layer, Due: now}}); err != nil {
			t.Fatal(err)
		}
		going := make(chan struct{})
		goes = func(op, subject string) {
			if op == "remove" && strings.HasPrefix(subject, layout.Blobs) {
				close(going)
				synctest.Wait() // the publication ends, or waits for this removal
			}
		}
		var removals sync.WaitGroup
		found := lookContext{t.Context(), sync.OnceFunc(func() {
			answer := ledger.Review{Held: layer, State: ledger.Condemned, Since: now, Due: now}
			if done, err := s.Condemn(t.Context(), []ledger.Review{answer}, now); err != nil || len(done) != 1 {
				t.Errorf("%d are condemned, %v", len(done), err)
			}
			removals.Go(func() {
				if gone, err := s.RemoveContents(t.Context(), []ledger.Held{layer}, now, now); err != nil || len(gone) != 1 {
					t.Errorf("%d are gone, %v", len(gone), err)
				}
			})
			<-going
		})}
		_, err := s.Publish(found, m.Publication("a", "v1"))
		removals.Wait()
		if err == nil {
			t.Error("it was published without a layer")
		}
		if tags := checkWhole(t, s); len(tags) > 0 {
			t.Errorf("published: %v", tags)
		}
	})
}

// TestWhatGoesIsNotTakenBack asks for a manifest while its links in one of two
// repositories go, and then while those in the last one do.
func TestWhatGoesIsNotTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		goes := func() {}
		s, hs := condemned(t, func(op, _ string) {
			if op == "remove" {
				goes()
			}
		}, "a", "b")
		d := hs[0].Digest
		for _, c := range []struct {
			goes ledger.Held
			want []string
			err  error
		}{{hs[0], []string{"b"}, nil}, {hs[1], nil, ErrNoMore}} {
			var repos []string
			var err error
			var asking sync.WaitGroup
			goes = sync.OnceFunc(func() {
				asking.Go(func() { repos, err = s.TakeBack(t.Context(), d) })
				synctest.Wait() // it waits for this removal
			})
			gone, removing := s.RemoveLinks(t.Context(), []ledger.Held{c.goes}, storetest.Now(), storetest.Now())
			if removing != nil || len(gone) != 1 {
				t.Fatalf("%d are gone, %v", len(gone), removing)
			}
			asking.Wait()
			if !slices.Equal(repos, c.want) || !errors.Is(err, c.err) {
				t.Errorf("%s goes: taken back in %q, %v, want %q, %v", c.goes, repos, err, c.want, c.err)
			}
			if c.err == nil { // it was taken back, and is condemned again
				answer := ledger.Review{Held: hs[1], State: ledger.Condemned, Since: storetest.Now(), Due: storetest.Now(), Told: storetest.Now(), Left: storetest.Now()}
				if done, err := s.Condemn(t.Context(), []ledger.Review{answer}, storetest.Now()); err != nil || len(done) != 1 {
					t.Fatalf("%d are condemned, %v", len(done), err)
				}
			}
		}
		if repos, err := s.TakeBack(t.Context(), d); err != nil || len(repos) > 0 {
			t.Errorf("what is not condemned: %q, %v", repos, err)
		}
	})
}

func TestARemovalThatIsCalledOffEndsWhatItBeganAndLeavesTheRestForTheNext(t *testing.T) {
	end := func() {}
	s, hs := condemned(t, func(op, _ string) {
		if op == "remove" {
			end()
		}
	}, "a", "b", "c")
	ctx, cancel := context.WithCancel(t.Context())
	end = cancel
	gone, err := s.RemoveLinks(ctx, hs, storetest.Now(), storetest.Now())
	if err != nil || len(gone) != 1 || gone[0].Held != hs[0] || gone[0].Err != nil {
		t.Fatalf("gone: %+v, %v", gone, err)
	}
	for i, h := range hs {
		known, err := s.Ledger().Linked(t.Context(), h.Repo, h.Digest)
		if served := s.revision(h.Repo, h.Digest) == nil; err != nil || known != (i > 0) || served != known || s.isClaimed(h) {
			t.Errorf("%s: the ledger has it: %v, %v; it is served: %v", h, known, err, served)
		}
	}
	if gone, err = s.RemoveLinks(t.Context(), hs, storetest.Now(), storetest.Now()); err != nil || len(gone) != 2 {
		t.Errorf("gone the next time: %+v, %v", gone, err)
	}
}
