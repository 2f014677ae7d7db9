package store

import (
	"encoding/json"
	"net/http"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// serveReferrers answers GET /v2/<name>/referrers/<digest> from the ledger, as
// the distribution-spec says: an empty index when there are none.
func (s *Store) serveReferrers(w http.ResponseWriter, r *http.Request, repo string, subject digest.Digest) error {
	list, err := s.visibleReferrers(r.Context(), repo, subject)
	if err != nil {
		return err
	}
	if kind := r.URL.Query().Get("artifactType"); kind != "" {
		list = slices.DeleteFunc(list, func(d ocispec.Descriptor) bool { return d.ArtifactType != kind })
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	if list == nil {
		list = []ocispec.Descriptor{}
	}
	w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
	_ = json.NewEncoder(w).Encode(ocispec.Index{ // an error is the client's, who has gone
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: list,
	})
	return nil
}
