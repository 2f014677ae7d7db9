package sample

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Registry is a registry on a loopback address. Its images are its content
// once [Registry.Fill] has run.
type Registry struct {
	images  *Images
	handler http.Handler
	blobs   registry.BlobHandler
	server  *http.Server
	address string
	ended   chan error

	mu       sync.Mutex // guards images while it is pushed
	requests recorder
}

// Start makes the images and an empty registry, and serves it. The caller
// closes it.
func Start(o Options) (*Registry, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &Registry{images: Generate(o), blobs: registry.NewInMemoryBlobHandler(), address: l.Addr().String(), ended: make(chan error, 1)}
	quiet := log.New(io.Discard, "", 0)
	r.handler = registry.New(registry.WithReferrersSupport(!o.NoReferrers), registry.WithBlobHandler(r.blobs), registry.Logger(quiet))
	r.server = &http.Server{Handler: r.Handler(), ErrorLog: quiet}
	go func() { r.ended <- r.server.Serve(l) }()
	return r, nil
}

// Addr is where the registry listens: host:port.
func (r *Registry) Addr() string { return r.address }

// URL is the address as a base of requests.
func (r *Registry) URL() string { return "http://" + r.address }

// Handler is the registry itself, for tests that put something in front of it.
// Requests to it are recorded too.
func (r *Registry) Handler() http.Handler { return r.requests.record(r.closeRanges(r.handler)) }

// Close ends the registry, and every request that runs.
func (r *Registry) Close() error {
	err := r.server.Close()
	if ended := <-r.ended; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	r.ended <- http.ErrServerClosed // for the next Close
	return err
}

// Fill pushes the images and says what a mirror of them must hold.
func (r *Registry) Fill(ctx context.Context) ([]Expect, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.images.PushTo(ctx, http.DefaultClient, r.URL()); err != nil {
		return nil, err
	}
	return r.images.Expect(), nil
}

// Move pushes a new image to a tag, which may be a new one (see [Images.Build]).
func (r *Registry) Move(ctx context.Context, repo, tag string) (Expect, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	from := len(r.images.repo(repo).puts)
	e := r.images.Build(repo, tag)
	return e, r.images.repo(repo).push(ctx, http.DefaultClient, r.URL(), from)
}

// Expect is what a mirror must hold now.
func (r *Registry) Expect() []Expect {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.images.Expect()
}

// Bytes is the size of all content.
func (r *Registry) Bytes() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.images.Bytes()
}

// closeRanges gives an open range its end, without which the handler refuses it.
func (r *Registry) closeRanges(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		_, name, isBlob := strings.Cut(req.URL.Path, "/blobs/")
		if open := req.Header.Get("Range"); isBlob && strings.HasSuffix(open, "-") {
			h, err := v1.NewHash(name)
			stat, ok := r.blobs.(registry.BlobStatHandler)
			if err == nil && ok {
				if size, err := stat.Stat(req.Context(), "", h); err == nil {
					req = req.Clone(req.Context())
					req.Header.Set("Range", fmt.Sprintf("%s%d", open, size-1))
				}
			}
		}
		next.ServeHTTP(w, req)
	})
}
