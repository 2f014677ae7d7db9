package prune

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	"lastro/store/vault/catalog"
	"lastro/store/vault/layout"
)

// ErrUnread says that something that a snapshot needs cannot be read: then nobody
// knows what lies below it.
var ErrUnread = errors.New("nothing is removed from a vault that cannot be read whole: run `lastro backup`, which repairs what it can, or forget the snapshots that need it")

// live is all that the snapshots walked so far lead to. It only grows, and it has too
// much rather than too little: whatever a manifest names is needed.
type live struct {
	*catalog.Catalog
	near   mirror.Destination // a store that may have the same manifests; may be nil
	set    map[key]struct{}
	walked map[digest.Digest]bool // records, and indexes of ours
}

// key is the beginning of a hash. Two of the same beginning are both needed.
type key [32]byte

func keyOf(d digest.Digest) (k key) {
	raw, _ := hex.DecodeString(d.Encoded()) // of a valid digest
	copy(k[:], raw)
	return k
}

func newLive(c *catalog.Catalog, near mirror.Destination) *live {
	return &live{c, near, map[key]struct{}{}, map[digest.Digest]bool{}}
}

func (l *live) add(d digest.Digest) { l.set[keyOf(l.NameOf(d))] = struct{}{} }

// has tells whether they lead to what has a name in the vault.
func (l *live) has(name digest.Digest) bool {
	_, ok := l.set[keyOf(name)]
	return ok
}

// reach adds what all snapshots of a head need; ErrUnread.
func (l *live) reach(ctx context.Context, h layout.Head) error {
	repos := map[string][]ocispec.Descriptor{}
	for _, e := range h.Snapshots {
		if err := l.snapshot(ctx, e, repos); err != nil {
			return fmt.Errorf("snapshot %s: %w", e.ID, unread(ctx, err))
		}
	}
	for _, repo := range slices.Sorted(maps.Keys(repos)) {
		if err := l.repository(ctx, repos[repo]); err != nil {
			return fmt.Errorf("repository %s: %w", repo, unread(ctx, err))
		}
	}
	return nil
}

func unread(ctx context.Context, err error) error {
	if _, damaged := catalog.Damage(err); damaged && ctx.Err() == nil {
		return fmt.Errorf("%w: %w", err, ErrUnread)
	}
	return err
}

func (l *live) snapshot(ctx context.Context, e layout.Entry, repos map[string][]ocispec.Descriptor) error {
	if l.walked[e.Digest] {
		return nil
	}
	s, err := l.Record(ctx, e)
	if err != nil {
		return err
	}
	for _, d := range s.Beside() {
		l.add(d)
	}
	l.add(s.Root.Digest)
	if !l.walked[s.Root.Digest] {
		root, err := l.Index(ctx, s.Root)
		if err != nil {
			return err
		}
		for _, desc := range root.Manifests {
			repo := desc.Annotations[layout.AnnotationRepository]
			repos[repo] = append(repos[repo], desc)
		}
		l.walked[s.Root.Digest] = true
	}
	l.walked[e.Digest] = true
	return nil
}

// repository adds all below the indexes of one repository, reading each manifest once.
func (l *live) repository(ctx context.Context, indexes []ocispec.Descriptor) error {
	w := l.Walker(func(ctx context.Context, desc ocispec.Descriptor) (mirror.Manifest, error) {
		if l.near != nil {
			return l.ManifestNear(ctx, l.near, desc)
		}
		m, _, err := l.Manifest(ctx, desc)
		return m, err
	})
	for _, desc := range indexes {
		l.add(desc.Digest)
		if l.walked[desc.Digest] {
			continue
		}
		if err := l.images(ctx, w, desc); err != nil {
			return err
		}
		l.walked[desc.Digest] = true
	}
	for d, m := range w.Loaded {
		l.add(d)
		for _, r := range m.Refs {
			l.add(r.Digest)
		}
	}
	return nil
}

func (l *live) images(ctx context.Context, w *catalog.Walker, desc ocispec.Descriptor) error {
	idx, err := l.Index(ctx, desc)
	if err != nil {
		return err
	}
	if err := w.Load(ctx, idx.Manifests); err != nil {
		return err
	}
	for _, image := range idx.Manifests {
		if t := w.Tree(image, nil); len(t.Faults) > 0 {
			return t.Faults[0].Err
		}
	}
	return nil
}
