package serve

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// here lists what the store has.
type here struct{ *Handler }

// Repositories are those that the ledger knows of and that are served already.
func (h here) Repositories(ctx context.Context, last string, n int) (names []string, more bool, err error) {
	more = n > 0
	for more && len(names) < n {
		var page []string
		page, more, err = h.store.Ledger().RepositoryPage(ctx, last, n-len(names))
		if err != nil {
			return nil, false, err
		}
		if len(page) > 0 {
			last = page[len(page)-1]
		}
		names = append(names, slices.DeleteFunc(page, h.notYet)...)
	}
	return names, more, nil
}

// notYet reports whether the ledger knows of a repository that is not served.
func (h here) notYet(repo string) bool {
	served, err := h.store.Serves(repo)
	return err == nil && !served
}

// Tags are those that the ledger knows.
func (h here) Tags(ctx context.Context, repo, last string, n int) ([]string, bool, error) {
	served, err := h.store.Serves(repo)
	if err == nil && !served {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, false, err
	}
	return h.store.Ledger().TagPage(ctx, repo, last, n)
}

// Referrers are those that the ledger knows and those of the fallback tag.
func (h here) Referrers(ctx context.Context, repo string, subject digest.Digest) ([]ocispec.Descriptor, error) {
	list, err := h.store.Referrers(ctx, repo, subject)
	if err != nil {
		return nil, err
	}
	tagged, err := h.taggedReferrers(ctx, repo, subject)
	if err != nil {
		return nil, err
	}
	for _, d := range tagged {
		known := slices.ContainsFunc(list, func(k ocispec.Descriptor) bool { return k.Digest == d.Digest })
		if !known && h.store.ServesManifest(repo, d.Digest) == nil {
			list = append(list, d)
		}
	}
	return list, nil
}

// FallbackTag is where the distribution-spec has clients keep the referrers of
// a subject, where a registry knows none.
func FallbackTag(subject digest.Digest) string {
	return subject.Algorithm().String() + "-" + subject.Encoded()[:64]
}

// taggedReferrers are what the index under the fallback tag lists. What is
// no such index lists nothing.
func (h here) taggedReferrers(ctx context.Context, repo string, subject digest.Digest) ([]ocispec.Descriptor, error) {
	m, err := h.tagged(ctx, repo, FallbackTag(subject))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var index ocispec.Index
	if m.mediaType[0] != ocispec.MediaTypeImageIndex || json.Unmarshal(m.raw, &index) != nil {
		return nil, nil
	}
	return index.Manifests, nil
}
