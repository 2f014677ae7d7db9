package catalog

import (
	"context"
	"maps"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"lastro/mirror"
	"lastro/store/vault/layout"
)

// Walker reads the manifests of one repository, level by level, many at once.
type Walker struct {
	read   func(ctx context.Context, desc ocispec.Descriptor) (mirror.Manifest, error)
	kept   map[digest.Digest]bool // foreign layers that are there
	mu     sync.Mutex
	Loaded map[digest.Digest]Loaded // what Load has read
}

// Loaded is a manifest, or why there is none.
type Loaded struct {
	mirror.Manifest
	Err error
}

// NewWalker returns a walker for a snapshot that reads manifests by read, from
// many goroutines.
func NewWalker(s layout.Snapshot, read func(context.Context, ocispec.Descriptor) (mirror.Manifest, error)) *Walker {
	return &Walker{read: read, kept: setOf(s.Foreign), Loaded: map[digest.Digest]Loaded{}}
}

func setOf(ds []digest.Digest) map[digest.Digest]bool {
	set := make(map[digest.Digest]bool, len(ds))
	for _, d := range ds {
		set[d] = true
	}
	return set
}

// Load reads all manifests below some. Only an ended context is its error: what
// cannot be read shows in the trees.
func (w *Walker) Load(ctx context.Context, tops []ocispec.Descriptor, absent map[digest.Digest]bool) error {
	for level := tops; len(level) > 0; {
		if err := w.loadLevel(ctx, level, absent); err != nil {
			return err
		}
		var next []ocispec.Descriptor
		for _, desc := range level {
			for child := range w.Loaded[desc.Digest].Children() {
				if _, known := w.Loaded[child.Digest]; !known && !absent[child.Digest] {
					next = append(next, child.Descriptor)
				}
			}
		}
		level = next
	}
	return nil
}

func (w *Walker) loadLevel(ctx context.Context, level []ocispec.Descriptor, absent map[digest.Digest]bool) error {
	var g errgroup.Group
	g.SetLimit(AtOnce)
	for _, desc := range w.unknown(level) {
		g.Go(func() error {
			m, err := w.read(ctx, desc)
			w.mu.Lock()
			defer w.mu.Unlock()
			w.Loaded[desc.Digest] = Loaded{m, err}
			return ctx.Err()
		})
	}
	return g.Wait()
}

// unknown is what of a level is to be read, each once.
func (w *Walker) unknown(level []ocispec.Descriptor) (list []ocispec.Descriptor) {
	begun := map[digest.Digest]bool{}
	for _, desc := range level {
		if _, known := w.Loaded[desc.Digest]; !known && !begun[desc.Digest] {
			begun[desc.Digest] = true
			list = append(list, desc)
		}
	}
	return list
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

// Tree puts together what Load has read.
func (w *Walker) Tree(desc ocispec.Descriptor, absent map[digest.Digest]bool) Tree {
	var t Tree
	w.grow(&t, desc.Digest, absent, map[digest.Digest]bool{})
	return t
}

func (w *Walker) grow(t *Tree, d digest.Digest, absent, seen map[digest.Digest]bool) {
	if seen[d] || absent[d] {
		return
	}
	seen[d] = true
	m := w.Loaded[d]
	if m.Err != nil {
		t.Faults = append(t.Faults, Fault{d, m.Err})
		return
	}
	for _, r := range m.Refs {
		switch {
		case r.Role == mirror.RoleChild:
			w.grow(t, r.Digest, absent, seen)
		case seen[r.Digest] || r.Role == mirror.RoleForeign && !w.kept[r.Digest]:
		default:
			seen[r.Digest] = true
			t.Blobs = append(t.Blobs, r.Descriptor)
		}
	}
	t.Manifests = append(t.Manifests, m.Manifest)
}

// AbsentIn is what is left out of a repository on purpose.
func AbsentIn(images []ocispec.Descriptor) map[digest.Digest]bool {
	absent := map[digest.Digest]bool{}
	for _, desc := range images {
		maps.Copy(absent, setOf(layout.AbsentOf(desc)))
	}
	return absent
}
