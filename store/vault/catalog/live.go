package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	"lastro/store/vault/layout"
)

// Live is every content that snapshots need, with its size: roots, indexes, history,
// manifests, blobs. Where something cannot be read, the error says so, and all that
// could be reached is there nevertheless; if it is no Damage, the vault cannot be read.
// manifest reads one; v.Manifest reads it from the vault.
func (v *Catalog) Live(ctx context.Context, entries []layout.Entry, manifest func(context.Context, ocispec.Descriptor) (mirror.Manifest, error)) (map[digest.Digest]int64, error) {
	l := &live{Catalog: v, manifest: manifest, all: map[digest.Digest]int64{}, repos: map[string][]version{}}
	for _, e := range entries {
		if err := l.snapshot(ctx, e); err != nil {
			return nil, err
		}
	}
	for _, versions := range l.repos {
		if err := l.repository(ctx, versions); err != nil {
			return nil, err
		}
	}
	return l.all, errors.Join(l.damage...)
}

type live struct {
	*Catalog
	manifest func(context.Context, ocispec.Descriptor) (mirror.Manifest, error)
	all      map[digest.Digest]int64
	repos    map[string][]version
	damage   []error
}

// version is a repository as one or more snapshots have it.
type version struct {
	in    layout.Entry // one of them
	of    layout.Snapshot
	index ocispec.Descriptor
}

// found takes down damage; other errors it returns.
func (l *live) found(e layout.Entry, err error) error {
	if _, bad := Damage(err); bad {
		l.damage = append(l.damage, fmt.Errorf("snapshot %s: %w", e.ID, err))
		return nil
	}
	return err
}

func (l *live) snapshot(ctx context.Context, e layout.Entry) error {
	s, err := l.Record(ctx, e)
	if err != nil {
		return l.found(e, err)
	}
	for _, g := range s.History.Segments {
		l.all[g.Digest] = g.Size
	}
	for _, beside := range []*layout.Layer{s.State, s.Config} {
		if beside != nil {
			l.all[beside.Digest] = beside.Size
		}
	}
	l.all[s.Root.Digest] = s.Root.Size
	root, err := l.Index(ctx, s.Root)
	if err != nil {
		return l.found(e, err)
	}
	for _, desc := range root.Manifests {
		l.note(version{e, s, desc})
	}
	return nil
}

// note takes a version down once for all snapshots that have it so.
func (l *live) note(v version) {
	l.all[v.index.Digest] = v.index.Size
	repo := v.index.Annotations[layout.AnnotationRepository]
	for _, known := range l.repos[repo] {
		if known.index.Digest == v.index.Digest && slices.Equal(known.of.Foreign, v.of.Foreign) {
			return
		}
	}
	l.repos[repo] = append(l.repos[repo], v)
}

// repository reads what its versions have in common once.
func (l *live) repository(ctx context.Context, versions []version) error {
	w := l.Walker(l.manifest)
	for _, v := range versions {
		idx, err := l.Index(ctx, v.index)
		if err != nil {
			if err = l.found(v.in, err); err != nil {
				return err
			}
			continue
		}
		if err := w.Load(ctx, idx.Manifests); err != nil {
			return err
		}
		foreign := Foreign(v.of)
		for _, image := range idx.Manifests {
			if err := l.tree(v.in, w.Tree(image, foreign)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *live) tree(e layout.Entry, t Tree) error {
	for _, m := range t.Manifests {
		l.all[m.Descriptor.Digest] = m.Descriptor.Size
	}
	for _, blob := range t.Blobs {
		l.all[blob.Digest] = blob.Size
	}
	for _, f := range t.Faults {
		if err := l.found(e, f.Err); err != nil {
			return err
		}
	}
	return nil
}
