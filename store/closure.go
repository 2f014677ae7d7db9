package store

import (
	"context"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
)

// Content is one digest of a closure.
type Content struct {
	ocispec.Descriptor
	Manifest bool
}

// Closure lists all that is reachable from a manifest of a repository, its
// referrers there included: children before parents, referrers after their
// subjects. What is expected to be absent, and foreign layers that are not
// kept, are left out; anything else that is missing is an error that names it.
func (s *Store) Closure(ctx context.Context, repo string, root digest.Digest) ([]Content, error) {
	c := &closure{store: s, repo: repo, manifests: map[digest.Digest]bool{}, blobs: map[digest.Digest]bool{}}
	if err := c.manifest(ctx, root); err != nil {
		return nil, fmt.Errorf("closure of %s@%s: %w", repo, root, err)
	}
	return c.found, nil
}

type closure struct {
	store     *Store
	repo      string
	manifests map[digest.Digest]bool // seen
	blobs     map[digest.Digest]bool
	found     []Content
}

func (c *closure) manifest(ctx context.Context, d digest.Digest) error {
	if c.manifests[d] {
		return nil
	}
	c.manifests[d] = true
	desc, raw, err := c.store.Manifest(ctx, c.repo, d)
	if err != nil {
		return fmt.Errorf("manifest %s: %w", d, err)
	}
	m, err := mirror.ParseManifest(desc, raw)
	if err != nil {
		return err
	}
	for _, r := range m.Refs {
		if err := c.reference(ctx, r); err != nil {
			return err
		}
	}
	c.found = append(c.found, Content{desc, true})
	return c.referrers(ctx, d)
}

func (c *closure) reference(ctx context.Context, r mirror.Ref) error {
	if r.Role == mirror.RoleChild {
		return c.child(ctx, r)
	}
	if c.blobs[r.Digest] {
		return nil
	}
	linked, err := c.store.isLinked(c.repo, r.Descriptor, false)
	switch {
	case err != nil:
		return fmt.Errorf("%s %s: %w", r.Role, r.Digest, err)
	case !linked && r.Role == mirror.RoleForeign:
		return nil
	case !linked:
		return fmt.Errorf("%s %s is missing, or has not the %d bytes that it should", r.Role, r.Digest, r.Size)
	}
	c.blobs[r.Digest] = true
	c.found = append(c.found, Content{r.Descriptor, false})
	return nil
}

func (c *closure) child(ctx context.Context, r mirror.Ref) error {
	if absent, err := c.store.Absent(ctx, c.repo, r.Digest); err != nil || absent {
		return err
	}
	return c.manifest(ctx, r.Digest)
}

func (c *closure) referrers(ctx context.Context, subject digest.Digest) error {
	list, err := c.store.Referrers(ctx, c.repo, subject)
	if err != nil {
		return err
	}
	for _, r := range list {
		if err := c.manifest(ctx, r.Digest); err != nil {
			return fmt.Errorf("referrer: %w", err)
		}
	}
	return nil
}
