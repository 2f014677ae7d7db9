package push

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/distribution/distribution/v3/registry/handlers"
	"github.com/opencontainers/go-digest"

	"lastro/mirror"
	"lastro/store"
	"lastro/store/layout"
	"lastro/store/serve/spec"
)

// sessionAge is how long an upload may lie before Purge removes it.
const sessionAge = 7 * 24 * time.Hour

// Options say what clients may change. The zero value refuses everything.
type Options struct {
	Log *slog.Logger     // nil: nothing is logged
	Now func() time.Time // nil: time.Now
	// Open says whether clients may change anything at all; if not, that is
	// unsupported (405). nil: they may when there is a Pushable.
	Open func() bool
	// Pushable says which repositories clients may change; others are refused
	// with the way out (403). nil: none.
	Pushable func(repo string) bool
	// Immutable says which tags do not move once they are there. nil: none.
	Immutable func(repo, tag string) bool
	// Keep says why a tag must not be deleted, or with an empty tag why a digest
	// must not; "" lets it go. nil: everything may.
	Keep func(ctx context.Context, repo, tag string, d digest.Digest) (reason string, err error)
	// By is who makes a request, for the events. nil, or "": push.
	By func(r *http.Request) string
	// MayPull says whether who makes a request may pull from another repository,
	// and so mount what it serves. nil: nothing is mounted.
	MayPull func(r *http.Request, repo string) bool
	// MaxManifest is how many bytes a manifest may have. Zero, or more than
	// that: mirror.MaxManifest.
	MaxManifest int64
}

// defaults are in the place of what is not there.
func (o Options) defaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Open == nil {
		pushable := o.Pushable != nil
		o.Open = func() bool { return pushable }
	}
	if o.Pushable == nil {
		o.Pushable = func(string) bool { return false }
	}
	if o.Immutable == nil {
		o.Immutable = func(string, string) bool { return false }
	}
	if o.Keep == nil {
		o.Keep = func(context.Context, string, string, digest.Digest) (string, error) { return "", nil }
	}
	if o.By == nil {
		o.By = func(*http.Request) string { return "" }
	}
	if o.MayPull == nil {
		o.MayPull = func(*http.Request, string) bool { return false }
	}
	if o.MaxManifest <= 0 || o.MaxManifest > mirror.MaxManifest {
		o.MaxManifest = mirror.MaxManifest
	}
	return o
}

// handler answers what would change something.
type handler struct {
	store    *store.Store
	o        Options
	log      *slog.Logger
	app      *handlers.App
	sessions sync.Map // those that somebody writes to, or purges
	settled  stripes  // held while an immutable tag is pushed
}

// Handler is the half of the registry's HTTP API that changes something. It may
// be used until the store is closed.
type Handler struct {
	http.Handler
	inner *handler
}

// New makes one. It is to be made before clients are let in: it removes what is
// not to be trusted of uploads after an unclean stop. How long a body may take is
// for others to say.
func New(st *store.Store, o Options) (*Handler, error) {
	h, err := newHandler(st, o)
	if err != nil {
		return nil, err
	}
	return &Handler{h.recovering(h), h}, nil
}

// Purge removes the uploads that nobody went on with for a week, and says how
// many. It may be called beside clients: what one of them sends is not removed.
func (h *Handler) Purge(ctx context.Context) (uploads int, err error) {
	return h.inner.store.PurgeUploads(ctx, h.inner.o.Now().Add(-sessionAge), h.inner.claim)
}

func newHandler(st *store.Store, o Options) (*handler, error) {
	o = o.defaults()
	h := &handler{store: st, o: o, log: o.Log}
	key, err := st.UploadKey()
	if err != nil {
		return nil, err
	}
	if err := st.ForgetHashes(context.Background()); err != nil {
		return nil, err
	}
	if err := h.start(key); err != nil {
		return nil, fmt.Errorf("local registry: %w", err)
	}
	return h, nil
}

// exchange is one request and its answer.
type exchange struct {
	*handler
	spec.Request
	w http.ResponseWriter
	r *http.Request
}

