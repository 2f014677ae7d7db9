package vault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	"lastro/store/ledger"
	"lastro/store/vault/catalog"
	"lastro/store/vault/layout"
)

// top is an image of a repository: a tag, or a digest that has none and that no
// other manifest there contains.
type top struct {
	ocispec.Descriptor
	refers bool  // it names a subject
	err    error // why it cannot be backed up as it is
}

// repository is what the store holds of one.
type repository struct {
	name string
	tops []top
}

// listed is what the snapshot lists.
func listed(repos []repository) []layout.Repository {
	list := make([]layout.Repository, len(repos))
	for i, r := range repos {
		list[i].Name = r.name
		for _, t := range r.tops {
			list[i].Images = append(list[i].Images, t.Descriptor)
		}
	}
	return list
}

// freeze takes down what the store holds at this moment: first all tags, then what
// lies around them. Content does not change, so writers need not wait; what
// they publish meanwhile comes without its tag, or with the next backup.
func (v *Vault) freeze(ctx context.Context, l *ledger.Ledger) ([]repository, error) {
	tags := map[string][]ledger.TagState{}
	for t, err := range l.Tags(ctx, "") {
		if err != nil {
			return nil, err
		}
		if v.includes(t.Repo) {
			tags[t.Repo] = append(tags[t.Repo], t)
		}
	}
	var repos []repository
	for name, err := range l.Repositories(ctx) {
		if err != nil {
			return nil, err
		}
		if !v.includes(name) {
			continue
		}
		tops, err := freezeRepository(ctx, l, name, tags[name])
		if err != nil {
			return nil, err
		}
		repos = append(repos, repository{name, tops})
	}
	return repos, nil
}

func (v *Vault) includes(repo string) bool {
	for _, p := range v.include {
		if p.Match(repo) {
			return true
		}
	}
	return false
}

// holding is what the ledger knows of the manifests of one repository.
type holding struct {
	l        *ledger.Ledger
	repo     string
	nodes    map[digest.Digest]ledger.Node
	children map[digest.Digest][]digest.Digest
	absent   map[digest.Digest]bool
}

func freezeRepository(ctx context.Context, l *ledger.Ledger, repo string, tags []ledger.TagState) ([]top, error) {
	h := &holding{l, repo, map[digest.Digest]ledger.Node{}, map[digest.Digest][]digest.Digest{}, map[digest.Digest]bool{}}
	if err := h.read(ctx); err != nil {
		return nil, err
	}
	inside := map[digest.Digest]bool{}
	for _, list := range h.children {
		for _, child := range list {
			inside[child] = true
		}
	}
	var tops []top
	for _, t := range tags {
		tops = append(tops, h.top(t.Digest, t.Tag))
		inside[t.Digest] = true
	}
	for d := range h.nodes {
		if !inside[d] {
			tops = append(tops, h.top(d, ""))
		}
	}
	slices.SortFunc(tops, func(a, b top) int { return layout.Compare(a.Descriptor, b.Descriptor) })
	return tops, nil
}

func (h *holding) read(ctx context.Context) error {
	for d, err := range h.l.Links(ctx, h.repo) {
		if err != nil {
			return err
		}
		n, err := h.l.Manifest(ctx, d)
		if err != nil {
			return err
		}
		h.nodes[d] = n
		if !hasNoChildren(n.MediaType) {
			if err := h.readChildren(ctx, d); err != nil {
				return err
			}
		}
	}
	return nil
}

func (h *holding) readChildren(ctx context.Context, d digest.Digest) error {
	refs, err := h.l.Children(ctx, d)
	if err != nil {
		return err
	}
	for _, r := range refs {
		if r.Role != mirror.RoleChild {
			continue
		}
		if h.absent[r.Digest], err = h.l.Absent(ctx, h.repo, r.Digest); err != nil {
			return err
		}
		h.children[d] = append(h.children[d], r.Digest)
	}
	return nil
}

// hasNoChildren saves reading the references of what are surely not indexes.
func hasNoChildren(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageManifest || mediaType == "application/vnd.docker.distribution.manifest.v2+json"
}

