package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"sync"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/metrics"
	"github.com/distribution/distribution/v3/registry/handlers"
	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/factory"
	gometrics "github.com/docker/go-metrics"

	"lastro/store/layout"
)

// Handler serves the registry. What is stored is answered from the files and the
// ledger; distribution's own handler answers the rest: the version check, and
// what is not here. Requests that would change something are answered 405. The
// handler may be used until the store is closed.
func (s *Store) Handler() (http.Handler, error) {
	app, err := s.app()
	if err != nil {
		return nil, fmt.Errorf("local registry: %w", err)
	}
	return pullsOnly(s.pulls(s.recovering(app))), nil
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

// app starts distribution. Its constructor panics on what it does not like.
func (s *Store) app() (app *handlers.App, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("distribution: %v", p)
		}
	}()
	register()
	bridgeLogs(s.log)
	return handlers.NewApp(context.Background(), s.appConfig()), nil
}

func (s *Store) appConfig() *configuration.Configuration {
	c := &configuration.Configuration{Storage: configuration.Storage{
		layout.DriverName: {"driver": s.tree.Driver()},
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
func (s *Store) recovering(next http.Handler) http.Handler {
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
			s.log.Error("a request panicked", "method", r.Method, "path", r.URL.Path, "err", p, "stack", string(debug.Stack()))
			if answer.yes {
				panic(http.ErrAbortHandler)
			}
			refuse(w, http.StatusInternalServerError, "UNKNOWN", "internal error")
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

func pullsOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			refuse(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "this registry is a mirror: it takes no pushes and no deletes")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// refuse answers with an error body of the distribution-spec.
func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": []map[string]string{{"code": code, "message": message}}})
}
