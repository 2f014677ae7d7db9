package serve

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"lastro/store"
	"lastro/store/serve/spec"
)

// Options change what is served, and to whom.
type Options struct {
	Log *slog.Logger     // nil: nothing is logged
	Now func() time.Time // nil: time.Now

	// Push answers what would change something: uploads, PUT, POST, PATCH and
	// DELETE. nil: that is refused.
	Push http.Handler
}

// Handler is the registry's HTTP API. It may be used until the store is closed.
type Handler struct {
	store *store.Store
	o     Options
}

// New is the registry's HTTP API over a store.
func New(st *store.Store, o Options) (*Handler, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Handler{store: st, o: o}, nil
}

// apiVersion is what old clients look for.
var apiVersion = []string{"registry/2.0"}

// ServeHTTP answers one request. A panic becomes a 500, or, when the answer has
// begun, a broken connection: a client must not take half for the whole.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := exchange{Handler: h, w: w, r: r}
	defer x.recover()
	w.Header()["Docker-Distribution-Api-Version"] = apiVersion
	if err := x.answer(); err != nil {
		x.fail(err)
	}
}

// exchange is a request with its answer.
type exchange struct {
	*Handler
	spec.Request
	w     http.ResponseWriter
	r     *http.Request
	begun bool // the answer has: from here on a fault can only break it off
}

// answer answers or returns an error, never both.
func (x *exchange) answer() error {
	q, ok := spec.Parse(x.r.URL.Path)
	if x.Request = q; !ok || x.changes() {
		return x.other(ok)
	}
	if err := q.Check(); err != nil {
		return err
	}
	switch q.Kind {
	case spec.Base:
		return x.base()
	case spec.Catalog:
		return x.catalog()
	case spec.Tags:
		return x.tags()
	case spec.Manifests:
		return x.manifest()
	}
	d, err := q.Digest()
	switch {
	case err != nil:
		return err
	case q.Kind == spec.Referrers:
		return x.referrers(d)
	}
	return x.blob(d)
}

// changes reports whether the request is about to change something.
func (x *exchange) changes() bool { return !x.reads() || x.Kind == spec.Uploads }

func (x *exchange) reads() bool {
	return x.r.Method == http.MethodGet || x.r.Method == http.MethodHead
}

// other answers what is no pull.
func (x *exchange) other(known bool) error {
	switch {
	case !known && x.reads():
		return &spec.Refusal{Status: http.StatusNotFound, Code: spec.Unsupported, Message: "the distribution-spec has no such path"}
	case !known || x.o.Push == nil:
		return &spec.Refusal{
			Status: http.StatusMethodNotAllowed, Code: spec.Unsupported,
			Message: "this registry is a mirror: it takes no pushes and no deletes", Header: http.Header{"Allow": {"GET, HEAD"}},
		}
	}
	if err := x.Check(); err != nil {
		return err
	}
	x.begun = true
	x.o.Push.ServeHTTP(x.w, x.r)
	return nil
}

// base tells a client that this is a registry.
func (x *exchange) base() error {
	x.w.Header().Set("Content-Type", "application/json")
	x.begun = true
	_, err := io.WriteString(x.w, "{}")
	return err
}

// fail answers with an error, or breaks off an answer that has begun.
func (x *exchange) fail(err error) {
	if x.begun {
		panic(http.ErrAbortHandler)
	}
	if x.r.Context().Err() != nil {
		return // nobody listens
	}
	x.refusal(err).Write(x.w)
}

func (x *exchange) refusal(err error) *spec.Refusal {
	if refused, ok := errors.AsType[*spec.Refusal](err); ok {
		return refused
	}
	if errors.Is(err, fs.ErrNotExist) {
		return x.unknown()
	}
	x.o.Log.Error("pull", "repo", x.Repo, "reference", x.Ref, "err", err)
	return &spec.Refusal{Status: http.StatusInternalServerError, Code: spec.Unknown, Message: "internal error"}
}

// unknown says in the spec's words that what is asked for is not here.
func (x *exchange) unknown() *spec.Refusal {
	switch x.Kind {
	case spec.Manifests:
		return &spec.Refusal{Status: http.StatusNotFound, Code: spec.ManifestUnknown, Message: fmt.Sprintf("%s has no manifest %s", x.Repo, x.Ref)}
	case spec.Blobs:
		return &spec.Refusal{Status: http.StatusNotFound, Code: spec.BlobUnknown, Message: fmt.Sprintf("%s has no blob %s", x.Repo, x.Ref)}
	}
	return &spec.Refusal{Status: http.StatusNotFound, Code: spec.NameUnknown, Message: fmt.Sprintf("there is no repository %s", x.Repo)}
}

func (x *exchange) recover() {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler {
		panic(p)
	}
	x.o.Log.Error("a request panicked", "method", x.r.Method, "path", x.r.URL.Path, "err", p, "stack", string(debug.Stack()))
	if x.begun {
		panic(http.ErrAbortHandler)
	}
	(&spec.Refusal{Status: http.StatusInternalServerError, Code: spec.Unknown, Message: "internal error"}).Write(x.w)
}
