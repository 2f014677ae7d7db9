package upstream

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"oras.land/oras-go/v2/registry/remote/auth"

	"lastro/mirror"
	"lastro/mirror/upstream/limit"
)

// account is one of an upstream's credentials, and how it lets them in.
type account struct {
	credentials Credentials
	login       func(context.Context) (auth.Credential, error)
	known       atomic.Bool // login found credentials the last time
	tokens      tokens
	limit       *limit.Account
}

func (r *Registry) newAccount(c Credentials) *account {
	a := &account{credentials: c, login: r.login(c), limit: limit.NewAccount(r.reserve)}
	a.known.Store(c.Token != "")
	return a
}

// found looks credentials up, anew each time they are needed.
func (a *account) found(ctx context.Context) (auth.Credential, error) {
	c, err := a.login(ctx)
	a.known.Store(c != auth.EmptyCredential)
	if err != nil {
		return c, &loginError{err}
	}
	return c, nil
}

// loginError is credentials that cannot be found.
type loginError struct{ err error }

func (e *loginError) Error() string { return e.err.Error() }
func (e *loginError) Unwrap() error { return e.err }

// accounts are those of one upstream, in the order in which they are used.
type accounts struct {
	mu   sync.Mutex
	list []*account
	home map[string]*account // by scope: the one that was let in, where it is not the first
}

// all are the accounts, the one first that the scope let in before.
func (p *accounts) all(scope string) []*account {
	p.mu.Lock()
	defer p.mu.Unlock()
	home := p.home[scope]
	if home == nil {
		return p.list
	}
	others := slices.DeleteFunc(slices.Clone(p.list), func(a *account) bool { return a == home })
	return append([]*account{home}, others...)
}

// letIn notes who may do what a scope says, if others were refused.
func (p *accounts) letIn(scope string, a *account, others bool) {
	if !others {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.home == nil {
		p.home = map[string]*account{}
	}
	p.home[scope] = a
}

// replace takes other credentials. Accounts of those that stay are kept.
func (p *accounts) replace(now []Credentials, open func(Credentials) *account) {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]*account, len(now))
	for i, c := range now {
		if at := slices.IndexFunc(p.list, func(a *account) bool { return reflect.DeepEqual(a.credentials, c) }); at >= 0 {
			list[i] = p.list[at]
		} else {
			list[i] = open(c)
		}
	}
	p.list, p.home = list, nil
}

// known reports whether any account had credentials the last time.
func (p *accounts) known() bool {
	return slices.ContainsFunc(p.all(""), func(a *account) bool { return a.known.Load() })
}

// tries is what one request went through.
type tries struct {
	refused   []*account
	refusal   error            // of one of them
	throttled map[*account]int // how often
	last      error            // what came of the last throttled one
	sent      time.Time        // when the last attempt began
	faults    int              // others, that may pass
	fault     bool             // the last one was such
}

// refuse notes an account that is not let in. What the upstream says of one
// counts for more than that another cannot be found.
func (t *tries) refuse(a *account, err error) {
	t.refused = append(t.refused, a)
	if t.refusal == nil || refused(err) && !refused(t.refusal) {
		t.refusal = err
	}
}

// pick is the account that asks next: the first that may now. When none may, it
// waits for the one that may soonest, or says that this takes too long.
func (r *Registry) pick(ctx context.Context, c call, t *tries) (*account, error) {
	for {
		a, turn := r.soonest(c, t)
		now := time.Now()
		switch {
		case a == nil:
			return nil, t.refusal
		case turn.Open(now):
			return a, nil
		case turn.Closed:
			return nil, &mirror.ThrottledError{Host: r.host, Until: turn.At, Err: t.last}
		}
		if err := sleep(ctx, turn.At.Sub(now)); err != nil {
			return nil, err
		}
	}
}

func (r *Registry) soonest(c call, t *tries) (*account, limit.Turn) {
	var best *account
	var soon limit.Turn
	now := time.Now()
	for _, a := range r.accounts.all(c.scope) {
		if slices.Contains(t.refused, a) {
			continue
		}
		turn := a.limit.Turn(now, r.counted(c))
		switch {
		case turn.Open(now):
			return a, turn
		case best == nil, soon.Closed && !turn.Closed, soon.Closed == turn.Closed && turn.At.Before(soon.At):
			best, soon = a, turn
		}
	}
	return best, soon
}

// counted is a call as budgets see it: only manifests that are read are pulls,
// and at registries other than Docker Hub also those that are only asked after.
func (r *Registry) counted(c call) limit.Request {
	return limit.Request{Repo: c.repo, Pull: c.manifest && (c.method != "HEAD" || r.host != mirror.DockerHub)}
}

// errShut is a request that was not sent, because its account learnt of a limit
// while it waited.
var errShut = errors.New("the upstream limits requests")

// slowDown obeys an answer that says there are too many requests, the n-th to
// one request.
func (r *Registry) slowDown(a *account, n int, sent time.Time, s *statusError) {
	limited := []*account{a}
	if s.status != 429 { // it is the server that has too much to do
		limited = r.accounts.all("")
	}
	now := time.Now()
	n = max(n, a.limit.Strike(now, sent))
	wait := max(s.retryAfter, backoff(n))
	for _, a := range limited {
		empty := a.limit.Exhausted(now)
		switch {
		case wait > limit.Patience:
			a.limit.Close(now.Add(wait))
		case empty.Sub(now) > limit.Patience:
			a.limit.Close(empty)
		case n >= maxAttempts:
			a.limit.CloseByGuess(now)
		default:
			a.limit.Pause(now.Add(wait))
		}
	}
	r.log.Info("upstream limits requests", "upstream", r.host, "credentials", a.credentials.String(), "attempt", n, "in", wait, "err", s)
}

// Budget is how many pulls may be made, over all credentials.
func (r *Registry) Budget() mirror.Budget {
	var sum mirror.Budget
	now := time.Now()
	for _, a := range r.accounts.all("") {
		b := a.limit.State(now)
		sum.Known = sum.Known || b.Known
		sum.Limit += b.Limit
		sum.Remaining += b.Remaining
		sum.Reserve += b.Reserve
		sum.Window = max(sum.Window, b.Window)
	}
	return sum
}

// Throttled is until when nothing may be asked with any credentials; the zero
// time when something may.
func (r *Registry) Throttled() time.Time {
	var until time.Time
	now := time.Now()
	for i, a := range r.accounts.all("") {
		closed := a.limit.Closed()
		if !closed.After(now) {
			return time.Time{}
		}
		if i == 0 || closed.Before(until) {
			until = closed
		}
	}
	return until
}
