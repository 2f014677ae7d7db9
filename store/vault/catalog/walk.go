package catalog

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"lastro/mirror"
	"lastro/store/vault/layout"
)

// What is read of one repository is bounded, whatever the bucket holds. A sync
// copies nothing deeper, and a backup saves nothing deeper.
const (
	MaxDepth     = 16      // indexes inside each other
	maxManifests = 4 << 30 // bytes of all manifests
	maxRefs      = 1 << 25 // references, counted for each image that has them
)

// errBeyond marks what cannot come from a backup.
var errBeyond = fmt.Errorf("%w beyond what any backup writes: restore an older snapshot or from another vault, and see who can write to this one", layout.ErrDamaged)

// Walker reads the manifests of one repository, level by level, many at once.
type Walker struct {
	vault  string
	read   func(ctx context.Context, desc ocispec.Descriptor) (mirror.Manifest, error)
	bytes  atomic.Int64 // of manifests that may still be read
	refs   int          // that may still be followed
	limit  int          // of refs for one Load and the trees after it
	mu     sync.Mutex
	Loaded map[digest.Digest]Loaded // what Load has read
}

// Loaded is a manifest, or why there is none.
type Loaded struct {
	mirror.Manifest
	Err error
}

// Walker returns a walker that reads manifests by read, from many goroutines.
func (v *Catalog) Walker(read func(context.Context, ocispec.Descriptor) (mirror.Manifest, error)) *Walker {
	w := &Walker{vault: v.Bucket.String(), read: read, limit: maxRefs, Loaded: map[digest.Digest]Loaded{}}
	w.bytes.Store(maxManifests)
	return w
}

// visit is a manifest below images that leave out the same.
type visit struct {
	digest digest.Digest
	absent string
}

// Load reads all manifests below the images of an index, but for what each of them
// leaves out. Only an ended context is its error: what cannot be read shows in the
// trees. What an earlier Load has read is not read again.
func (w *Walker) Load(ctx context.Context, images []ocispec.Descriptor) error {
	w.refs = w.limit
	l := loading{w, map[visit]bool{}, nil}
	for _, desc := range images {
		l.add(desc, desc.Annotations[layout.AnnotationAbsent])
	}
	for depth := 0; depth <= MaxDepth && len(l.next) > 0; depth++ {
		level := l.next
		l.next = nil
		if err := w.loadLevel(ctx, level); err != nil {
			return err
		}
		for _, at := range level {
			l.below(at.desc.Digest, at.absent)
		}
	}
	return nil
}

// loading is one run of Load.
type loading struct {
	*Walker
	seen map[visit]bool
	next []toLoad
}

type toLoad struct {
	desc   ocispec.Descriptor
	absent string
}

func (l *loading) add(desc ocispec.Descriptor, absent string) {
	if v := (visit{desc.Digest, absent}); !l.seen[v] {
		l.seen[v] = true
		l.next = append(l.next, toLoad{desc, absent})
	}
}

func (l *loading) below(d digest.Digest, absent string) {
	leftOut := setOf(layout.ParseAbsent(absent))
	for child := range l.Loaded[d].Children() {
		if l.refs--; l.refs < 0 {
			return
		}
		if !leftOut[child.Digest] {
			l.add(child.Descriptor, absent)
		}
	}
}

func (w *Walker) loadLevel(ctx context.Context, level []toLoad) error {
	var g errgroup.Group
	g.SetLimit(AtOnce)
	for _, desc := range w.unknown(level) {
		g.Go(func() error {
			m, err := w.load(ctx, desc)
			w.mu.Lock()
			defer w.mu.Unlock()
			w.Loaded[desc.Digest] = Loaded{m, err}
			return ctx.Err()
		})
	}
	return g.Wait()
}

// unknown is what of a level is to be read, each once.
func (w *Walker) unknown(level []toLoad) (list []ocispec.Descriptor) {
	begun := map[digest.Digest]bool{}
	for _, at := range level {
		if _, known := w.Loaded[at.desc.Digest]; !known && !begun[at.desc.Digest] {
			begun[at.desc.Digest] = true
			list = append(list, at.desc)
		}
	}
	return list
}

func (w *Walker) load(ctx context.Context, desc ocispec.Descriptor) (mirror.Manifest, error) {
	if w.bytes.Add(-min(desc.Size, mirror.MaxManifest)) < 0 {
		return mirror.Manifest{}, w.beyond(desc.Digest, "the manifests of its repository have more than %d GiB", maxManifests>>30)
	}
	return w.read(ctx, desc)
}

func (w *Walker) beyond(d digest.Digest, format string, args ...any) error {
	return fmt.Errorf("vault %s: manifest %s: %s: %w", w.vault, d, fmt.Sprintf(format, args...), errBeyond)
}

func setOf(ds []digest.Digest) map[digest.Digest]bool {
	set := make(map[digest.Digest]bool, len(ds))
	for _, d := range ds {
		set[d] = true
	}
	return set
}

// Fault is something in a vault that is not as it has to be.
type Fault struct {
	Digest digest.Digest
	Err    error
}

// Tree is all below an image, without its referrers.
type Tree struct {
	Manifests []mirror.Manifest // children before parents
	Blobs     []ocispec.Descriptor
	Faults    []Fault
}

// Foreign are the layers with a home elsewhere that a snapshot keeps.
func Foreign(s layout.Snapshot) map[digest.Digest]bool { return setOf(s.Foreign) }

// Tree puts together what Load has read below one of its images, in a snapshot
// that keeps some foreign layers.
func (w *Walker) Tree(image ocispec.Descriptor, foreign map[digest.Digest]bool) Tree {
	t := tree{Walker: w, foreign: foreign, seen: setOf(layout.AbsentOf(image))}
	delete(t.seen, image.Digest)
	t.grow(image.Digest, 0)
	return t.Tree
}

// tree is a Tree that grows.
type tree struct {
	*Walker
	Tree
	foreign map[digest.Digest]bool
	seen    map[digest.Digest]bool // and what is left out
}

func (t *tree) grow(d digest.Digest, depth int) {
	if t.seen[d] {
		return
	}
	t.seen[d] = true
	m, loaded := t.Loaded[d]
	switch {
	case depth > MaxDepth:
		m.Err = t.beyond(d, "indexes inside each other more than %d deep", MaxDepth)
	case !loaded:
		m.Err = t.tooMany(d)
	}
	if m.Err != nil {
		t.Faults = append(t.Faults, Fault{d, m.Err})
		return
	}
	for _, r := range m.Refs {
		if t.refs--; t.refs < 0 {
			t.Faults = append(t.Faults, Fault{d, t.tooMany(d)})
			return
		}
		t.refer(r, depth)
	}
	t.Manifests = append(t.Manifests, m.Manifest)
}

func (t *tree) refer(r mirror.Ref, depth int) {
	switch {
	case r.Role == mirror.RoleChild:
		t.grow(r.Digest, depth+1)
	case t.seen[r.Digest] || r.Role == mirror.RoleForeign && !t.foreign[r.Digest]:
	default:
		t.seen[r.Digest] = true
		t.Blobs = append(t.Blobs, r.Descriptor)
	}
}

func (w *Walker) tooMany(d digest.Digest) error {
	return w.beyond(d, "the images of its repository have more than %d references", w.limit)
}
