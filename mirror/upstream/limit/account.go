package limit

import (
	"net/http"
	"sync"
	"time"
)

const (
	// Patience is the longest wait that is waited out. For a longer one whoever
	// asks comes back later.
	Patience = 2 * time.Minute

	firstGuess = time.Minute
	lastGuess  = time.Hour
)

// Account is what one credential may ask of one upstream. The zero value is an
// account that was never limited and that reserves nothing. It may be used from
// many goroutines.
type Account struct {
	mu      sync.Mutex
	reserve float64
	paused  time.Time     // requests wait until then
	closed  time.Time     // requests are refused until then
	guess   time.Duration // how long closed is, when that was guessed
	strikes int           // since the last answer
	struck  time.Time     // when the last of them was
	budget  budget
}

// NewAccount is an account that leaves a part of its budget, from 0 to 1, to
// others.
func NewAccount(reserve float64) *Account { return &Account{reserve: reserve} }

// Request is what is asked.
type Request struct {
	Repo string
	Pull bool // the upstream counts it
}

// Turn is when a request may be sent.
type Turn struct {
	At     time.Time // not before then; it may have passed
	Closed bool      // do not wait: give up until At
}

// Open reports whether a request may be sent now.
func (t Turn) Open(now time.Time) bool { return !t.At.After(now) }

// Turn is when a request may be sent.
func (a *Account) Turn(now time.Time, r Request) Turn {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.turn(now, r)
}

func (a *Account) turn(now time.Time, r Request) Turn {
	if a.closed.After(now) {
		return Turn{At: a.closed, Closed: true}
	}
	at := a.paused
	if r.Pull && a.budget.known() && !a.budget.exempt[r.Repo] {
		at = later(at, a.budget.opens(a.kept()+a.budget.pending+1, now))
	}
	return Turn{At: at, Closed: at.Sub(now) > Patience}
}

// kept is how many pulls are in reserve.
func (a *Account) kept() int { return int(float64(a.budget.quota.Limit) * a.reserve) }

// Take begins a request if it may be sent now. Whoever took calls Done.
func (a *Account) Take(now time.Time, r Request) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.turn(now, r).Open(now) {
		return false
	}
	if r.Pull {
		a.budget.pending++
	}
	return true
}

// Done ends a request that Take began, with the headers of its answer; nil:
// there was none. manifest says that the answer is a manifest, or a HEAD's of
// one.
func (a *Account) Done(now time.Time, r Request, h http.Header, manifest bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r.Pull {
		a.budget.pending--
	}
	q, ok := Read(h, now)
	switch {
	case ok && manifest && r.Pull:
		a.budget.made(now)
		fallthrough
	case ok:
		a.budget.said(q, now)
		delete(a.budget.exempt, r.Repo)
	case manifest && a.budget.known():
		a.budget.free(r.Repo)
	}
}

// free notes a repository that is not limited, as an upstream's own often are.
func (b *budget) free(repo string) {
	if b.exempt == nil {
		b.exempt = map[string]bool{}
	}
	b.exempt[repo] = true
}

// Strike notes that a request which was sent then was too many, and counts
// those in a row. Requests that were on their way at once are one.
func (a *Account) Strike(now, sent time.Time) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.strikes == 0 || sent.After(a.struck) {
		a.strikes++
		a.struck = now
	}
	return a.strikes
}

// Answered ends a row of strikes.
func (a *Account) Answered() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.strikes = 0
}

// Pause makes all requests wait.
func (a *Account) Pause(until time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.paused = later(a.paused, until)
}

// Close refuses all requests until then.
func (a *Account) Close(until time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = later(a.closed, until)
}

// CloseByGuess refuses all requests for a minute, and for twice as long as the
// last time if that was not long enough, up to an hour.
func (a *Account) CloseByGuess(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.closed.After(now):
		return
	case a.guess > 0 && now.Sub(a.closed) < a.guess:
		a.guess = min(2*a.guess, lastGuess)
	default:
		a.guess = firstGuess
	}
	a.closed = now.Add(a.guess)
}

// Exhausted is when a pull can be made again, after an upstream refused one;
// the zero time when its budget does not say.
func (a *Account) Exhausted(now time.Time) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.budget.known() || a.budget.left(now) > 0 {
		return time.Time{}
	}
	return a.budget.opens(1, now)
}

// Closed is until when requests are refused; it may have passed.
func (a *Account) Closed() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.closed
}

// State is what is known of a budget.
type State struct {
	Known                     bool
	Limit, Remaining, Reserve int
	Window                    time.Duration
}

// State is the budget now.
func (a *Account) State(now time.Time) State {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.budget.known() {
		return State{}
	}
	q := a.budget.quota
	return State{
		Known: true, Limit: q.Limit, Reserve: a.kept(),
		Remaining: max(0, a.budget.left(now)-a.budget.pending), Window: max(q.Window, q.Reset),
	}
}
