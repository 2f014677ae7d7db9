package collect

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"lastro/store"
	"lastro/store/ledger"
	"lastro/store/serve"
	"lastro/store/serve/push"
	"lastro/store/storetest"
)

// soak is a registry on a loopback port with a collector beside it. Its clock is
// moved on by every request, so that what is tested does not depend on how fast the
// machine is.
type soak struct {
	*testing.T
	*store.Store
	server *httptest.Server
	ticks  atomic.Int64
	over   func() bool // the time, and not the steps

	mu    sync.Mutex
	sums  map[string]int64
	lines []string // what happened last
}

// trace keeps what happened, for what turns out to be wrong.
func (s *soak) trace(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lines = append(s.lines, line); len(s.lines) > 20_000 {
		s.lines = slices.Clone(s.lines[10_000:])
	}
}

// story is what happened to a digest.
func (s *soak) story(d digest.Digest) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var about []string
	for _, line := range s.lines {
		if strings.Contains(line, d.String()) {
			about = append(about, line)
		}
	}
	return strings.Join(about[max(0, len(about)-40):], "\n")
}

const (
	tick       = 10 * time.Millisecond
	shortGrace = 300 * tick // some images by every client
	shortUndo  = 100 * tick
	clients    = 6
	steps      = 40 // of each client
)

// TestNothingThatAClientWasToldOfIsMissedWhileTheCollectorRuns is about what the
// collector promises to clients: what they were told of is there for a whole grace,
// and what their tags need for as long as the tags are there.
func TestNothingThatAClientWasToldOfIsMissedWhileTheCollectorRuns(t *testing.T) {
	s := newSoak(t)
	ctx, stop := context.WithCancel(t.Context())
	var working, collecting sync.WaitGroup
	collecting.Go(func() { s.collect(ctx) })
	all := make([]*tenant, clients)
	for i := range all {
		all[i] = s.tenant(i)
		working.Go(all[i].work)
	}
	working.Wait()
	stop()
	collecting.Wait()
	s.nothingIsLeft(all)
	t.Log(s.sums)
	for _, must := range []string{"collections", "deleted", "taken back", "pushed", "owed", "HEAD 404"} {
		if s.sums[must] == 0 {
			t.Errorf("this soak tested nothing: %s is 0", must)
		}
	}
}

func newSoak(t *testing.T) *soak {
	s := &soak{T: t, sums: map[string]int64{}, over: func() bool { return false }}
	if *long {
		began, most := time.Now(), time.Hour
		if deadline, ok := t.Deadline(); ok {
			most = min(most, time.Until(deadline)-time.Minute)
		}
		s.over = func() bool { return time.Since(began) > most }
	}
	var err error
	if s.Store, err = store.Open(storetest.Folder(t), store.Options{Now: s.clock}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	everything := push.Options{Now: s.clock, Pushable: func(string) bool { return true }, MayPull: func(*http.Request, string) bool { return true }}
	pushes, err := push.New(s.Store, everything)
	if err != nil {
		t.Fatal(err)
	}
	h, err := serve.New(s.Store, serve.Options{Now: s.clock, Push: pushes})
	if err != nil {
		t.Fatal(err)
	}
	s.server = httptest.NewServer(h)
	t.Cleanup(s.server.Close)
	return s
}

func (s *soak) clock() time.Time {
	return storetest.Now().Add(time.Duration(s.ticks.Load()) * tick)
}

func (s *soak) count(what string, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sums[what] += n
}

// collect collects over and over. Now and then a week goes by: then there is a
// survey, and everything that is condemned is due.
func (s *soak) collect(ctx context.Context) {
	const week = int64(8 * 24 * time.Hour / tick)
	for next := int64(10_000); ctx.Err() == nil; {
		if now := s.ticks.Load(); now > next {
			s.ticks.Add(week)
			next = now + week + 10_000
			s.count("weeks", 1)
		}
		s.run(ctx)
	}
}

func (s *soak) run(ctx context.Context) Report {
	r, err := Run(ctx, s.Store, Options{Grace: shortGrace, Undo: shortUndo, Now: s.clock})
	if ctx.Err() == nil && (err != nil || r.KeptByDoubt > 0) {
		s.Errorf("collect: %v, %d kept by doubt: %q", err, r.KeptByDoubt, r.Problems)
	}
	for _, i := range r.Items {
		s.trace(fmt.Sprintf("%v collector: %s due %v: %s", s.clock(), i.Held, i.Due, i.Why))
	}
	s.count("collections", 1)
	s.count("condemned", int64(r.Condemned))
	s.count("deleted", int64(r.Deleted))
	s.count("freed bytes", r.FreedBytes)
	s.mu.Lock()
	s.sums["taken back"] = int64(r.TakenBack)
	s.mu.Unlock()
	return r
}

// nothingIsLeft lets all promises run out, and compares what is on disk with what
// the tags of the clients need.
func (s *soak) nothingIsLeft(all []*tenant) {
	for range 3 {
		s.ticks.Add(int64((shortGrace + shortUndo) / tick * 2))
		s.run(s.Context())
	}
	needed := map[digest.Digest]bool{}
	for _, c := range all {
		for _, tag := range c.tags {
			maps.Copy(needed, tag.needs)
		}
	}
	here := map[digest.Digest]bool{}
	err := s.Survey(s.Context(), store.Surveyed{
		Repository: func(repo string, manifests, blobs []digest.Digest) error {
			for _, d := range append(manifests, blobs...) {
				if !needed[d] {
					s.Errorf("%s@%s is left, and nothing needs it", repo, d)
				}
			}
			return nil
		},
		Contents: func(ds []digest.Digest) error {
			for _, d := range ds {
				here[d] = true
			}
			return nil
		},
		Doubt: func(repo string, err error) { s.Errorf("%s: %v", repo, err) },
	})
	if err != nil {
		s.Fatal(err)
	}
	for d := range here {
		if !needed[d] {
			_, asked, err := s.Ledger().Review(s.Context(), ledger.Held{Digest: d})
			s.Errorf("%s is left, and nothing needs it (asked: %v, %v)\n%s", d, asked, err, s.story(d))
		}
	}
	for d := range needed {
		if !here[d] {
			s.Errorf("%s is gone, and a tag needs it\n%s", d, s.story(d))
		}
	}
	s.count("contents at the end", int64(len(here)))
}
