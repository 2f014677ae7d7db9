package store

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"lastro/store/ledger"
)

// sentences are what is condemned, in memory: whoever is told that content is here
// takes it back, and that must cost nothing while nothing is condemned. Who deletes
// claims first, and whoever asks for what is claimed waits until it is gone: this is
// the one lock that both share. What is not condemned when somebody is told cannot
// go for a whole grace from then on, and needs no note.
type sentences struct {
	count atomic.Int64
	mu    sync.Mutex
	of    map[digest.Digest]map[string]*sentence // by repository; "" is the content
	told  map[ledger.Held]ledger.Review          // not in the ledger yet
	over  bool                                   // there were more than maxTold
	gone  atomic.Uint64                          // how often something was claimed, to be removed
	back  atomic.Uint64                          // how often something was taken back
}

type sentence struct {
	back  bool          // somebody was told
	going chan struct{} // not nil: being removed; closed when that has ended
}

// maxTold bounds what waits for the ledger. What is forgotten is found by a survey.
const maxTold = 100_000

func newSentences() *sentences {
	return &sentences{of: map[digest.Digest]map[string]*sentence{}, told: map[ledger.Held]ledger.Review{}}
}

// load takes in what the ledger knows.
func (c *sentences) load(ctx context.Context, l *ledger.Ledger) error {
	for r, err := range l.Reviews(ctx) {
		if err != nil {
			return err
		}
		if r.State != ledger.Waiting {
			c.add(r.Held)
		}
	}
	return nil
}

// add says whether h was not condemned before.
func (c *sentences) add(h ledger.Held) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of[h.Digest][h.Repo] != nil {
		return false
	}
	if c.of[h.Digest] == nil {
		c.of[h.Digest] = map[string]*sentence{}
	}
	c.of[h.Digest][h.Repo] = &sentence{}
	c.count.Add(1)
	return true
}

func (c *sentences) drop(h ledger.Held) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of[h.Digest][h.Repo] == nil {
		return
	}
	delete(c.of[h.Digest], h.Repo)
	if len(c.of[h.Digest]) == 0 {
		delete(c.of, h.Digest)
	}
	c.count.Add(-1)
}

// tell takes back what is condemned of a digest in a repository, and its content,
// because somebody is about to be told whether it is here. It waits for what is
// being removed, so that what is said then is true.
func (c *sentences) tell(repo string, d digest.Digest, now func() time.Time) {
	if c.count.Load() == 0 {
		return
	}
	c.mu.Lock()
	for c.takeBack(repo, d, now) {
	}
	c.mu.Unlock()
}

// tellAll is tell of a digest wherever it is condemned, and says where that is. It is
// late when it had to wait, and nothing is condemned any more.
func (c *sentences) tellAll(d digest.Digest, now func() time.Time) (repos []string, late bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	waits := func(repo string) bool { return c.takeBack(repo, d, now) }
	for {
		repos = slices.Collect(maps.Keys(c.of[d]))
		if !slices.ContainsFunc(repos, waits) {
			return repos, late && len(repos) == 0
		}
		late = true
	}
}

// takeBack is again after it had to wait.
func (c *sentences) takeBack(repo string, d digest.Digest, now func() time.Time) (again bool) {
	for in, s := range c.of[d] {
		if in != repo && in != "" {
			continue
		}
		if s.going != nil {
			going := s.going
			c.mu.Unlock()
			<-going
			c.mu.Lock()
			return true
		}
		if !s.back {
			c.back.Add(1)
		}
		s.back = true
		c.note(ledger.Review{Held: ledger.Held{Repo: in, Digest: d}, Told: now(), Due: now(), Why: "somebody asked for it"})
	}
	return false
}

// spare is tell of what nobody asked for.
func (c *sentences) spare(h ledger.Held, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.of[h.Digest][h.Repo]; s != nil {
		s.back = true
	}
	c.note(ledger.Review{Held: h, Told: now, Due: now, Why: "policy keeps it"})
}

// note keeps a question for the ledger. What is condemned is always noted: there is
// no more of that than the ledger has.
func (c *sentences) note(r ledger.Review) {
	old, ok := c.told[r.Held]
	if !ok && len(c.told) >= maxTold && c.of[r.Digest][r.Repo] == nil {
		c.over = true
		return
	}
	r = r.Joined(old)
	if old.Told.After(r.Told) {
		r.Told = old.Told
	}
	c.told[r.Held] = r
}

// put notes what came without anything that needs it: a blob before its manifest, a
// manifest without a tag.
func (c *sentences) put(r ledger.Review) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.note(r)
}

// claim is those of hs that nobody was told of. They are to be released. It counts
// them before the ledger says that they go: whoever records afterwards that they are
// needed sees that, and who did before keeps them.
func (c *sentences) claim(hs []ledger.Held) (claimed []ledger.Held) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range hs {
		if s := c.of[h.Digest][h.Repo]; s != nil && !s.back && s.going == nil {
			s.going = make(chan struct{})
			claimed = append(claimed, h)
			c.gone.Add(1)
		}
	}
	return claimed
}

// release lets those go on who ask for what was claimed.
func (c *sentences) release(claimed []ledger.Held) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range claimed {
		if s := c.of[h.Digest][h.Repo]; s != nil && s.going != nil {
			close(s.going)
			s.going = nil
		}
	}
}

// forget is drop for what was claimed.
func (c *sentences) forget(h ledger.Held) {
	c.mu.Lock()
	if s := c.of[h.Digest][h.Repo]; s != nil && s.going != nil {
		close(s.going)
		s.going = nil
	}
	c.mu.Unlock()
	c.drop(h)
}

// flush writes what was noted to the ledger. What fails is kept.
func (c *sentences) flush(ctx context.Context, l *ledger.Ledger) error {
	c.mu.Lock()
	told := c.told
	c.told = map[ledger.Held]ledger.Review{}
	c.mu.Unlock()
	if len(told) == 0 {
		return nil
	}
	rs := make([]ledger.Review, 0, len(told))
	for _, r := range told {
		rs = append(rs, r)
	}
	if err := l.RecordReviews(ctx, rs); err != nil {
		c.mu.Lock()
		for h, r := range told {
			if _, newer := c.told[h]; !newer {
				c.told[h] = r
			}
		}
		c.mu.Unlock()
		return err
	}
	for _, r := range rs {
		c.settle(ctx, l, r.Held)
	}
	return nil
}

// settleAll forgets the sentences of what turned out to be needed.
func (c *sentences) settleAll(ctx context.Context, l *ledger.Ledger, hs []ledger.Held) {
	condemned, err := l.CondemnedOf(context.WithoutCancel(ctx), hs)
	if err != nil {
		return
	}
	for i, h := range hs {
		if !condemned[i] {
			c.forget(h)
		}
	}
}

// settle forgets a sentence that the ledger has taken back.
func (c *sentences) settle(ctx context.Context, l *ledger.Ledger, h ledger.Held) {
	c.mu.Lock()
	s := c.of[h.Digest][h.Repo]
	_, again := c.told[h]
	condemned := s != nil && s.back && !again
	c.mu.Unlock()
	if !condemned {
		return
	}
	if r, ok, err := l.Review(ctx, h); err == nil && (!ok || r.State == ledger.Waiting) {
		c.drop(h)
	}
}
