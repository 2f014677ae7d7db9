package web

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

// fixed is when the tests happen.
func fixed() time.Time { return time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC) }

func get(t *testing.T, s *Server, path string) *http.Response {
	t.Helper()
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestHealthIsAnsweredFromTheBeginning(t *testing.T) {
	r := get(t, New(Options{Now: fixed}), "/healthz")
	if got, want := fmt.Sprint(r.StatusCode, body(t, r)), "200ok\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestReadiness(t *testing.T) {
	locked := errors.New("ledger is closed")
	fine := func(context.Context) error { return nil }
	for _, c := range []struct {
		name   string
		ready  bool
		checks map[string]func(context.Context) error
		code   int
		want   readiness
	}{
		{"before the registry listens, and while it drains", false, map[string]func(context.Context) error{"store": fine}, 503,
			readiness{false, map[string]string{"serving": errNotServing.Error(), "store": "ok"}}},
		{"all is well", true, map[string]func(context.Context) error{"store": fine}, 200,
			readiness{true, map[string]string{"serving": "ok", "store": "ok"}}},
		{"a check says no", true, map[string]func(context.Context) error{"store": func(context.Context) error { return locked }}, 503,
			readiness{false, map[string]string{"serving": "ok", "store": "ledger is closed"}}},
		{"there are no checks", true, nil, 200, readiness{true, map[string]string{"serving": "ok"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := New(Options{Now: fixed, Checks: c.checks})
			s.Ready(true)
			s.Ready(c.ready)
			r := get(t, s, "/readyz")
			var got readiness
			if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, got); d != "" || r.StatusCode != c.code {
				t.Errorf("code: got %d, want %d\n%s", r.StatusCode, c.code, d)
			}
		})
	}
}

func TestACheckThatHangsIsNotReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{Now: time.Now, Checks: map[string]func(context.Context) error{"store": func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}}})
		s.Ready(true)
		start := time.Now()
		if r := get(t, s, "/readyz"); r.StatusCode != 503 {
			t.Errorf("got %d, want 503", r.StatusCode)
		}
		if got := time.Since(start); got != checking {
			t.Errorf("it took %v, want %v", got, checking)
		}
	})
}

func TestStatus(t *testing.T) {
	type rule struct {
		Name     string `json:"name"`
		Complete bool   `json:"complete"`
	}
	var failure error
	s := New(Options{Now: fixed, Status: func(context.Context) (any, error) { return rule{"debian", true}, failure }})
	r := get(t, s, "/api/status")
	if got, want := body(t, r), "{\n  \"name\": \"debian\",\n  \"complete\": true\n}\n"; got != want || r.StatusCode != 200 || r.Header.Get("Content-Type") != "application/json" {
		t.Errorf("got %d %q, want %q", r.StatusCode, got, want)
	}
	failure = errors.New("ledger is closed")
	r = get(t, s, "/api/status")
	if got, want := body(t, r), "{\n  \"error\": \"ledger is closed\"\n}\n"; got != want || r.StatusCode != 500 {
		t.Errorf("got %d %q, want %q", r.StatusCode, got, want)
	}
}

func TestAStatusThatIsNoJSONIsAnError(t *testing.T) {
	s := New(Options{Now: fixed, Status: func(context.Context) (any, error) { return func() {}, nil }})
	if r := get(t, s, "/api/status"); r.StatusCode != 500 {
		t.Errorf("got %d, want 500", r.StatusCode)
	}
}

func TestOnlyReadingIsAnsweredAndOnlyWhatThereIs(t *testing.T) {
	s := New(Options{Now: fixed})
	for request, want := range map[string]int{
		"GET /":            200,
		"GET /metrics":     200,
		"HEAD /metrics":    200,
		"POST /metrics":    405,
		"DELETE /healthz":  405,
		"GET /none":        404,
		"GET /api/status":  404, // there is none in this server
		"GET /debug/pprof": 404,
	} {
		var method, path string
		if _, err := fmt.Sscan(request, &method, &path); err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, nil))
		if w.Code != want {
			t.Errorf("%s: got %d, want %d", request, w.Code, want)
		}
		if got := w.Header().Get("X-Content-Type-Options") + " " + w.Header().Get("Cache-Control"); got != "nosniff no-store" {
			t.Errorf("%s: headers %q", request, got)
		}
	}
}

