package serve

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	"lastro/store"
	"lastro/store/serve/spec"
)

// Options change what is served, and to whom. The zero value serves what is
// here to everybody and takes no pushes.
type Options struct {
	Log *slog.Logger     // nil: nothing is logged
	Now func() time.Time // nil: time.Now

	// Access decides what a client may do. nil: everybody may pull, and change
	// what Push lets change.
	Access Access
	// Names says which local repository a client means that asks for name, and
	// for the upstream ns when it gives one. ok is false for an upstream that
	// nobody configured: that is 404, and nothing is dialled. It is not asked
	// for pushes and deletes. nil: a repository is named as it is here.
	Names func(ns, name string) (repo string, ok bool)
	// Demand brings what is not here. nil: what is not here is not here.
	Demand Demand
	// Lists makes of what lists what is here that which lists what is served. It
	// is called once. nil: what is here is listed.
	Lists func(here Lists) Lists
	// Pulled is called when a manifest was sent with 200 to a GET. tag is empty
	// when it was asked for by digest. It must not block. nil: nothing is.
	Pulled func(r *http.Request, repo, tag string, d digest.Digest)
	// Push answers what would change something: uploads, PUT, POST, PATCH and
	// DELETE. It gets the request after Access allowed it, and recovers from
	// its own panics. nil: that is refused.
	Push http.Handler
	// Patience is how long a client may take for half a MiB of an answer, or
	// for the rest of one; who takes longer is cut off. Zero: 60 s.
	Patience time.Duration
}

// Access decides what a client may do. Its error is a *[spec.Refusal].
type Access interface {
	// Allow is asked before anything is looked at. repo is the local
	// repository, and empty for the version check and the catalog.
	Allow(r *http.Request, repo string, a spec.Action) error
	// Visible reports whether the catalog shows repo to the client.
	Visible(r *http.Request, repo string) bool
}

// Demand brings what is not here.
type Demand interface {
	// Manifest is asked for every manifest that a client wants, before the
	// local one is looked at. Without an error and a descriptor the answer is
	// what is here, or 404. With a descriptor it is the content that comes with
	// it. Errors are answered as the package says, a *[spec.Refusal] as it is; there is none while the store has
	// the manifest itself.
	Manifest(ctx context.Context, repo, ref string) (ocispec.Descriptor, []byte, error)
	// Blob is asked for a blob that repo does not serve, or not yet.
	Blob(ctx context.Context, repo string, d digest.Digest) (mirror.Stream, error)
}

// Lists tells what there is.
type Lists interface {
	// Repositories are the first n names after last, in order, and whether more
	// follow.
	Repositories(ctx context.Context, last string, n int) (names []string, more bool, err error)
	// Tags are the first n tags of a repository after last, in order;
	// fs.ErrNotExist: there is no such repository.
	Tags(ctx context.Context, repo, last string, n int) (names []string, more bool, err error)
	// Referrers are those that repo serves of a subject, each once.
	Referrers(ctx context.Context, repo string, subject digest.Digest) ([]ocispec.Descriptor, error)
}

const patience = time.Minute

// Handler is the registry's HTTP API. It may be used until the store is closed.
type Handler struct {
	store     *store.Store
	o         Options
	lists     Lists
	manifests memory
}

// New is the registry's HTTP API over a store.
func New(st *store.Store, o Options) (*Handler, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Patience == 0 {
		o.Patience = patience
	}
	h := &Handler{store: st, o: o}
	h.lists = here{h}
	if o.Lists != nil {
		h.lists = o.Lists(h.lists)
	}
	return h, nil
}

// apiVersion is what old clients look for.
var apiVersion = []string{"registry/2.0"}

// ServeHTTP answers one request.
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
	spec.Request // as it was asked
	repo         string
	w            http.ResponseWriter
	r            *http.Request
	begun        bool // the answer has: from here on a fault can only break it off
}

// answer answers or returns an error.
func (x *exchange) answer() error {
	q, known := spec.Parse(x.r.URL.Path)
	x.Request, x.repo = q, q.Repo
	reads := x.r.Method == http.MethodGet || x.r.Method == http.MethodHead
	switch {
	case !known && reads:
		return &spec.Refusal{Status: http.StatusNotFound, Code: spec.Unsupported, Message: "the distribution-spec has no such path"}
	case !known:
		return spec.ReadOnly()
	}
	if err := q.Check(); err != nil {
		return err
	}
	if !reads || q.Kind == spec.Uploads {
		return x.push()
	}
	return x.pull()
}

func (x *exchange) push() error {
	if err := x.allow(); err != nil {
		return err
	}
	if x.o.Push == nil {
		return spec.ReadOnly()
	}
	x.begun = true
	x.o.Push.ServeHTTP(x.w, x.r)
	return nil
}

func (x *exchange) allow() error {
	if x.o.Access == nil {
		return nil
	}
	return x.o.Access.Allow(x.r, x.repo, x.Action(x.r.Method))
}

func (x *exchange) pull() error {
	if err := x.name(); err != nil {
		return err
	}
	if err := x.allow(); err != nil {
		return err
	}
	switch x.Kind {
	case spec.Base:
		return x.send("application/json", []byte("{}"))
	case spec.Catalog:
		return x.catalog()
	case spec.Tags:
		return x.tags()
	case spec.Manifests:
		return x.manifest()
	}
	d, err := x.Digest()
	switch {
	case err != nil:
		return err
	case x.Kind == spec.Referrers:
		return x.referrers(d)
	}
	return x.blob(d)
}

// name finds the local repository that the client means.
func (x *exchange) name() error {
	if x.o.Names == nil || x.Repo == "" {
		return nil
	}
	repo, ok := x.o.Names(param(x.r, "ns"), x.Repo)
	if !ok {
		return x.unknownName()
	}
	x.repo = repo
	return nil
}

// fail answers with an error, or breaks off: an answer that has begun, and one
// that the client no longer waits for. Who only sends no more, and still reads,
// would take no answer for an empty one.
func (x *exchange) fail(err error) {
	if x.begun || x.r.Context().Err() != nil {
		panic(http.ErrAbortHandler)
	}
	refusal := x.refusal(err)
	x.begin()
	refusal.Write(x.w)
}

// recover turns a panic into a 500, or, when the answer has begun, into a
// broken connection: a client must not take half for the whole.
func (x *exchange) recover() {
	p := recover()
	if p == nil {
		return
	}
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(http.ErrAbortHandler)
	}
	x.o.Log.Error("a request panicked", "method", x.r.Method, "path", x.r.URL.Path, "err", p, "stack", string(debug.Stack()))
	if x.begun {
		panic(http.ErrAbortHandler)
	}
	x.begin()
	(&spec.Refusal{Status: http.StatusInternalServerError, Code: spec.Unknown, Message: "internal error"}).Write(x.w)
}
