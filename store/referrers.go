package store

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/store/layout"
)

// withReferrers answers GET /v2/<name>/referrers/<digest> from the ledger, as
// the distribution-spec says: an empty index when there are none.
func (s *Store) withReferrers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		repo, subject, ok := referrersPath(r.URL.Path)
		if !ok {
			next.ServeHTTP(w, r)
			return
		}
		d := digest.Digest(subject)
		if err := d.Validate(); err != nil {
			refuse(w, http.StatusBadRequest, "DIGEST_INVALID", err.Error())
			return
		}
		if err := layout.CheckRepository(repo); err != nil {
			refuse(w, http.StatusBadRequest, "NAME_INVALID", err.Error())
			return
		}
		list, err := s.ledger.Referrers(r.Context(), repo, d)
		if err != nil {
			s.log.Error("referrers", "repo", repo, "digest", d, "err", err)
			refuse(w, http.StatusInternalServerError, "UNKNOWN", "internal error")
			return
		}
		writeReferrers(w, r, list)
	})
}

func referrersPath(p string) (repo, subject string, ok bool) {
	rest, ok := strings.CutPrefix(p, "/v2/")
	if !ok {
		return "", "", false
	}
	i := strings.LastIndex(rest, "/referrers/")
	if i < 0 || strings.Contains(rest[i+len("/referrers/"):], "/") {
		return "", "", false
	}
	return rest[:i], rest[i+len("/referrers/"):], true
}

func writeReferrers(w http.ResponseWriter, r *http.Request, list []ocispec.Descriptor) {
	if kind := r.URL.Query().Get("artifactType"); kind != "" {
		list = slices.DeleteFunc(list, func(d ocispec.Descriptor) bool { return d.ArtifactType != kind })
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	if list == nil {
		list = []ocispec.Descriptor{}
	}
	w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	_ = json.NewEncoder(w).Encode(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: list,
	})
}