// listening serves s on the loopback until the test ends.
func listening(t *testing.T, s *Server) (address string, served <-chan error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() { s.http.Close() })
	return l.Addr().String(), ended
}

func TestShutdownWaitsForARequestThatIsBeingAnswered(t *testing.T) {
	asked, release := make(chan struct{}), make(chan struct{})
	s := New(Options{Now: time.Now, Status: func(context.Context) (any, error) {
		close(asked)
		<-release
		return "done", nil
	}})
	address, served := listening(t, s)
	answered := make(chan string, 1)
	go func() {
		r, err := http.Get("http://" + address + "/api/status")
		if err != nil {
			answered <- err.Error()
			return
		}
		defer r.Body.Close()
		answered <- r.Status
	}()
	<-asked
	stopped := make(chan error, 1)
	go func() { stopped <- s.Shutdown(context.Background()) }()
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("Serve: got %v, want http.ErrServerClosed", err)
	}
	select {
	case err := <-stopped:
		t.Fatalf("Shutdown did not wait: %v", err)
	default:
	}
	close(release)
	if got, want := <-answered, "200 OK"; got != want {
		t.Errorf("the request: got %s, want %s", got, want)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

func TestShutdownClosesWhatTakesTooLong(t *testing.T) {
	asked := make(chan struct{})
	s := New(Options{Now: time.Now, Status: func(ctx context.Context) (any, error) {
		close(asked)
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	address, _ := listening(t, s)
	failed := make(chan error, 1)
	go func() {
		r, err := http.Get("http://" + address + "/api/status")
		if err == nil {
			r.Body.Close()
		}
		failed <- err
	}()
	<-asked
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown: got %v, want context.Canceled", err)
	}
	if err := <-failed; err == nil {
		t.Error("the request was answered")
	}
}

// oneConn is a listener that has one connection to give.
type oneConn struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l oneConn) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l oneConn) Close() error   { close(l.done); return nil }
func (l oneConn) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func TestClientsThatKeepQuietAreCutOff(t *testing.T) {
	for _, c := range []struct {
		name, send string
		want       time.Duration
	}{
		{"before the end of the headers", "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow", 10 * time.Second},
		{"between requests", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 2 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := New(Options{Now: time.Now})
				ours, theirs := net.Pipe()
				l := oneConn{conns: make(chan net.Conn, 1), done: make(chan struct{})}
				l.conns <- theirs
				go func() { _ = s.Serve(l) }()
				start := time.Now()
				if _, err := io.WriteString(ours, c.send); err != nil {
					t.Fatal(err)
				}
				for r := bufio.NewReader(ours); ; {
					if _, err := r.ReadByte(); err != nil {
						break
					}
				}
				if got := time.Since(start); got != c.want {
					t.Errorf("cut off after %v, want %v", got, c.want)
				}
				if err := s.Shutdown(t.Context()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestHeadersThatAreTooLargeAreRefused(t *testing.T) {
	address, _ := listening(t, New(Options{Now: time.Now}))
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Large", strings.Repeat("x", 128<<10))
	r, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if got, want := r.StatusCode, http.StatusRequestHeaderFieldsTooLarge; got != want {
		t.Errorf("got %d, want %d", got, want)
	}
}

func TestRegisterAddsAllOrNothing(t *testing.T) {
	s := New(Options{Now: fixed})
	good := prometheus.NewGauge(prometheus.GaugeOpts{Name: "extra", Help: "extra"})
	taken := prometheus.NewGauge(prometheus.GaugeOpts{Name: "lastro_ready", Help: "taken"})
	if err := s.Register(good, taken); err == nil {
		t.Error("a name that is taken was registered")
	}
	if err := s.Register(good); err != nil {
		t.Errorf("after a failure: %v", err)
	}
}
