package sample

import (
	"net/http"
	"regexp"
	"slices"
	"sync"
)

// Kind is what a request is about.
type Kind string

// The kinds. Other requests ("/v2/" and uploads among them) are of kind "other".
const (
	KindManifest  Kind = "manifest"
	KindBlob      Kind = "blob"
	KindTags      Kind = "tags"
	KindReferrers Kind = "referrers"
	KindCatalog   Kind = "catalog"
	KindOther     Kind = "other"
)

// Request is one request that the registry got.
type Request struct {
	Method string
	Kind   Kind
	Repo   string
	Name   string // tag or digest
}

// Requests are the requests since the start, or since they were last forgotten.
type Requests []Request

// Count is how many requests have this method ("": any) and kind ("": any).
func (all Requests) Count(method string, kind Kind) int {
	n := 0
	for _, r := range all {
		if (method == "" || method == r.Method) && (kind == "" || kind == r.Kind) {
			n++
		}
	}
	return n
}

// Requests returns a copy of what was recorded.
func (r *Registry) Requests() Requests {
	r.requests.mu.Lock()
	defer r.requests.mu.Unlock()
	return slices.Clone(r.requests.all)
}

// ForgetRequests begins a new record.
func (r *Registry) ForgetRequests() {
	r.requests.mu.Lock()
	defer r.requests.mu.Unlock()
	r.requests.all = nil
}

type recorder struct {
	mu  sync.Mutex
	all Requests
}

func (rec *recorder) record(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		rec.mu.Lock()
		rec.all = append(rec.all, RequestOf(req))
		rec.mu.Unlock()
		next.ServeHTTP(w, req)
	})
}

var named = regexp.MustCompile(`^/v2/(.+)/(manifests|blobs|tags|referrers)/([^/]+)$`)

// RequestOf says what a request is about.
func RequestOf(req *http.Request) Request {
	kinds := map[string]Kind{"manifests": KindManifest, "blobs": KindBlob, "tags": KindTags, "referrers": KindReferrers}
	m := named.FindStringSubmatch(req.URL.Path)
	switch {
	case req.URL.Path == "/v2/_catalog":
		return Request{Method: req.Method, Kind: KindCatalog}
	case m == nil || m[2] == "blobs" && m[3] == "uploads":
		return Request{Method: req.Method, Kind: KindOther}
	}
	return Request{req.Method, kinds[m[2]], m[1], m[3]}
}
