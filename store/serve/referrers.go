package serve

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// referrersSize is how large one answer is at most, by the distribution-spec,
// less what is around the descriptors.
const referrersSize = 4<<20 - 256

// referrers answers from the ledger, as the distribution-spec says: an empty
// index when there are none.
func (x *exchange) referrers(subject digest.Digest) error {
	list, err := x.lists.Referrers(x.r.Context(), x.repo, subject)
	if err != nil {
		return err
	}
	slices.SortFunc(list, func(a, b ocispec.Descriptor) int { return strings.Compare(a.Digest.String(), b.Digest.String()) })
	kind, last := param(x.r, "artifactType"), digest.Digest(param(x.r, "last"))
	if kind != "" {
		x.w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	list = slices.DeleteFunc(list, func(d ocispec.Descriptor) bool {
		return d.Digest <= last || kind != "" && d.ArtifactType != kind
	})
	list, more, err := fit(list)
	if err != nil {
		return err
	}
	if more {
		query := url.Values{"last": {list[len(list)-1].Digest.String()}}
		if kind != "" {
			query.Set("artifactType", kind)
		}
		x.next(query)
	}
	return x.json(ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: list,
	})
}

// fit is as much of a list as one answer takes, one descriptor at least.
func fit(list []ocispec.Descriptor) (part []ocispec.Descriptor, more bool, err error) {
	size := 0
	for i, d := range list {
		raw, err := json.Marshal(d)
		if err != nil {
			return nil, false, err
		}
		if size += len(raw) + 1; size > referrersSize && i > 0 {
			return list[:i], true, nil
		}
	}
	if list == nil {
		list = []ocispec.Descriptor{}
	}
	return list, false, nil
}
