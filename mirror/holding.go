package mirror

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxDepth is how many indexes may lie inside each other.
const maxDepth = 16

// holding looks what of an image a local repository holds.
type holding struct {
	dest Destination
	rule *rule
	repo string

	manifests []digest.Digest // seen
	seen      map[digest.Digest]bool
}

// whole reports whether everything that the rule selects of an image is here.
// It reads manifests and asks for the rest, so that a store that lost content
// heals at the next sync.
func (h *holding) whole(ctx context.Context, root digest.Digest) (bool, error) {
	h.seen = map[digest.Digest]bool{}
	return h.manifest(ctx, root, 0)
}

// complete is whole for every day: it believes the record of what was published,
// and asks only whether the content is still there.
func (h *holding) complete(ctx context.Context, quick Completer, root digest.Digest) (bool, error) {
	var wanted []ocispec.Descriptor
	complete, err := quick.Complete(ctx, h.repo, root, func(m Manifest) []Ref {
		h.manifests = append(h.manifests, m.Descriptor.Digest)
		wanted = append(wanted, m.Descriptor)
		for r := range h.rule.kept(m) {
			wanted = append(wanted, r.Descriptor)
		}
		selected, _ := split(m, h.rule.platforms)
		return selected
	})
	if err != nil || !complete {
		return false, err
	}
	for _, desc := range wanted {
		if has, err := h.dest.Has(ctx, desc); err != nil || !has {
			return false, err
		}
	}
	return true, nil
}

func (h *holding) manifest(ctx context.Context, d digest.Digest, depth int) (bool, error) {
	if h.seen[d] {
		return true, nil
	}
	if depth > maxDepth {
		return false, fmt.Errorf("%s: indexes inside each other more than %d deep", d, maxDepth)
	}
	h.seen[d] = true
	h.manifests = append(h.manifests, d)
	desc, raw, err := h.dest.Manifest(ctx, h.repo, d)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	m, err := ParseManifest(desc, raw)
	if err != nil {
		return false, err
	}
	return h.references(ctx, m, depth)
}

func (h *holding) references(ctx context.Context, m Manifest, depth int) (bool, error) {
	for r := range h.rule.kept(m) {
		if ok, err := h.dest.Linked(ctx, h.repo, r.Descriptor, false); err != nil || !ok {
			return false, err
		}
	}
	selected, _ := split(m, h.rule.platforms)
	for _, c := range selected {
		if ok, err := h.manifest(ctx, c.Digest, depth+1); err != nil || !ok {
			return false, err
		}
	}
	return true, nil
}
