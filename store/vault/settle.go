package vault

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/store/vault/catalog"
	"lastro/store/vault/layout"
)

var errDamagedThere = errors.New("damaged in the vault, and not here to repair it")

// settle makes the snapshot whole when some images are not: what the snapshot
// before has under the same tag stays, the rest is left out. All are reported.
func (b *backup) settle(ctx context.Context, repos []repository) ([]repository, error) {
	before, err := b.parentImages(ctx)
	if err != nil {
		return nil, err
	}
	b.all = map[digest.Digest]int64{}
	if p := b.parent; p != nil {
		maps.Copy(b.kept, catalog.Foreign(*p))
		for _, l := range p.Elsewhere {
			b.elsewhere[l.Digest] = l.Size
		}
	}
	var whole []repository
	for _, r := range repos {
		r, err := b.settleRepository(ctx, r, before[r.name])
		if err != nil {
			return nil, err
		}
		whole = append(whole, r)
	}
	return whole, nil
}

func (b *backup) settleRepository(ctx context.Context, r repository, before map[string]ocispec.Descriptor) (repository, error) {
	whole := repository{name: r.name}
	listed := map[string]bool{}
	for _, t := range r.tops {
		t, all, err := b.settleTop(ctx, r.name, t, before)
		if err != nil {
			return repository{}, err
		}
		if id := layout.TagOf(t.Descriptor) + "@" + t.Digest.String(); all != nil && !listed[id] {
			listed[id] = true
			whole.tops = append(whole.tops, t)
			maps.Copy(b.all, all)
		}
	}
	return whole, nil
}

// settleTop returns the image to list with all below it, nil for none.
func (b *backup) settleTop(ctx context.Context, repo string, t top, before map[string]ocispec.Descriptor) (top, map[digest.Digest]int64, error) {
	all, err := b.contents(ctx, []top{t})
	if err != nil {
		return top{}, nil, err
	}
	why := t.err
	for d := range all {
		switch {
		case b.bad(d):
			why = fmt.Errorf("blob %s: %w", d, errDamagedThere)
		case b.failed[d] != nil:
			why = b.failed[d]
		}
	}
	if why == nil {
		return t, all, nil
	}
	f := catalog.Failure{Repo: repo, Tag: layout.TagOf(t.Descriptor), Digest: t.Digest, Error: why.Error()}
	kept, all, err := b.keep(ctx, before, f.Tag)
	if err != nil {
		return top{}, nil, err
	}
	f.Kept = kept.Digest
	b.report.Failed = append(b.report.Failed, f)
	return top{Descriptor: kept, refers: t.refers}, all, nil
}

// keep finds what the snapshot before has under a tag, if that is whole.
func (b *backup) keep(ctx context.Context, before map[string]ocispec.Descriptor, tag string) (ocispec.Descriptor, map[digest.Digest]int64, error) {
	desc, ok := before[tag]
	if !ok || tag == "" {
		return ocispec.Descriptor{}, nil, nil
	}
	all, err := b.saved(ctx, []ocispec.Descriptor{desc})
	if _, bad := unreadable(err); bad {
		return ocispec.Descriptor{}, nil, nil
	}
	for d := range all {
		if b.bad(d) {
			return ocispec.Descriptor{}, nil, nil
		}
	}
	return desc, all, err
}

// parentImages is what the snapshot before has, by repository and tag.
func (b *backup) parentImages(ctx context.Context) (map[string]map[string]ocispec.Descriptor, error) {
	images := map[string]map[string]ocispec.Descriptor{}
	if b.parent == nil {
		return images, nil
	}
	root, err := b.Index(ctx, b.parent.Root)
	for _, r := range root.Manifests {
		var idx ocispec.Index
		if idx, err = b.Index(ctx, r); err != nil {
			break
		}
		tags := map[string]ocispec.Descriptor{}
		for _, desc := range idx.Manifests {
			tags[layout.TagOf(desc)] = desc
		}
		images[r.Annotations[layout.AnnotationRepository]] = tags
	}
	if kind, bad := unreadable(err); bad {
		b.Log.Warn("what the snapshot before has in place of images that are not whole here cannot be read: they are left out", "kind", kind, "err", err)
		return images, nil
	}
	return images, err
}