// ServeHTTP answers one request.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	q, known := spec.Parse(r.URL.Path)
	x := &exchange{h, q, w, r}
	err := x.allow(known)
	if err == nil {
		err = x.answer()
	}
	if err == nil {
		return
	}
	// Without an answer a client that still reads would be told 200.
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler)
	}
	x.refusal(err).Write(w)
}

// allow refuses what clients may not change.
func (x *exchange) allow(known bool) error {
	if !x.o.Open() {
		return spec.ReadOnly()
	}
	if !known || x.Repo == "" {
		return unsupported("GET, HEAD")
	}
	if err := x.Check(); err != nil {
		return err
	}
	if !x.o.Pushable(x.Repo) {
		return denied(http.StatusForbidden, fmt.Sprintf("%s is a mirror: clients may change only the repositories that registry.push of the configuration names", x.Repo))
	}
	return nil
}

func unsupported(allow string) error {
	return &spec.Refusal{Status: http.StatusMethodNotAllowed, Code: spec.Unsupported, Message: "that cannot be done here", Header: http.Header{"Allow": {allow}}}
}

func denied(status int, why string) error {
	return &spec.Refusal{Status: status, Code: spec.Denied, Message: why}
}

func bad(code, format string, args ...any) error {
	return &spec.Refusal{Status: http.StatusBadRequest, Code: code, Message: fmt.Sprintf(format, args...)}
}

// answer answers or returns an error, never both.
func (x *exchange) answer() error {
	switch x.Kind {
	case spec.Uploads:
		return x.upload()
	case spec.Manifests:
		switch x.r.Method {
		case http.MethodPut:
			return x.putManifest()
		case http.MethodDelete:
			return x.deleteManifest()
		}
		return unsupported("GET, HEAD, PUT, DELETE")
	case spec.Blobs:
		if x.r.Method == http.MethodDelete {
			return x.deleteBlob()
		}
		return unsupported("GET, HEAD, DELETE")
	}
	return unsupported("GET, HEAD")
}

// refusal is the answer to an error.
func (x *exchange) refusal(err error) *spec.Refusal {
	if refused, ok := errors.AsType[*spec.Refusal](err); ok {
		return refused
	}
	if used, ok := errors.AsType[*store.InUseError](err); ok {
		return &spec.Refusal{Status: http.StatusConflict, Code: spec.Denied, Message: used.Error()}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return x.unknown()
	}
	x.log.Error("push", "method", x.r.Method, "repo", x.Repo, "reference", x.Ref, "err", err)
	if errors.Is(err, layout.ErrFull) {
		return &spec.Refusal{Status: http.StatusInsufficientStorage, Code: spec.Unavailable, Message: "the registry's disk is full"}
	}
	return &spec.Refusal{Status: http.StatusInternalServerError, Code: spec.Unknown, Message: "internal error"}
}

func (x *exchange) unknown() *spec.Refusal {
	code := map[spec.Kind]string{spec.Manifests: spec.ManifestUnknown, spec.Blobs: spec.BlobUnknown, spec.Uploads: spec.BlobUploadUnknown}[x.Kind]
	return &spec.Refusal{Status: http.StatusNotFound, Code: code, Message: fmt.Sprintf("%s has no %s", x.Repo, x.Ref)}
}

// by is who makes the request.
func (x *exchange) by() string {
	if who := x.o.By(x.r); who != "" {
		return who
	}
	return "push"
}

// digest refuses what does not name content of a kind that is kept.
func (x *exchange) digest(text string) (digest.Digest, error) {
	d := digest.Digest(text)
	if err := layout.CheckDigest(d); err != nil {
		return "", bad(spec.DigestInvalid, "%v", err)
	}
	if a := d.Algorithm(); a != digest.SHA256 && a != digest.SHA512 {
		return "", bad(spec.DigestInvalid, "digest %q: this registry keeps sha256 and sha512", text)
	}
	return d, nil
}

// created answers that something is there now.
func (x *exchange) created(kind spec.Kind, d digest.Digest) error {
	h := x.w.Header()
	h.Set("Location", "/v2/"+x.Repo+"/"+string(kind)+"/"+d.String())
	h.Set("Docker-Content-Digest", d.String())
	h.Set("Content-Length", "0")
	x.w.WriteHeader(http.StatusCreated)
	return nil
}
