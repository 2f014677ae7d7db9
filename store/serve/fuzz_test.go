package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/factory"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus"

	"lastro/store/serve/spec"
	"lastro/store/storetest"
)

// difference is an answer that is not distribution's, and what asks for it.
type difference struct {
	name, because string
	is            func(q query, ours, theirs answer) bool
}

// differences are all in which our answers may differ from distribution's.
// Each holds only for what it names; everything else is to be the same.
var differences = []difference{
	{"what is no path of the spec", "the spec's errors are JSON; distribution answers a text page, or a redirect to a path that it cleaned",
		func(q query, ours, theirs answer) bool {
			return !q.known && ours.status == 404 && ours.code == spec.Unsupported && (theirs.status == 404 || theirs.status == 301)
		}},
	{"a name that is none", "spec, error codes: NAME_INVALID; distribution has no route for it, cleans the path, or takes its first part for a host, which may have capitals, and finds nothing there",
		func(q query, ours, theirs answer) bool {
			return q.known && q.Check() != nil && ours.status == 400 && ours.code == spec.NameInvalid && (theirs.status == 404 || theirs.status == 301 || theirs.code == spec.NameInvalid || empty(q, theirs))
		}},
	{"a reference that is none", "spec, error codes: DIGEST_INVALID, and 404 MANIFEST_UNKNOWN for a tag; distribution has no route for it, or says 404 for the digest",
		func(q query, ours, theirs answer) bool {
			return (q.Kind == spec.Manifests || q.Kind == spec.Blobs) && (ours.code == spec.DigestInvalid && ours.status == 400 || ours.code == spec.ManifestUnknown && ours.status == 404) && theirs.code == "" && (theirs.status == 404 || theirs.status == 301)
		}},
	{"the version check without a slash", "spec, end-1: GET /v2/; a redirect there says no more than the answer",
		func(q query, ours, theirs answer) bool {
			return q.path == "/v2" && ours.status == 200 && theirs.status == 301
		}},
	{"HEAD of a list", "RFC 9110, 9.1: all general-purpose servers must support GET and HEAD",
		func(q query, ours, theirs answer) bool {
			return q.method == "HEAD" && (q.Kind == spec.Tags || q.Kind == spec.Catalog) && theirs.status == 405 && ours.status != 405
		}},
	{"pages of what is no repository", "spec, error codes: NAME_UNKNOWN; distribution says it only to who asks for no number",
		func(q query, ours, theirs answer) bool {
			return ours.code == spec.NameUnknown && empty(q, theirs)
		}},
	{"a page that ends with the last tag", "spec, listing tags: a Link says that more tags follow; distribution's leads to an empty page",
		func(q query, ours, theirs answer) bool {
			theirs.link = ""
			return q.Kind == spec.Tags && ours == theirs
		}},
	{"a request that distribution fails or panics at", "there is no answer to compare",
		func(_ query, ours, theirs answer) bool {
			return (theirs.status == panicked || theirs.status >= 500) && ours.status != panicked && ours.status < 500
		}},
	{"referrers", "spec, listing referrers: a registry that supports the API must answer 200; distribution has no such API",
		func(q query, ours, theirs answer) bool {
			return q.Kind == spec.Referrers && (theirs.status == 404 || theirs.status == 301) && theirs.code == "" && (ours.status == 200 || ours.code == spec.DigestInvalid)
		}},
	{"a manifest whose type is not accepted", "spec, pulling manifests: the client should say what it accepts, and Content-Type says what it got; a digest has one content",
		func(q query, ours, theirs answer) bool {
			return q.Kind == spec.Manifests && q.accept != everything && ours.status == 200 && theirs.status == 404 && theirs.code == spec.ManifestUnknown
		}},
	{"a list of entity tags, a weak one, or any", "RFC 9110, 13.1.2: the condition is false when one of the listed tags matches by weak comparison; distribution compares the whole line",
		func(q query, ours, theirs answer) bool {
			return q.Kind == spec.Manifests && q.match != "" && ours.status == 304 && (theirs.status == 200 || theirs.status == 404 && q.accept != everything)
		}},
	{"a blob's entity tag without quotes", "distribution takes it for manifests; RFC 9110, 13.1.2 has quotes, and who leaves them out means the same",
		func(q query, ours, theirs answer) bool {
			return q.Kind == spec.Blobs && strings.Contains(q.match, "sha256:") && ours.status == 304 && slices.Contains([]int{200, 206, 416}, theirs.status)
		}},
	{"a blob's tags that the standard library does not read", "RFC 9110, 5.6.1: a recipient must accept empty elements of a list, and may go on behind what it cannot read",
		func(q query, ours, theirs answer) bool {
			return q.Kind == spec.Blobs && strings.ContainsAny(q.match, ",*W") && ours.status == 304 && slices.Contains([]int{200, 206, 416}, theirs.status)
		}},
	{"a range on a condition without quotes", "RFC 9110, 13.1.5: the tag has quotes, and who leaves them out means the same",
		func(q query, ours, theirs answer) bool {
			return q.Kind == spec.Blobs && strings.HasPrefix(q.ifRange, "sha256:") && slices.Contains([]int{206, 416}, ours.status) && theirs.status == 200
		}},
	{"a condition on what is not here", "RFC 9110, 13.2.1: conditions are ignored when the answer without them is no success",
		func(q query, ours, theirs answer) bool {
			return q.Kind == spec.Manifests && q.match != "" && ours.status == 404 && theirs.status == 304
		}},
	{"the catalog", "not in the spec: ours has pages of 1000 where distribution has 100, and gives them to who asks for more",
		func(q query, ours, theirs answer) bool {
			return q.Kind == spec.Catalog && ours.status == 200 && (q.query != "" || names(ours) == names(theirs))
		}},
}

