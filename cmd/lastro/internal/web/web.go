package web

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Options are what a server shows. Now is required.
type Options struct {
	Now     func() time.Time
	Log     *slog.Logger // nil: nothing is logged
	Version string       // of lastro
	Data    string       // the data folder, whose disk is watched; empty: it is not

	// Checks say by name what else than Ready is wrong. They have five seconds.
	Checks map[string]func(context.Context) error
	// Status is the value that GET /api/status shows as JSON; nil: there is
	// no such page.
	Status func(context.Context) (any, error)
	// Stock counts what the local registry holds; nil: it is not counted. It
	// is asked when metrics are read, and at most once in five minutes.
	Stock func(context.Context) (Stock, error)
	// Upstreams are those that were used; nil: there are none.
	Upstreams func() []Upstream
	// Front is the registry's address now; nil: nothing is known of it.
	Front func() Front
}

// Server is the admin address. Its methods may be called from many goroutines,
// and all of them but Serve also before it serves.
type Server struct {
	o        Options
	http     *http.Server
	registry *prometheus.Registry
	metrics  *metrics
	ready    atomic.Bool
	answers  atomic.Int64 // that are being given to clients of the registry

	background context.Context // of counting; ends with Shutdown
	cancel     context.CancelFunc
	counting   sync.WaitGroup
}

// New makes a server that is not ready yet.
func New(o Options) *Server {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{o: o, registry: prometheus.NewRegistry()}
	s.background, s.cancel = context.WithCancel(context.Background())
	s.metrics = newMetrics(s)
	s.registry.MustRegister(s.metrics.all()...)
	s.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	s.http = &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(o.Log.Handler(), slog.LevelWarn),
	}
	return s
}

// Register adds metrics of other libraries, such as those of the registry that
// we embed. Nothing is added when one of their names is taken.
func (s *Server) Register(extra ...prometheus.Collector) error {
	for i, c := range extra {
		if err := s.registry.Register(c); err != nil {
			for _, added := range extra[:i] {
				s.registry.Unregister(added)
			}
			return err
		}
	}
	return nil
}

// Ready says whether the registry listens and takes requests. It is false
// before it is said, and again while the daemon drains.
func (s *Server) Ready(yes bool) { s.ready.Store(yes) }

// Serve answers on l until Shutdown; then it returns [http.ErrServerClosed].
func (s *Server) Serve(l net.Listener) error { return s.http.Serve(l) }

// Shutdown stops answering new requests, waits for those that run, and closes
// their connections when ctx ends before.
func (s *Server) Shutdown(ctx context.Context) error {
	s.metrics.stock.stop(s.cancel)
	defer s.counting.Wait()
	err := s.http.Shutdown(ctx)
	if err != nil && ctx.Err() != nil {
		return errors.Join(err, s.http.Close())
	}
	return err
}
