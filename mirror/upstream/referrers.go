package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxReferrers is how much may refer to one manifest.
const maxReferrers = 10_000

// errNoReferrers is an answer that is not a list of referrers.
var errNoReferrers = errors.New("no referrers API")

// Referrers lists what refers to a digest. An upstream without the referrers
// API is errors.ErrUnsupported; with it, what has no referrers is an empty list.
func (r *Registry) Referrers(ctx context.Context, repo string, d digest.Digest) ([]ocispec.Descriptor, error) {
	c := call{
		method: http.MethodGet, path: repo + "/referrers/" + d.String(), scope: pull(repo),
		header: http.Header{"Accept": {ocispec.MediaTypeImageIndex}}, name: "referrers of " + d.String() + " of " + repo,
	}
	var all []ocispec.Descriptor
	begun := false
	for page, err := range pages(ctx, r, c, readReferrers) {
		switch {
		case err != nil && !begun && lacksReferrers(err):
			return nil, unsupported{err}
		case err != nil:
			return nil, err
		}
		begun = true // whoever has one page has the API
		if all = append(all, page...); len(all) > maxReferrers {
			return nil, r.explain(c, fmt.Errorf("more than %d referrers", maxReferrers))
		}
	}
	return all, nil
}

// lacksReferrers reports whether an error is that of an upstream without the API.
func lacksReferrers(err error) bool {
	s, ok := errors.AsType[*statusError](err)
	return errors.Is(err, errNoReferrers) || ok && s.noReferrers()
}

func (e *statusError) noReferrers() bool {
	switch e.status {
	case http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusNotImplemented:
		return true
	}
	return false
}

func readReferrers(resp *http.Response) ([]ocispec.Descriptor, error) {
	raw, err := readAll(resp, maxPage)
	if err != nil {
		return nil, err
	}
	var index struct {
		Manifests *[]ocispec.Descriptor `json:"manifests"`
	}
	switch isIndex, err := mediaType(resp.Header) == ocispec.MediaTypeImageIndex, json.Unmarshal(raw, &index); {
	case isIndex && err != nil:
		return nil, notJSON(resp, raw) // to believe it would lose signatures
	case err != nil, index.Manifests == nil && !isIndex:
		return nil, errNoReferrers
	}
	if index.Manifests == nil {
		return nil, nil
	}
	for _, m := range *index.Manifests {
		if err := m.Digest.Validate(); err != nil {
			return nil, fmt.Errorf("a referrer has the digest %q: %w", plain(m.Digest.String()), err)
		}
	}
	return *index.Manifests, nil
}