// empty reports whether an answer lists no tags.
func empty(q query, a answer) bool {
	return q.Kind == spec.Tags && a.status == 200 && strings.HasSuffix(a.body, `"tags":[]}`+"\n")
}

// names are those that the catalog lists, ordered.
func names(a answer) string {
	var body struct{ Repositories []string }
	_ = json.Unmarshal([]byte(a.body), &body)
	slices.Sort(body.Repositories)
	return strings.Join(body.Repositories, " ")
}

// everything is the header of a client that accepts all.
const everything = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json"

// query is one request.
type query struct {
	spec.Request
	known                                               bool
	method, path, query, ranged, match, ifRange, accept string
}

func (q query) request() *http.Request {
	r := &http.Request{Method: q.method, URL: &url.URL{Path: q.path, RawQuery: q.query}, Header: http.Header{}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Host: "registry", Body: http.NoBody, RemoteAddr: "192.0.2.1:1"}
	r.RequestURI = r.URL.RequestURI()
	for key, value := range map[string]string{"Range": q.ranged, "If-None-Match": q.match, "If-Range": q.ifRange, "Accept": q.accept} {
		if value != "" {
			r.Header.Set(key, value)
		}
	}
	return r.WithContext(context.Background())
}

// answer is what counts of a response.
type answer struct {
	status                                  int
	code                                    string // of an error
	digest, etag, kind, length, cache, part string
	link                                    string
	body                                    string
}

// panicked is the status of an answer that a panic ended.
const panicked = -1

func answered(h http.Handler, q query) (a answer) {
	w := httptest.NewRecorder()
	defer func() {
		if recover() != nil {
			a = answer{status: panicked}
		}
	}()
	h.ServeHTTP(w, q.request())
	a.status = w.Code
	if w.Code >= 400 {
		var body struct{ Errors []struct{ Code string } }
		if json.Unmarshal(w.Body.Bytes(), &body) == nil && len(body.Errors) == 1 {
			a.code = body.Errors[0].Code
		}
		return a
	}
	head := w.Header().Get
	a.digest, a.etag, a.link, a.cache, a.part = head("Docker-Content-Digest"), head("Etag"), head("Link"), head("Cache-Control"), head("Content-Range")
	if w.Code == http.StatusNotModified {
		a.digest, a.etag, a.cache = "", "", "" // distribution leaves them out for manifests
		return a
	}
	a.kind, a.length, a.body = head("Content-Type"), head("Content-Length"), w.Body.String()
	if strings.HasPrefix(a.kind, "multipart/byteranges") {
		a.kind, a.body, a.length = "multipart/byteranges", strings.ReplaceAll(a.body, strings.TrimPrefix(a.kind, "multipart/byteranges; boundary="), ""), ""
	}
	if a.length == "" {
		a.length = fmt.Sprint(len(a.body))
	}
	if q.method == http.MethodHead {
		a.body = ""
	}
	return a
}

// stock is a store's content, by what a fuzzer may ask for.
type stock struct {
	ours, theirs http.Handler
	repos, refs  []string
}

var once sync.Once

type given struct{}

func (given) Create(_ context.Context, parameters map[string]any) (storagedriver.StorageDriver, error) {
	return parameters["driver"].(storagedriver.StorageDriver), nil
}

