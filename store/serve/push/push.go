package push

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/metrics"
	"github.com/distribution/distribution/v3/registry/handlers"
	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/factory"
	gometrics "github.com/docker/go-metrics"

	"lastro/store"
	"lastro/store/layout"
	"lastro/store/serve/spec"
)

// Options change what may be pushed. The zero value refuses everything.
type Options struct {
	Log *slog.Logger     // nil: nothing is logged
	Now func() time.Time // nil: time.Now
}

// handler answers what would change something.
type handler struct {
	store *store.Store
	log   *slog.Logger
	app   *handlers.App
}

// New is the half of the registry's HTTP API that changes something. It may be
// used until the store is closed.
func New(st *store.Store, o Options) (http.Handler, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	h := &handler{store: st, log: o.Log}
	if err := h.start(); err != nil {
		return nil, fmt.Errorf("local registry: %w", err)
	}
	return h.recovering(http.HandlerFunc(h.refuse)), nil
}

func (h *handler) refuse(w http.ResponseWriter, _ *http.Request) {
	(&spec.Refusal{
		Status: http.StatusMethodNotAllowed, Code: spec.Unsupported,
		Message: "this registry is a mirror: it takes no pushes and no deletes", Header: http.Header{"Allow": {"GET, HEAD"}},
	}).Write(w)
}

// Metrics is distribution's own namespace of metrics, for whoever exposes them.
func Metrics() *gometrics.Namespace { return metrics.StorageNamespace }

// register makes the driver known to distribution, once.
var register = sync.OnceFunc(func() { factory.Register(layout.DriverName, injected{}) })

// injected hands distribution the driver that is among the parameters.
type injected struct{}

func (injected) Create(_ context.Context, parameters map[string]any) (storagedriver.StorageDriver, error) {
	d, ok := parameters["driver"].(storagedriver.StorageDriver)
	if !ok {
		return nil, errors.New("no driver was given")
	}
	return d, nil
}

// start starts distribution. Its constructor panics on what it does not like.
func (h *handler) start() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("distribution: %v", p)
		}
	}()
	register()
	bridgeLogs(h.log)
	h.app = handlers.NewApp(context.Background(), settings(h.store.Driver()))
	return nil
}

func settings(driver storagedriver.StorageDriver) *configuration.Configuration {
	c := &configuration.Configuration{Storage: configuration.Storage{
		layout.DriverName: {"driver": driver},
		"delete":          {"enabled": true},
		"redirect":        {"disable": true},
		"maintenance":     {"uploadpurging": map[any]any{"enabled": false}},
	}}
	c.HTTP.Secret = "lastro" // signs the state of uploads, of which there are none
	c.HTTP.RelativeURLs = true
	c.Catalog.MaxEntries = 1000
	c.Tags.MaxTags = 1000
	c.Validation.Manifests.URLs.Allow = []string{"^https?://"}
	return c
}

// recovering turns a panic of a request into a 500, or, when the answer has
// begun, into a broken connection: a client must not take half for the whole.
func (h *handler) recovering(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := &begun{ResponseWriter: w}
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if p == http.ErrAbortHandler {
				panic(p)
			}
			h.log.Error("a request panicked", "method", r.Method, "path", r.URL.Path, "err", p, "stack", string(debug.Stack()))
			if answer.yes {
				panic(http.ErrAbortHandler)
			}
			(&spec.Refusal{Status: http.StatusInternalServerError, Code: spec.Unknown, Message: "internal error"}).Write(w)
		}()
		next.ServeHTTP(answer, r)
	})
}

// begun notes whether an answer has begun.
type begun struct {
	http.ResponseWriter
	yes bool
}

func (b *begun) WriteHeader(status int) {
	b.yes = true
	b.ResponseWriter.WriteHeader(status)
}

func (b *begun) Write(p []byte) (int, error) {
	b.yes = true
	return b.ResponseWriter.Write(p)
}
