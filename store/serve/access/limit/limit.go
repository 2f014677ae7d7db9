package limit

import (
	"bytes"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	logs "log"

	"lastro/store/serve/spec"
)

// Limiter holds the limits of one server.
type Limiter struct {
	settings    Settings
	tls         bool
	body        atomic.Int64 // BodyTimeout
	connections *share
	requests    *share
	lingering   chan struct{} // refused connections that are told so
	refused     atomic.Int64
}

// New has limits for a server that speaks TLS, or does not.
func New(s Settings, tls bool) *Limiter {
	l := &Limiter{settings: s, tls: tls, connections: newShare(0, 0), requests: newShare(0, 0), lingering: make(chan struct{}, 64)}
	l.Reload(s)
	return l
}

// Reload changes all limits but those of headers and of idle connections, which
// a server has as long as it runs. What is there already stays.
func (l *Limiter) Reload(s Settings) {
	l.connections.resize(s.Connections, s.ConnectionsPerAddress)
	l.requests.resize(s.Requests, max(1, s.Requests/2))
	l.body.Store(int64(s.BodyTimeout))
}

// Connections are those that are open.
func (l *Limiter) Connections() int { return l.connections.used() }

// Requests are those in flight.
func (l *Limiter) Requests() int { return l.requests.used() }

// Refused counts connections and requests that were too many.
func (l *Limiter) Refused() int64 { return l.refused.Load() }

// Handler bounds the requests in flight, and the time that their bodies take.
func (l *Limiter) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who := whoseIs(r.RemoteAddr)
		if !l.requests.take(who) {
			l.refused.Add(1)
			tooMany().Write(w)
			return
		}
		defer l.requests.give(who)
		if r.Body != nil && r.Body != http.NoBody {
			b := newBody(w, r.Body, time.Duration(l.body.Load()))
			defer b.done()
			r.Body = b
		}
		next.ServeHTTP(w, r)
	})
}

func tooMany() *spec.Refusal {
	return &spec.Refusal{
		Status: http.StatusServiceUnavailable, Code: spec.Unavailable, Message: "too many requests at once: come again in a second",
		Header: http.Header{"Retry-After": {"1"}},
	}
}

// Server answers with h within the limits. It has no TLS configuration yet, and
// its listener is to be one of Listener's.
func (l *Limiter) Server(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           l.Handler(h),
		ReadHeaderTimeout: l.settings.HeaderTimeout,
		IdleTimeout:       l.settings.IdleTimeout,
		MaxHeaderBytes:    int(l.settings.HeaderBytes),
		ErrorLog:          logs.New(lines{log}, "", 0),
	}
}

// lines are what net/http has to say.
type lines struct{ log *slog.Logger }

func (l lines) Write(line []byte) (int, error) {
	say := l.log.Warn
	if bytes.HasPrefix(line, []byte("http: TLS handshake error")) {
		say = l.log.Debug // every scanner of ports makes one
	}
	say("registry's server", "err", string(bytes.TrimSpace(line)))
	return len(line), nil
}