func newStock(t testing.TB) stock {
	t.Helper()
	once.Do(func() {
		factory.Register("given", given{})
		logrus.SetOutput(io.Discard)
	})
	s := opened(t, storetest.Folder(t))
	m, plain := storetest.Sparse("a"), &storetest.Image{}
	m.MustPut(t, s, "a", "v1")
	m.MustPut(t, s, "a", "v1.1-x_y")
	m.MustPut(t, s, "b/manifests", "latest")
	plain.Single("plain", nil)
	plain.MustPut(t, s, "a", "plain")
	docker := &storetest.Image{}
	config, layer := docker.Blob("", []byte(`{}`)), docker.Blob("", bytes.Repeat([]byte("0123456789"), 10_000))
	docker.Manifest(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
		"config": map[string]any{"mediaType": "application/vnd.docker.container.image.v1+json", "size": config.Size, "digest": config.Digest},
		"layers": []any{map[string]any{"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "size": layer.Size, "digest": layer.Digest}},
	})
	docker.MustPut(t, s, "a/b", "docker")

	c := &configuration.Configuration{Storage: configuration.Storage{"given": {"driver": s.Driver()}, "maintenance": {"uploadpurging": map[any]any{"enabled": false}}}}
	c.HTTP.RelativeURLs = true
	c.Catalog.MaxEntries, c.Tags.MaxTags = maxPage, maxPage
	out := stock{ours: handler(t, s, Options{}), theirs: handlers.NewApp(context.Background(), c)}
	out.repos = []string{"a", "a/b", "b/manifests", "nowhere", "A", "a//b", "a/../a", "_a", "b"}
	out.refs = []string{"v1", "v1.1-x_y", "latest", "docker", "plain", "v2", "-x", "sha256:x", "", "uploads", "list", digest.FromString("nowhere").String(), digest.SHA512.FromString("shared").String(), strings.ToUpper(digest.FromString("shared").Encoded())}
	for _, m := range []*storetest.Image{m, plain, docker} {
		for d := range m.Content {
			out.refs = append(out.refs, d.String())
		}
		for _, d := range m.Absent {
			out.refs = append(out.refs, d.String())
		}
	}
	slices.Sort(out.refs)
	return out
}

// pick takes one of a list by the lowest digits of n, or the raw text.
func pick(n *uint64, raw string, list ...string) string {
	i := *n % uint64(len(list)+1)
	*n /= uint64(len(list) + 1)
	if i == 0 {
		return raw
	}
	return list[i-1]
}

// query makes a request of numbers and texts.
func (s stock) query(n uint64, path, ref, params, ranged, match, ifRange, accept string) query {
	q := query{method: pick(&n, "GET", "HEAD", "GET")}
	kind, repo, ref := pick(&n, "", "manifests", "blobs", "tags", "_catalog", "referrers"), pick(&n, path, s.repos...), pick(&n, ref, s.refs...)
	switch kind {
	case "":
		q.path = path
	case "tags":
		q.path = "/v2/" + repo + "/tags/list"
	case "_catalog":
		q.path = "/v2/_catalog"
	default:
		q.path = "/v2/" + repo + "/" + kind + "/" + ref
	}
	bare := strings.TrimPrefix(ref, "sha256:")
	q.query = pick(&n, params, "", "", "n=1", "n=2&last=v1", "n=0", "last=plain", "n=1001", "n=x", "n=1&last=zz", "ns=docker.io", "n=-1")
	q.ranged = pick(&n, ranged, "", "", "bytes=1-2", "bytes=0-", "bytes=-3", "bytes=5-1", "bytes=99999999-", "bytes=0-1,3-4", "bytes=1000-70000")
	q.match = pick(&n, match, "", "", "", `"sha256:`+bare+`"`, "sha256:"+bare, `W/"sha256:`+bare+`"`, "*", `"x", "sha256:`+bare+`"`)
	q.ifRange = pick(&n, ifRange, "", "", `"sha256:`+bare+`"`, `"x"`, "sha256:"+bare)
	q.accept = pick(&n, accept, everything, everything, everything, "", "*/*", ocispec.MediaTypeImageManifest)
	q.Request, q.known = spec.Parse(q.path)
	return q
}

// check fails when the answers differ in what no difference allows.
func (s stock) check(t *testing.T, q query) {
	if q.Kind == spec.Uploads {
		return // not of the read path
	}
	ours, theirs := answered(s.ours, q), answered(s.theirs, q)
	if ours == theirs {
		return
	}
	for _, d := range differences {
		if d.is(q, ours, theirs) {
			return
		}
	}
	t.Errorf("%+v\nours:   %.600q\ntheirs: %.600q", q, fmt.Sprintf("%+v", ours), fmt.Sprintf("%+v", theirs))
}

func FuzzAnswersAreThoseOfDistribution(f *testing.F) {
	s := newStock(f)
	root := "/v2/a/manifests/v1"
	for n := range uint64(64) {
		f.Add(n*7919*104729, root, "v1", "", "", "", "", "")
	}
	f.Add(uint64(0), "/v2/", "", "", "", "", "", everything)
	f.Add(uint64(0), "/v2", "", "", "", "", "", everything)
	f.Add(uint64(0), "/v2/a/tags/list", "", "n=1&last=plain", "", "", "", "")
	f.Add(uint64(34003306991), "A/0", "0", "", "", "", "", "")
	f.Add(uint64(14), "0", "", "n=;", "0", "0", "0", "0")
	f.Add(uint64(0), "/v2/a/b/../manifests/v1", "", "", "", "", "", everything)
	f.Fuzz(func(t *testing.T, n uint64, path, ref, params, ranged, match, ifRange, accept string) {
		s.check(t, s.query(n, path, ref, params, ranged, match, ifRange, accept))
	})
}
