package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"lastro/mirror"
	"lastro/mirror/upstream/limit"
)

// request is one request before redirects.
type request struct {
	method        string
	url           *url.URL
	header        http.Header
	authorization string // for the url's own scheme, host and port
	form          string // sent with POST, which no redirect is followed for; a form unless header says otherwise
	account       *account
}

const maxRedirects = 10

// follow sends a request and the redirects that answer it. It holds a slot
// until the answer's body is closed, which the caller does. It is errShut when
// the account may not ask any more.
func (r *Registry) follow(ctx context.Context, req request) (*http.Response, error) {
	done, err := r.slot(ctx)
	if err != nil {
		return nil, err
	}
	return r.send(ctx, req, done)
}

// slot waits for one. It is given back by calling done, once or more.
func (r *Registry) slot(ctx context.Context) (done func(), err error) {
	if err := r.slots.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	return sync.OnceFunc(func() { r.slots.Release(1) }), nil
}

// send is follow in a slot that the caller has: done is called when the body is
// closed, or with the error.
func (r *Registry) send(ctx context.Context, req request, done func()) (*http.Response, error) {
	if err := r.inTurn(ctx, req.account); err != nil {
		done()
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	release := sync.OnceFunc(func() {
		cancel(context.Canceled)
		done()
	})
	resp, err := r.hops(ctx, req)
	if err != nil {
		release()
		return nil, err
	}
	body := newStream(resp, r.stall, cancel, release)
	resp.Body = &part{r.bandwidth.Reader(ctx, body), body}
	return resp, nil
}

// inTurn waits for the pace, and looks whether the account may still ask.
func (r *Registry) inTurn(ctx context.Context, a *account) error {
	if err := r.pace.Wait(ctx); err != nil {
		return err
	}
	if now := time.Now(); !a.limit.Turn(now, limit.Request{}).Open(now) {
		return errShut
	}
	return nil
}

// hops sends a request and its redirects.
func (r *Registry) hops(ctx context.Context, req request) (*http.Response, error) {
	for range maxRedirects + 1 {
		resp, err := r.hop(ctx, req)
		if err != nil {
			return nil, err
		}
		if !redirects(resp) {
			return resp, nil
		}
		drain(resp)
		next, err := redirectTo(req, resp.Header.Get("Location"))
		if err != nil {
			return nil, err
		}
		if !sameOrigin(next, req.url) {
			req.authorization = "" // and it does not come back if a later hop does
		}
		req.url = next
	}
	return nil, fmt.Errorf("more than %d redirects", maxRedirects)
}

func (r *Registry) hop(ctx context.Context, req request) (*http.Response, error) {
	var body io.Reader
	if req.form != "" {
		body = strings.NewReader(req.form)
	}
	h, err := http.NewRequestWithContext(ctx, req.method, req.url.String(), body)
	if err != nil {
		return nil, errors.New("the address cannot be used")
	}
	if req.header != nil {
		h.Header = req.header.Clone()
	}
	h.Header.Set("User-Agent", r.agent)
	h.Header.Set("Accept-Encoding", "identity")
	if req.form != "" && h.Header.Get("Content-Type") == "" {
		h.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if req.authorization != "" {
		h.Header.Set("Authorization", req.authorization)
	}
	r.requests.Add(1)
	resp, err := r.transport.RoundTrip(h)
	if err != nil {
		return nil, &transportError{req.url.Host, cause(ctx, err)}
	}
	return resp, nil
}

// cause prefers the end of a context to what it did to a connection. Why the
// caller's own context ended is the caller's matter.
func cause(ctx context.Context, err error) error {
	if stalled, ok := errors.AsType[*stallError](context.Cause(ctx)); ok {
		return stalled
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func sameOrigin(a, b *url.URL) bool { return a.Scheme == b.Scheme && a.Host == b.Host }

func redirects(resp *http.Response) bool {
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// redirectTo is where a redirect leads. Its errors leave the query out, which
// is how CDNs are told that we may read.
func redirectTo(req request, location string) (*url.URL, error) {
	next, err := req.url.Parse(location)
	switch {
	case location == "" || err != nil || next.Host == "" || next.User != nil:
		return nil, fmt.Errorf("%s redirects to an address that cannot be used", req.url.Host)
	case req.form != "":
		return nil, fmt.Errorf("%s redirects to %s, where credentials do not follow", req.url.Host, next.Host)
	case next.Scheme == "https" || next.Scheme == "http" && req.url.Scheme == "http":
		return next, nil
	}
	return nil, fmt.Errorf("%s redirects from %s to %s://%s, which is refused", req.url.Host, req.url.Scheme, next.Scheme, next.Host)
}

// drainTimeout is how long the rest of an answer is worth waiting for.
const drainTimeout = 5 * time.Second

// drain lets the connection be used again, if the rest of the answer comes soon.
func drain(resp *http.Response) {
	watch := time.AfterFunc(drainTimeout, func() { resp.Body.Close() })
	defer watch.Stop()
	_, _ = io.CopyN(io.Discard, resp.Body, maxRefusal)
	resp.Body.Close()
}

// leastPace is what has to come of a stream while it is waited for as long as it
// may stall. A server that sends a byte now and then would otherwise hold a run
// for ever.
const leastPace = 64 << 10

// stallError is a stream that was cut because too little came.
type stallError struct {
	after time.Duration
	came  int
}

func (e *stallError) Error() string {
	if e.came == 0 {
		return fmt.Sprintf("nothing came for %v", e.after)
	}
	return fmt.Sprintf("too slow: only %d bytes came in %v", e.came, e.after)
}

// stream is the body of an answer. It ends with an error when it is waited for
// too long in all before enough comes; how slow its reader is does not matter.
type stream struct {
	waited time.Duration // since enough came
	came   atomic.Int64  // meanwhile

	body    io.ReadCloser
	host    string
	ctx     context.Context // of the request, to tell why it ended
	stall   time.Duration
	watch   *time.Timer
	release func()
}

func newStream(resp *http.Response, stall time.Duration, cancel context.CancelCauseFunc, release func()) *stream {
	s := &stream{body: resp.Body, host: resp.Request.URL.Host, ctx: resp.Request.Context(), stall: stall, release: release}
	s.watch = time.AfterFunc(stall, func() {
		cancel(&stallError{stall, int(s.came.Load())})
		s.body.Close()
	})
	s.watch.Stop()
	return s
}

func (s *stream) Read(p []byte) (int, error) {
	began := time.Now()
	s.watch.Reset(s.stall - s.waited)
	n, err := s.body.Read(p)
	s.watch.Stop()
	s.waited += time.Since(began)
	if s.came.Add(int64(n)) >= leastPace {
		s.waited = 0
		s.came.Store(0)
	}
	if err == nil || err == io.EOF {
		return n, err
	}
	return n, &transportError{s.host, cause(s.ctx, err)}
}

func (s *stream) Close() error {
	s.watch.Stop()
	err := s.body.Close()
	s.release()
	return err
}

// readAll reads and closes a body of at most limit bytes.
func readAll(resp *http.Response, limit int64) ([]byte, error) {
	defer resp.Body.Close()
	tooLarge := fmt.Errorf("the answer has more than the %d MiB that it may have", limit>>20)
	if resp.ContentLength > limit {
		return nil, tooLarge
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("the answer broke off after %d bytes: %w", len(raw), err)
	}
	if int64(len(raw)) > limit {
		return nil, tooLarge
	}
	return raw, nil
}

// call is what a method of Registry asks of the endpoint.
type call struct {
	method string
	path   string // below /v2/
	query  string
	header http.Header
	scope  string
	name   string // what it is about, in errors; "": path
	more   []int  // statuses that are answers, besides 200

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
			r.health.gaveUp()
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
	header, err := r.authorization(ctx, a, c.scope)
	if err != nil {
		return nil, err
	}
	u := &url.URL{Scheme: r.endpoint.Scheme, Host: r.endpoint.Host, Path: "/v2/" + c.path, RawQuery: c.query}
	req := request{method: c.method, url: u, header: c.header, authorization: header, account: a}
	resp, err := r.send(ctx, req, func() {})
	if err != nil || resp.StatusCode != http.StatusUnauthorized || !sameOrigin(resp.Request.URL, u) {
		return resp, err
	}
	no := refusal(resp)
	req.authorization, err = r.answer(ctx, a, c.scope, parseChallenges(resp.Header.Values("WWW-Authenticate")), header)
	if err != nil {
		return nil, err
	}
	if req.authorization == "" {
		return nil, no
	}
	return r.send(ctx, req, func() {})
}

// closing is a body whose slot is free when it is closed.
type closing struct {
	io.ReadCloser
	done func()
}

func (c *closing) Close() error {
	defer c.done()
	return c.ReadCloser.Close()
}
