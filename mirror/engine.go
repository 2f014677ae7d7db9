package mirror

import (
	"context"
	"errors"
	"io"
	"iter"
	"log/slog"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Source is one upstream registry. *upstream.Registry implements it.
type Source interface {
	// Repositories lists the catalog. Upstreams without one answer errors.ErrUnsupported.
	Repositories(ctx context.Context) iter.Seq2[string, error]
	// Tags lists the valid tags of a repository, in pages behind the scenes.
	Tags(ctx context.Context, repo string) iter.Seq2[string, error]
	// Head resolves a tag or digest; fs.ErrNotExist.
	Head(ctx context.Context, repo, ref string) (ocispec.Descriptor, error)
	// Manifest reads a manifest of at most MaxManifest bytes, verified.
	Manifest(ctx context.Context, repo, ref string) (ocispec.Descriptor, []byte, error)
	// Blob opens content from an offset, or from earlier, and says from where.
	Blob(ctx context.Context, repo string, desc ocispec.Descriptor, offset int64) (io.ReadCloser, int64, error)
	// Referrers lists what refers to a digest; errors.ErrUnsupported without the API.
	Referrers(ctx context.Context, repo string, d digest.Digest) ([]ocispec.Descriptor, error)
	// Requests is how many requests were sent so far.
	Requests() int64
	// Budget is how many pulls the upstream lets us make, as far as it said.
	Budget() Budget
}

// Completer is a Destination that remembers which images were published whole.
type Completer interface {
	// Complete reports whether an image was published whole in repo, as far as
	// the record says. selected is shown every manifest, as the record has it, and
	// chooses the children of an index that the image is made of.
	Complete(ctx context.Context, repo string, root digest.Digest, selected func(Manifest) []Ref) (bool, error)
}

// Lister is a Source that lists the repositories of one namespace, the first
// element of their names; "" is all of them. More may come than are in it.
type Lister interface {
	RepositoriesIn(ctx context.Context, namespace string) iter.Seq2[string, error]
}

// Engine copies images from upstreams into the local registry. Its fields are
// set before use; Dest, Source and Now are required. It may be used from many
// goroutines.
type Engine struct {
	Dest     Destination
	Source   func(host string) (Source, error)
	Log      *slog.Logger // nil: nothing is logged
	Now      func() time.Time
	Progress Progress // nil: nobody watches
	Jobs     int      // images, and downloads, at once; 0: 16

	// Retired tells of a tag that is not here whether retention removed it
	// with this digest and would do so again: then it is not copied. nil: none is.
	Retired func(ctx context.Context, repo, tag string, d digest.Digest) (bool, error)

	// Held says why a tag that is here stays at what it is at, whatever the
	// upstream has; "": it does not. nil: none does.
	Held func(ctx context.Context, repo, tag string) (reason string, err error)
	// Kept says why a tag that is here with this digest is not removed though the
	// upstream has it no more; "": it is. nil: none is kept.
	Kept func(ctx context.Context, repo, tag string, d digest.Digest) (reason string, err error)

	// Memory is asked for what depends on time: ages, immutable tags, tags that
	// vanish. nil: there are no such things.
	Memory Memory
	// Released tells that a person let a tag through, though its digest is too
	// young or it should not move. nil: none is.
	Released func(repo, tag string) bool
	// AllowVanished lets one run retire however many tags vanished upstream.
	AllowVanished bool
	// Room is how many bytes the local registry can take. nil: any number.
	Room func(ctx context.Context) (int64, error)

	// Traffic is shared by the engines that fill one local registry, so that what
	// several of them want is fetched once. nil: the engine's own.
	Traffic *Traffic

	own Traffic
}

const (
	defaultJobs = 16
	// waitsPerImage bounds the blobs of one image that wait for others to bring
	// them, or for their turn.
	waitsPerImage = 64
	// readsPerImage is how many manifests of one image are read at once.
	readsPerImage = 8
	// referrersBeat is how often an unchanged image's referrers are asked for again.
	referrersBeat = 24 * time.Hour
)

func (e *Engine) traffic() *Traffic {
	if e.Traffic != nil {
		return e.Traffic
	}
	return &e.own
}

func (e *Engine) jobs() int {
	if e.Jobs > 0 {
		return e.Jobs
	}
	return defaultJobs
}

func (e *Engine) log() *slog.Logger {
	if e.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return e.Log
}

func (e *Engine) progress() Progress {
	if e.Progress == nil {
		return silent{}
	}
	return e.Progress
}

type silent struct{}

func (silent) Plan(int, int64)    {}
func (silent) Bytes(int64)        {}
func (silent) Done(string, error) {}

// meter counts the requests that sources get during one plan or apply.
type meter struct {
	open func(host string) (Source, error)

	mu      sync.Mutex
	sources map[string]Source
	before  map[string]int64
}

func newMeter(open func(string) (Source, error)) *meter {
	return &meter{open: open, sources: map[string]Source{}, before: map[string]int64{}}
}

func (m *meter) source(host string) (Source, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s, ok := m.sources[host]; ok {
		return s, nil
	}
	s, err := m.open(host)
	if err != nil {
		return nil, err
	}
	m.sources[host], m.before[host] = s, s.Requests()
	return s, nil
}

func (m *meter) requests() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	var n int64
	for host, s := range m.sources {
		n += s.Requests() - m.before[host]
	}
	return n
}

// interrupted reports whether an error is only the end of ctx.
func interrupted(ctx context.Context, err error) bool {
	return err != nil && ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded))
}
