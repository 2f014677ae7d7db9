package upstream

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"lastro/mirror"
	"lastro/mirror/upstream/field"
)

// call is what a method of Registry asks of the endpoint.
type call struct {
	method string
	path   string // below /v2/
	query  string
	header http.Header
	scope  string
	name   string // what it is about, in errors; "": path
	more   []int  // statuses that are answers, besides 200

	to   *url.URL // where the path does not say it; nil: it does
	body *upload  // nil: none
	once bool     // a fault is for the caller: it cannot be sent again as it is

	repo     string // "": none
	manifest bool   // of that repository
}

func (c call) String() string { return c.method + " " + cmp.Or(c.name, c.path) }

func (c call) accepts(status int) bool {
	return status == http.StatusOK || slices.Contains(c.more, status)
}

// exchange sends c until take accepts the answer: again when its faults may
// pass, and with other credentials when some are refused or limited. take closes
// the body. Every error says what was asked of whom.
func (r *Registry) exchange(ctx context.Context, c call, take func(*http.Response) error) error {
	before := r.accounts.all("")
	err := r.ask(ctx, c, take)
	if refused(err) && r.renewed(ctx, before) {
		err = r.ask(ctx, c, take)
	}
	r.outcomes.count(err)
	if err != nil {
		return r.explain(c, err)
	}
	return nil
}

func (r *Registry) ask(ctx context.Context, c call, take func(*http.Response) error) error {
	t := &tries{throttled: map[*account]int{}}
	most := r.health.attempts()
	if c.once {
		most = 1
	}
	for {
		a, err := r.pick(ctx, c, t)
		if err != nil {
			return err
		}
		t.sent = time.Now()
		err = r.attempt(ctx, a, c, take)
		if err == nil {
			r.health.well()
			a.limit.Answered()
			r.accounts.letIn(c.scope, a, len(t.refused) > 0)
			return nil
		}
		if ctx.Err() != nil || !r.learn(a, t, err) {
			return err
		}
		if t.faults >= most {
			if !c.once {
				r.health.gaveUp()
			}
			return err
		}
		if err := r.rest(ctx, c, t, err); err != nil {
			return err
		}
	}
}

// learn notes what failed, and reports whether it makes sense to go on.
func (r *Registry) learn(a *account, t *tries, err error) bool {
	t.fault = false
	s, answered := errors.AsType[*statusError](err)
	later, isLater := errors.AsType[*mirror.ThrottledError](err)
	_, isLogin := errors.AsType[*loginError](err)
	switch {
	case errors.Is(err, errShut):
	case isLater: // whoever gives the credentials
		t.last = later.Err
		a.limit.Close(later.Until)
	case refused(err), isLogin:
		t.refuse(a, err)
	case answered && s.throttles():
		t.last = err
		t.throttled[a]++
		r.slowDown(a, t.throttled[a], t.sent, s)
	case transient(err):
		t.fault = true
		t.faults++
	default:
		return false
	}
	return true
}

// rest waits after a fault.
func (r *Registry) rest(ctx context.Context, c call, t *tries, fault error) error {
	if !t.fault {
		return nil
	}
	wait := backoff(t.faults)
	r.log.Info("upstream request is tried again", "upstream", r.host, "request", c.String(), "attempt", t.faults, "in", wait, "err", fault)
	return sleep(ctx, wait)
}

// attempt sends c once, or twice if it needs another token.
func (r *Registry) attempt(ctx context.Context, a *account, c call, take func(*http.Response) error) error {
	counted := r.counted(c)
	if !a.limit.Take(time.Now(), counted) {
		return errShut
	}
	resp, err := r.authorized(ctx, a, c)
	if err != nil {
		a.limit.Done(time.Now(), counted, nil, false)
		return err
	}
	a.limit.Done(time.Now(), counted, r.own(resp), c.manifest && resp.StatusCode == http.StatusOK)
	if resp.StatusCode == http.StatusTooManyRequests {
		// Nobody takes the slot before it is known how long to wait.
		a.limit.Pause(time.Now().Add(firstDelay / 2))
	}
	if !c.accepts(resp.StatusCode) {
		return refusal(resp)
	}
	return take(resp)
}

// own is the header of an answer of the registry itself, not of those that it
// redirects to.
func (r *Registry) own(resp *http.Response) http.Header {
	if sameOrigin(resp.Request.URL, r.endpoint) {
		return resp.Header
	}
	return nil
}

// authorized sends c with what let us in before, and answers one 401. The slot
// comes first, and is kept meanwhile: a token that waits for one may be dead
// when it is sent.
func (r *Registry) authorized(ctx context.Context, a *account, c call) (*http.Response, error) {
	done, err := r.slot(ctx)
	if err != nil {
		return nil, err
	}
	resp, err := r.inSlot(ctx, a, c)
	if err != nil {
		done()
		return nil, err
	}
	resp.Body = &closing{resp.Body, done}
	return resp, nil
}

func (r *Registry) inSlot(ctx context.Context, a *account, c call) (*http.Response, error) {
	u := &url.URL{Scheme: r.endpoint.Scheme, Host: r.endpoint.Host, Path: "/v2/" + c.path, RawQuery: c.query}
	req := request{method: c.method, url: u, header: c.header, body: c.body, account: a}
	if c.to != nil && !sameOrigin(c.to, r.endpoint) {
		req.url = c.to
		return r.send(ctx, req, func() {}) // which sees no credentials
	}
	if c.to != nil {
		u, req.url = c.to, c.to
	}
	header, err := r.authorization(ctx, a, c.scope)
	if err != nil {
		return nil, err
	}
	req.authorization = header
	resp, err := r.send(ctx, req, func() {})
	if err != nil || resp.StatusCode != http.StatusUnauthorized || !sameOrigin(resp.Request.URL, u) {
		return resp, err
	}
	no := refusal(resp)
	req.authorization, err = r.answer(ctx, a, c.scope, field.Challenges(resp.Header.Values("WWW-Authenticate")), header)
	if err != nil {
		return nil, err
	}
	if req.authorization == "" {
		return nil, no
	}
	return r.send(ctx, req, func() {})
}
