package pull

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	disk "lastro/store/layout"
	"lastro/store/vault/catalog"
	"lastro/store/vault/layout"
)

// Store is the local registry as a cache. *store.Store implements it.
type Store interface {
	mirror.Destination
	mirror.Follower
	// ServesManifest says whether repo serves a manifest; fs.ErrNotExist.
	ServesManifest(repo string, d digest.Digest) error
}

// Options say what is answered.
type Options struct {
	Snapshot string    // "" or "latest", an id, or the start of one
	AsOf     time.Time // not zero: the newest snapshot that is not after this
	// Local lets what the store itself serves count first, and be listed too:
	// the store is being filled. Without it only the snapshot counts.
	Local bool
}

const (
	// atOnce is how many objects are fetched at the same time.
	atOnce = 64
	// maxKnown is how many digests are remembered, of all repositories.
	maxKnown = 1 << 20
)

// Snapshot answers requests. It may be used from many goroutines.
type Snapshot struct {
	catalog *catalog.Catalog
	store   Store
	o       Options
	log     *slog.Logger

	Record layout.Snapshot // what the vault says of it
	Root   ocispec.Index   // over all repositories

	indexes map[string]ocispec.Descriptor // of repositories
	names   []string                      // of them, in order
	foreign map[digest.Digest]bool

	ctx    context.Context // of all that is fetched; ends with Close
	cancel context.CancelFunc
	work   sync.WaitGroup
	places chan struct{}

	mu     sync.Mutex
	closed bool
	tasks  map[string]*task
	repos  map[string]*repository // whose indexes were read
	known  int                    // of what repos know
	pulls  map[Name]int
	asked  chan struct{} // closed when something is asked for
}

// Name is a tag with its repository.
type Name struct{ Repo, Tag string }

// Open finds a snapshot. A vault or snapshot that is not there is fs.ErrNotExist.
func Open(ctx context.Context, c *catalog.Catalog, st Store, o Options) (*Snapshot, error) {
	record, err := c.Find(ctx, o.Snapshot, o.AsOf)
	if err != nil {
		return nil, fmt.Errorf("serve from vault %s: %w", c.Name, err)
	}
	root, err := c.Index(ctx, record.Root)
	if err != nil {
		return nil, fmt.Errorf("serve from vault %s: snapshot %s: %w", c.Name, record.ID, err)
	}
	s := &Snapshot{
		catalog: c, store: st, o: o, log: c.Log.With("vault", c.Name), Record: record, Root: root,
		indexes: map[string]ocispec.Descriptor{}, foreign: catalog.Foreign(record), places: make(chan struct{}, atOnce),
		tasks: map[string]*task{}, repos: map[string]*repository{}, pulls: map[Name]int{}, asked: make(chan struct{}),
	}
	for _, desc := range root.Manifests {
		if repo := desc.Annotations[layout.AnnotationRepository]; disk.CheckRepository(repo) == nil {
			s.indexes[repo] = desc
		}
	}
	s.names = slices.Sorted(maps.Keys(s.indexes))
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return s, nil
}

// Close ends what is fetched and waits for it. What has come is continued by
// whoever asks for it next.
func (s *Snapshot) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.work.Wait()
}

// Has reports whether the snapshot has a repository.
func (s *Snapshot) Has(repo string) bool {
	_, ok := s.indexes[repo]
	return ok
}

// repository is what the snapshot has of a repository; fs.ErrNotExist.
func (s *Snapshot) repository(ctx context.Context, repo string) (*repository, error) {
	desc, ok := s.indexes[repo]
	if !ok {
		return nil, fs.ErrNotExist
	}
	s.mu.Lock()
	r := s.repos[repo]
	s.mu.Unlock()
	if r != nil {
		return r, nil
	}
	t, err := s.share("index "+repo, func(ctx context.Context, _ func()) (any, error) {
		idx, err := s.catalog.Index(ctx, desc)
		if err != nil {
			return nil, err
		}
		r := newRepository(repo, idx.Manifests)
		s.mu.Lock()
		s.repos[repo] = r
		s.mu.Unlock()
		s.grew(len(idx.Manifests))
		return r, nil
	})
	if err == nil {
		err = t.wait(ctx)
	}
	if err != nil {
		return nil, s.refused(ctx, repo, desc.Digest, err)
	}
	return t.result.(*repository), nil
}

// grew forgets what is known of all repositories when it is too much.
func (s *Snapshot) grew(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known += n; s.known > maxKnown && len(s.repos) > 1 {
		clear(s.repos)
		s.known = 0
	}
}
