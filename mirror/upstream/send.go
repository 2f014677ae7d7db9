package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"lastro/mirror/upstream/limit"
)

// request is one request before redirects.
type request struct {
	method        string
	url           *url.URL
	header        http.Header
	authorization string  // for the url's own scheme, host and port
	form          string  // sent with POST, which no redirect is followed for; a form unless header says otherwise
	body          *upload // nil: none
	account       *account
	from          *http.Response // the redirect that led here; nil: none
}

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
	if err := r.slots.acquire(ctx); err != nil {
		return nil, err
	}
	return sync.OnceFunc(r.slots.release), nil
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
	if req.body != nil {
		req.body = req.body.watched(r.stall, cancel)
	}
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
		req.url, req.from = next, resp
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
	h.Response = req.from
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
	sent, err := req.body.attach(ctx, r, h)
	if err != nil {
		return nil, err
	}
	r.requests.Add(1)
	resp, err := r.transport.RoundTrip(h)
	if err != nil {
		return nil, sent.instead(&transportError{req.url.Host, cause(ctx, err)})
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
