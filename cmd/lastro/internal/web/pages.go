package web

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// checking is how long the checks of /readyz may take together.
const checking = 5 * time.Second

var errNotServing = errors.New("the registry does not listen yet, or drains")

// Handler answers everything that the server does.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", index)
	mux.HandleFunc("GET /healthz", healthz)
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(s.o.Log.Handler(), slog.LevelWarn),
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: 4,
		Timeout:             30 * time.Second,
		EnableOpenMetrics:   true,
	}))
	if s.o.Status != nil {
		mux.HandleFunc("GET /api/status", s.status)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		mux.ServeHTTP(w, r)
	})
}

func index(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, "lastro\n\n/api/status  rules, backups and jobs as JSON\n/metrics     for Prometheus\n/healthz     200 while the process lives\n/readyz      200 while clients can pull\n")
}

// healthz says that the process lives.
func healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, "ok\n")
}

// readiness is what /readyz says.
type readiness struct {
	Ready  bool              `json:"ready"`
	Checks map[string]string `json:"checks"` // "ok", or what is wrong
}

func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), checking)
	defer cancel()
	state := s.readiness(ctx)
	code := http.StatusOK
	if !state.Ready {
		code = http.StatusServiceUnavailable
	}
	s.write(w, code, state)
}

// readiness runs the checks side by side.
func (s *Server) readiness(ctx context.Context) readiness {
	state := readiness{Ready: true, Checks: map[string]string{}}
	var mu sync.Mutex
	note := func(name string, err error) {
		mu.Lock()
		defer mu.Unlock()
		state.Checks[name] = "ok"
		if err != nil {
			state.Ready, state.Checks[name] = false, err.Error()
		}
	}
	if s.ready.Load() {
		note("serving", nil)
	} else {
		note("serving", errNotServing)
	}
	var checks sync.WaitGroup
	for name, check := range s.o.Checks {
		checks.Go(func() { note(name, check(ctx)) })
	}
	checks.Wait()
	return state
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	v, err := s.o.Status(r.Context())
	if err != nil {
		s.o.Log.Warn("status not shown", "err", err)
		s.write(w, http.StatusInternalServerError, map[string]string{"error": err.Error()})
		return
	}
	s.write(w, http.StatusOK, v)
}

// write answers with v as JSON.
func (s *Server) write(w http.ResponseWriter, code int, v any) {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		s.o.Log.Error("an answer cannot be written as JSON", "err", err)
		http.Error(w, "an answer cannot be written as JSON", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(b, '\n')) // a client that has gone needs no answer
}