var errNotHeld = errors.New("the local repository does not hold it: sync the image again, or run `lastro rebuild`")

// top describes an image, with what is wrong with it.
func (h *holding) top(d digest.Digest, tag string) top {
	absent := map[digest.Digest]bool{}
	err := h.below(d, absent, map[digest.Digest]bool{}, 0)
	list := make([]digest.Digest, 0, len(absent))
	for a := range absent {
		list = append(list, a)
	}
	n := h.nodes[d]
	desc := ocispec.Descriptor{MediaType: n.MediaType, ArtifactType: n.ArtifactType, Digest: d, Size: n.Size}
	return top{Descriptor: layout.NewImage(desc, tag, list), refers: n.Subject != "", err: err}
}

// below collects what is left out on purpose. What is missing is its error, or what
// lies deeper than a restore would follow.
func (h *holding) below(d digest.Digest, absent, seen map[digest.Digest]bool, depth int) (err error) {
	if seen[d] {
		return nil
	}
	seen[d] = true
	if _, ok := h.nodes[d]; !ok {
		if h.absent[d] {
			absent[d] = true
			return nil
		}
		return fmt.Errorf("manifest %s: %w: %w", d, errNotHeld, fs.ErrNotExist)
	}
	if depth > catalog.MaxDepth {
		return fmt.Errorf("manifest %s: indexes inside each other more than %d deep", d, catalog.MaxDepth)
	}
	for _, child := range h.children[d] {
		if e := h.below(child, absent, seen, depth+1); e != nil {
			err = e
		}
	}
	return err
}

// contents is all that lies below the sound images of one repository, with sizes,
// as the ledger knows it.
func (b *backup) contents(ctx context.Context, tops []top) (map[digest.Digest]int64, error) {
	all := map[digest.Digest]int64{}
	for _, t := range tops {
		if t.err != nil {
			continue
		}
		if err := b.reach(ctx, t.Descriptor, setOf(layout.AbsentOf(t.Descriptor)), all); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// reach adds what lies below desc. What is absent is so in the whole repository:
// into must not be shared between repositories.
func (b *backup) reach(ctx context.Context, desc ocispec.Descriptor, absent map[digest.Digest]bool, into map[digest.Digest]int64) error {
	if _, ok := into[desc.Digest]; ok || absent[desc.Digest] {
		return nil
	}
	into[desc.Digest] = desc.Size
	b.manifests[desc.Digest] = true
	refs, err := b.st.Ledger().Children(ctx, desc.Digest)
	for _, r := range refs {
		switch {
		case r.Role == mirror.RoleChild:
			err = b.reach(ctx, r.Descriptor, absent, into)
		case r.Role != mirror.RoleForeign:
			into[r.Digest] = r.Size
		default:
			err = b.foreign(ctx, r.Descriptor, into)
		}
		if err != nil {
			return err
		}
	}
	return err
}

// foreign adds a layer that has a home elsewhere, if it is kept here as well.
func (b *backup) foreign(ctx context.Context, desc ocispec.Descriptor, into map[digest.Digest]int64) error {
	kept, err := b.st.Has(ctx, desc)
	if err != nil {
		return err
	}
	if !kept {
		b.elsewhere[desc.Digest] = desc.Size
		return nil
	}
	b.kept[desc.Digest] = true
	into[desc.Digest] = desc.Size
	return nil
}

// came tells whether the store has by now a foreign layer that the snapshot before
// left elsewhere. Before they were noted, nobody knows.
func (b *backup) came(ctx context.Context) (bool, error) {
	if b.parent.Elsewhere == nil {
		return true, nil
	}
	for _, l := range b.parent.Elsewhere {
		kept, err := b.st.Has(ctx, ocispec.Descriptor{Digest: l.Digest, Size: l.Size})
		if err != nil || kept {
			return kept, err
		}
	}
	return false, nil
}

func setOf(ds []digest.Digest) map[digest.Digest]bool {
	set := make(map[digest.Digest]bool, len(ds))
	for _, d := range ds {
		set[d] = true
	}
	return set
}
