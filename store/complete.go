package store

import (
	"context"
	"errors"
	"io/fs"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	"lastro/store/layout"
)

var _ mirror.Completer = (*Store)(nil)

// Complete reports whether an image was published whole: the ledger knows its
// manifests, repo serves each of them, which it does only from when all that
// they refer to was there, and the content of the root has its length. Of an
// index, selected chooses the children that the image is made of; nil are all.
// The manifest that it is shown is as the ledger knows it: descriptor and
// references.
//
// It reads no content and looks at no blob, so it does not know of content that
// was damaged or lost since, nor of a foreign layer that was not kept and is
// wanted now, nor of referrers. [Store.Closure] does.
func (s *Store) Complete(ctx context.Context, repo string, root digest.Digest, selected func(mirror.Manifest) []mirror.Ref) (bool, error) {
	if err := errors.Join(layout.CheckRepository(repo), layout.CheckDigest(root)); err != nil {
		return false, err
	}
	node, err := s.ledger.Manifest(ctx, root)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	desc := ocispec.Descriptor{MediaType: node.MediaType, Digest: root, Size: node.Size}
	if has, err := s.Has(ctx, desc); err != nil || !has {
		return false, err
	}
	c := completeness{s, repo, selected, map[digest.Digest]bool{}}
	return c.manifest(ctx, desc)
}

type completeness struct {
	*Store
	repo     string
	selected func(mirror.Manifest) []mirror.Ref
	seen     map[digest.Digest]bool
}

func (c *completeness) manifest(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	if c.seen[desc.Digest] {
		return true, nil
	}
	c.seen[desc.Digest] = true
	c.sentences.tell(c.repo, desc.Digest, c.now)
	if err := c.revision(c.repo, desc.Digest); err != nil {
		return false, ignoreGone(err)
	}
	linked, err := c.ledger.Linked(ctx, c.repo, desc.Digest)
	if err != nil || !linked {
		return false, err
	}
	return c.children(ctx, desc)
}

func (c *completeness) children(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	refs, err := c.ledger.Children(ctx, desc.Digest)
	if err != nil {
		return false, ignoreGone(err)
	}
	for _, child := range c.choose(mirror.Manifest{Descriptor: desc, Refs: refs}) {
		if whole, err := c.manifest(ctx, child.Descriptor); err != nil || !whole {
			return false, err
		}
	}
	return true, nil
}

func (c *completeness) choose(m mirror.Manifest) (chosen []mirror.Ref) {
	if c.selected != nil {
		return c.selected(m)
	}
	for child := range m.Children() {
		chosen = append(chosen, child)
	}
	return chosen
}
