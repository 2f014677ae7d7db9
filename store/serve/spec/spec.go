// Package spec reads the requests of the distribution-spec and writes its errors.
package spec

import (
	"encoding/json"
	"maps"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"

	"lastro/store/layout"
)

// Kind is what a request is about.
type Kind string

// The kinds of requests.
const (
	Base      Kind = "base"      // /v2/
	Catalog   Kind = "catalog"   // /v2/_catalog
	Tags      Kind = "tags"      // /v2/<name>/tags/list
	Manifests Kind = "manifests" // /v2/<name>/manifests/<tag or digest>
	Blobs     Kind = "blobs"     // /v2/<name>/blobs/<digest>
	Uploads   Kind = "uploads"   // /v2/<name>/blobs/uploads/<session>; a new one has no session
	Referrers Kind = "referrers" // /v2/<name>/referrers/<digest>
)

// Action is what a client wants to do with a repository.
type Action string

// The actions.
const (
	Pull   Action = "pull"
	Push   Action = "push"
	Delete Action = "delete"
)

// Action is what a request with this method wants to do.
func (q Request) Action(method string) Action {
	switch {
	case q.Kind == Uploads:
		return Push
	case method == http.MethodGet || method == http.MethodHead:
		return Pull
	case method == http.MethodDelete:
		return Delete
	}
	return Push
}

// Request is what a path asks for.
type Request struct {
	Kind Kind
	Repo string // as it stands in the path; see Check
	Ref  string // a tag, a digest, or the session of an upload
}

// Parse reads a path from its end, because a repository's name may hold any
// word. ok is false for what the distribution-spec does not know.
func Parse(path string) (q Request, ok bool) {
	rest, ok := strings.CutPrefix(path, "/v2/")
	switch {
	case path == "/v2" || ok && rest == "":
		return Request{Kind: Base}, true
	case !ok:
		return Request{}, false
	case rest == "_catalog":
		return Request{Kind: Catalog}, true
	}
	if repo, ok := strings.CutSuffix(rest, "/tags/list"); ok {
		return Request{Kind: Tags, Repo: repo}, true
	}
	i := strings.LastIndexByte(rest, '/')
	if i < 0 {
		return Request{}, false
	}
	if repo, ok := strings.CutSuffix(rest[:i], "/blobs/uploads"); ok {
		return Request{Kind: Uploads, Repo: repo, Ref: rest[i+1:]}, true
	}
	j := strings.LastIndexByte(rest[:i], '/')
	if j < 0 {
		return Request{}, false
	}
	q = Request{Kind: Kind(rest[j+1 : i]), Repo: rest[:j], Ref: rest[i+1:]}
	if q.Kind == Blobs && q.Ref == "uploads" {
		return Request{Kind: Uploads, Repo: q.Repo}, true
	}
	return q, q.Kind == Manifests || q.Kind == Blobs || q.Kind == Referrers
}

// Digest is the reference as a digest, or a refusal.
func (q Request) Digest() (digest.Digest, error) {
	d := digest.Digest(q.Ref)
	if err := layout.CheckDigest(d); err != nil {
		return "", &Refusal{Status: http.StatusBadRequest, Code: DigestInvalid, Message: err.Error()}
	}
	return d, nil
}

// ByDigest reports whether the reference is a digest, and not a tag.
func (q Request) ByDigest() bool { return strings.Contains(q.Ref, ":") }

// Check refuses a path whose repository has no name of the distribution-spec.
func (q Request) Check() error {
	if q.Kind == Base || q.Kind == Catalog {
		return nil
	}
	if err := layout.CheckRepository(q.Repo); err != nil {
		return &Refusal{Status: http.StatusBadRequest, Code: NameInvalid, Message: err.Error()}
	}
	return nil
}

// Codes of errors in the distribution-spec.
const (
	BlobUnknown         = "BLOB_UNKNOWN"
	BlobUploadInvalid   = "BLOB_UPLOAD_INVALID"
	BlobUploadUnknown   = "BLOB_UPLOAD_UNKNOWN"
	DigestInvalid       = "DIGEST_INVALID"
	ManifestBlobUnknown = "MANIFEST_BLOB_UNKNOWN"
	ManifestInvalid     = "MANIFEST_INVALID"
	ManifestUnknown     = "MANIFEST_UNKNOWN"
	NameInvalid         = "NAME_INVALID"
	NameUnknown         = "NAME_UNKNOWN"
	PageNumberInvalid   = "PAGINATION_NUMBER_INVALID" // distribution's; the spec has none
	SizeInvalid         = "SIZE_INVALID"
	Unauthorized        = "UNAUTHORIZED"
	Denied              = "DENIED"
	Unsupported         = "UNSUPPORTED"
	TooManyRequests     = "TOOMANYREQUESTS"
	Unavailable         = "UNAVAILABLE" // distribution's; the spec has none
	Unknown             = "UNKNOWN"     // distribution's; the spec has none
)

// Refusal is an error and the answer that a client gets for it. Its message is
// for the client: it tells nothing that the client may not know.
type Refusal struct {
	Status  int
	Code    string
	Message string
	Header  http.Header // more headers, as Retry-After and WWW-Authenticate
}

func (r *Refusal) Error() string { return r.Message }

// ReadOnly refuses what would change a registry that nobody may change.
func ReadOnly() *Refusal {
	return &Refusal{
		Status: http.StatusMethodNotAllowed, Code: Unsupported, Header: http.Header{"Allow": {"GET, HEAD"}},
		Message: "this registry is a mirror: it takes no pushes and no deletes (registry.push of the configuration names no repository)",
	}
}

// Write answers with the refusal.
func (r *Refusal) Write(w http.ResponseWriter) {
	maps.Copy(w.Header(), r.Header)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(r.Status)
	body := map[string]any{"errors": []map[string]string{{"code": r.Code, "message": r.Message}}}
	_ = json.NewEncoder(w).Encode(body) // an error is the client's, who has gone
}
