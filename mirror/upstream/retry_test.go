package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// failingFirst fails some requests and answers the rest.
func failingFirst(times int, fail http.HandlerFunc) http.HandlerFunc {
	var mu sync.Mutex
	return func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if times > 0 {
			times--
			fail(w, r)
			return
		}
		sendIndex(w, r)
	}
}

func TestWhatMayPassIsTriedAgain(t *testing.T) {
	for _, c := range []struct {
		status   int
		requests int64
	}{{429, 3}, {500, 3}, {502, 3}, {503, 3}, {504, 3}, {408, 3}, {400, 1}, {401, 1}, {403, 1}, {404, 1}, {501, 2}} {
		synctest.Test(t, func(t *testing.T) {
			r := inProcess(failingFirst(2, refuse(c.status, "")))
			_, err := r.Head(t.Context(), "a", "v1")
			if r.Requests() != c.requests || (err == nil) != (c.requests == 3) {
				t.Errorf("%d: %d requests, %v; want %d", c.status, r.Requests(), err, c.requests)
			}
		})
	}
}

func TestAnUpstreamIsGivenUpAndThenTriedGently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := true
		r := inProcess(func(w http.ResponseWriter, req *http.Request) {
			if down {
				refuse(503, "")(w, req)
				return
			}
			sendIndex(w, req)
		})
		head := func(wantRequests int64, ok bool) {
			t.Helper()
			before := r.Requests()
			_, err := r.Head(t.Context(), "a", "v1")
			if n := r.Requests() - before; n != wantRequests || (err == nil) != ok {
				t.Errorf("%d requests, %v; want %d", n, err, wantRequests)
			}
		}
		start := time.Now()
		head(maxAttempts, false)
		if took := time.Since(start); took < 7*time.Second || took > 15*time.Second {
			t.Errorf("given up after %v", took)
		}
		head(1, false)
		time.Sleep(restAfter)
		head(maxAttempts, false)
		down = false
		head(1, true)
		down = true
		head(maxAttempts, false) // it answered: it has earned patience
	})
}

func TestRetryAfterIsObeyed(t *testing.T) {
	for _, c := range []struct {
		name, after string
		wait        time.Duration
	}{
		{"seconds", "90", 90 * time.Second},
		{"a date", "Sat, 01 Jan 2000 00:01:30 GMT", 90 * time.Second}, // fake time begins in 2000
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				r := inProcess(failingFirst(1, func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Retry-After", c.after)
					w.WriteHeader(429)
				}))
				var wg sync.WaitGroup
				for range 3 { // the others keep quiet, too
					wg.Go(func() {
						if _, err := r.Head(t.Context(), "a", "v1"); err != nil {
							t.Error(err)
						}
					})
					synctest.Wait()
				}
				if r.Requests() != 1 {
					t.Errorf("%d requests while the upstream wants silence", r.Requests())
				}
				wg.Wait()
				if took := time.Since(start); took != c.wait || r.Requests() != 4 {
					t.Errorf("%d requests in %v, want 4 in %v", r.Requests(), took, c.wait)
				}
			})
		})
	}
}

func TestALongRetryAfterIsLeftToALaterRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		r := inProcess(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "21600")
			w.WriteHeader(429)
		})
		_, _, err := r.Manifest(t.Context(), "a", "v1")
		wantError(t, err, "429 Too Many Requests", "try again in 6h0m0s")
		if r.Requests() != 1 || time.Since(start) != 0 {
			t.Errorf("%d requests in %v", r.Requests(), time.Since(start))
		}
	})
}

func TestAnEndedContextEndsThePauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err := inProcess(refuse(503, "")).Head(ctx, "a", "v1")
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 100*time.Millisecond {
			t.Errorf("got %v after %v", err, time.Since(start))
		}
	})
}

// breaking fails at the network.
func breaking(r *Registry, times int, fail func(*http.Request) (*http.Response, error)) *Registry {
	real := r.transport
	r.transport = roundTrip(func(req *http.Request) (*http.Response, error) {
		if times > 0 {
			times--
			return fail(req)
		}
		return real.RoundTrip(req)
	})
	return r
}

func TestConnectionsThatBreakAreTriedAgain(t *testing.T) {
	for _, c := range []struct {
		name string
		fail func(*http.Request) (*http.Response, error)
		ok   bool
	}{
		{"a reset", func(*http.Request) (*http.Response, error) {
			return nil, &net.OpError{Op: "read", Err: errors.New("connection reset by peer")}
		}, true},
		{"a manifest that breaks off", func(req *http.Request) (*http.Response, error) {
			body := io.MultiReader(strings.NewReader(index[:9]), brokenReader{})
			return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(body), ContentLength: int64(len(index)), Request: req}, nil
		}, true},
		{"a resolver in trouble", func(*http.Request) (*http.Response, error) {
			return nil, &net.DNSError{Err: "server misbehaving", IsTemporary: true}
		}, true},
		{"a name that does not exist", func(*http.Request) (*http.Response, error) {
			return nil, &net.DNSError{Err: "no such host", Name: "registry.test", IsNotFound: true}
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := breaking(inProcess(sendIndex), 1, c.fail)
				_, raw, err := r.Manifest(t.Context(), "a", "v1")
				if (err == nil) != c.ok || c.ok && string(raw) != index {
					t.Errorf("got %q, %v", raw, err)
				}
				if !c.ok {
					wantError(t, err, "registry.test", "check the name of the host")
				}
				if !r.slots.idle(defaultConnections) {
					t.Error("a slot is held")
				}
			})
		})
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestATruncatedManifestIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := breaking(inProcess(sendIndex), 99, func(req *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(brokenReader{}), ContentLength: 5, Request: req}, nil
		})
		_, _, err := r.Manifest(t.Context(), "org/app", "v1")
		wantError(t, err, "upstream registry.test: GET manifests/v1 of org/app: the answer broke off after 0 bytes")
	})
}
