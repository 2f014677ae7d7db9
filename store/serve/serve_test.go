package serve

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/store"
	"lastro/store/layout"
	"lastro/store/storetest"
)

// opened is a new store in dir.
func opened(t testing.TB, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(dir, store.Options{Now: storetest.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func handler(t testing.TB, s *store.Store, o Options) http.Handler {
	t.Helper()
	h, err := New(s, o)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestPullsAreAnsweredExactly(t *testing.T) {
	s := opened(t, storetest.Folder(t))
	m := storetest.Sparse("a")
	m.MustPut(t, s, "lib/a", "v1")
	h := handler(t, s, Options{})
	root, layer := m.Root.Digest.String(), digest.FromString("shared").String()
	raw := string(m.Content[m.Root.Digest])
	index, octets := ocispec.MediaTypeImageIndex, "application/octet-stream"
	for _, c := range []struct {
		name, path string
		headers    []string
		status     int
		body, kind string
	}{
		{"the version check", "/v2/", nil, 200, "{}", "application/json"},
		{"a manifest by tag", "/v2/lib/a/manifests/v1", nil, 200, raw, index},
		{"a manifest by digest", "/v2/lib/a/manifests/" + root, nil, 200, raw, index},
		{"a manifest for a client that accepts another type", "/v2/lib/a/manifests/v1", []string{"Accept", ocispec.MediaTypeImageManifest}, 200, raw, index},
		{"a manifest that the client has", "/v2/lib/a/manifests/v1", []string{"If-None-Match", `"` + root + `"`}, 304, "", ""},
		{"a manifest that the client has, without quotes", "/v2/lib/a/manifests/v1", []string{"If-None-Match", root}, 304, "", ""},
		{"a manifest that has changed", "/v2/lib/a/manifests/v1", []string{"If-None-Match", `"` + layer + `"`}, 200, raw, index},
		{"a blob", "/v2/lib/a/blobs/" + layer, nil, 200, "shared", octets},
		{"the middle of a blob", "/v2/lib/a/blobs/" + layer, []string{"Range", "bytes=1-3"}, 206, "har", octets},
		{"the rest of a blob", "/v2/lib/a/blobs/" + layer, []string{"Range", "bytes=4-"}, 206, "ed", octets},
		{"a blob that the client has", "/v2/lib/a/blobs/" + layer, []string{"If-None-Match", `"` + layer + `"`}, 304, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := storetest.Ask(h, "GET", c.path, c.headers...)
			if w.Code != c.status || w.Body.String() != c.body {
				t.Errorf("got %d %q", w.Code, w.Body)
			}
			if kind := w.Header().Get("Content-Type"); kind != c.kind {
				t.Errorf("Content-Type %q, want %q", kind, c.kind)
			}
			if w.Header().Get("Docker-Distribution-Api-Version") != "registry/2.0" {
				t.Errorf("headers %v", w.Header())
			}
			head := storetest.Ask(h, "HEAD", c.path, c.headers...)
			if head.Code != c.status || head.Body.Len() > 0 && c.path != "/v2/" { // net/http drops the body
				t.Errorf("HEAD: got %d %q", head.Code, head.Body)
			}
			for _, key := range []string{"Content-Type", "Content-Length", "Docker-Content-Digest", "Etag", "Content-Range"} {
				if c.path != "/v2/" && head.Header().Get(key) != w.Header().Get(key) {
					t.Errorf("HEAD: %s %q, GET: %q", key, head.Header().Get(key), w.Header().Get(key))
				}
			}
			if strings.Contains(c.path, "/manifests/") && w.Header().Get("Docker-Content-Digest") != root {
				t.Errorf("headers %v", w.Header())
			}
		})
	}
	if w := storetest.Ask(h, "GET", "/v2/lib/a/blobs/"+layer, "Range", "bytes=100-"); w.Code != 416 {
		t.Errorf("a range behind the end: %d", w.Code)
	}
	if w := storetest.Ask(h, "HEAD", "/v2/lib/a/manifests/v1"); w.Header().Get("Content-Length") != fmt.Sprint(len(raw)) || w.Header().Get("Etag") != `"`+root+`"` {
		t.Errorf("HEAD: %v", w.Header())
	}
}

func TestWhatIsNotHereIsRefusedInTheSpecsWords(t *testing.T) {
	s := opened(t, storetest.Folder(t))
	m := storetest.Sparse("a")
	m.MustPut(t, s, "lib/a", "v1")
	storetest.New("b").MustPut(t, s, "lib/b", "v1")
	h := handler(t, s, Options{})
	unknown, foreign := digest.FromString("unknown").String(), digest.FromString("layer of b-amd64").String()
	for _, c := range []struct {
		name, path string
		status     int
		code       string
	}{
		{"an unknown tag", "/v2/lib/a/manifests/v2", 404, "MANIFEST_UNKNOWN"},
		{"an unknown digest", "/v2/lib/a/manifests/" + unknown, 404, "MANIFEST_UNKNOWN"},
		{"a child that was left out", "/v2/lib/a/manifests/" + m.Absent[0].String(), 404, "MANIFEST_UNKNOWN"},
		{"an unknown repository", "/v2/nowhere/manifests/v1", 404, "MANIFEST_UNKNOWN"},
		{"an unknown blob", "/v2/lib/a/blobs/" + unknown, 404, "BLOB_UNKNOWN"},
		{"a blob of another repository", "/v2/lib/a/blobs/" + foreign, 404, "BLOB_UNKNOWN"},
		{"tags of an unknown repository", "/v2/nowhere/tags/list", 404, "NAME_UNKNOWN"},
		{"a tag that is none", "/v2/lib/a/manifests/-x", 404, "MANIFEST_UNKNOWN"},
		{"a digest that is none", "/v2/lib/a/manifests/sha256:x", 400, "DIGEST_INVALID"},
		{"a blob's digest that is none", "/v2/lib/a/blobs/x", 400, "DIGEST_INVALID"},
		{"a subject that is none", "/v2/lib/a/referrers/x", 400, "DIGEST_INVALID"},
		{"a repository that is none", "/v2/lib/A/manifests/v1", 400, "NAME_INVALID"},
		{"a repository above the folder", "/v2/%2e%2e/%2e%2e/manifests/v1", 400, "NAME_INVALID"},
		{"an inner folder as a repository", "/v2/lib/a/_manifests/tags/list", 400, "NAME_INVALID"},
		{"a number that is none", "/v2/lib/a/tags/list?n=x", 400, "PAGINATION_NUMBER_INVALID"},
		{"a number below zero", "/v2/_catalog?n=-1", 400, "PAGINATION_NUMBER_INVALID"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := storetest.Ask(h, "GET", c.path)
			if code := storetest.ErrorCode(t, w); w.Code != c.status || code != c.code {
				t.Errorf("got %d %s", w.Code, code)
			}
		})
	}
	for _, path := range []string{"/v2/../../lastro/ledger.db", "/../ledger.db", "/v2/lib/a/blobs/../../../ledger.db", "/metrics", "/debug/vars"} {
		if w := storetest.Ask(h, "GET", path); w.Code == 200 {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}

func TestPushesAndDeletesAreRefused(t *testing.T) {
	s := opened(t, storetest.Folder(t))
	m := storetest.New("a")
	m.MustPut(t, s, "a", "v1")
	h := handler(t, s, Options{})
	for _, c := range [][2]string{
		{"POST", "/v2/a/blobs/uploads/"}, {"POST", "/v2/a/blobs/uploads/?mount=sha256:x&from=b"}, {"PATCH", "/v2/a/blobs/uploads/x"},
		{"PUT", "/v2/a/manifests/v1"}, {"DELETE", "/v2/a/manifests/v1"}, {"DELETE", "/v2/a/manifests/" + m.Root.Digest.String()},
		{"DELETE", "/v2/a/blobs/" + digest.FromString("shared").String()}, {"POST", "/v2/"}, {"PUT", "/"}, {"GET", "/v2/a/blobs/uploads/x"},
	} {
		w := storetest.Ask(h, c[0], c[1])
		if code := storetest.ErrorCode(t, w); w.Code != 405 || code != "UNSUPPORTED" || w.Header().Get("Allow") != "GET, HEAD" || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%v: %d %s %v", c, w.Code, code, w.Header())
		}
	}
}

// follow lists all pages from target on.
func follow(t testing.TB, h http.Handler, target, key string) (names []string, pages int) {
	t.Helper()
	for target != "" {
		w := storetest.Ask(h, "GET", target)
		var body map[string]json.RawMessage
		var page []string
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || w.Code != 200 {
			t.Fatalf("%s: %d %q", target, w.Code, w.Body)
		}
		if err := json.Unmarshal(body[key], &page); err != nil || page == nil {
			t.Fatalf("%s: %q: %v", target, w.Body, err)
		}
		names = append(names, page...)
		pages++
		link := w.Header().Get("Link")
		target, _, _ = strings.Cut(strings.TrimPrefix(link, "<"), `>; rel="next"`)
	}
	return names, pages
}

func TestListsComeInPages(t *testing.T) {
	dir := storetest.Folder(t)
	s := opened(t, dir)
	m := storetest.New("a")
	tags, repos := []string{"A", "v1", "v10", "v2", "w"}, []string{"a", "a/b", "a-b", "b/c"}
	for _, tag := range tags {
		m.MustPut(t, s, "a", tag)
	}
	for _, repo := range repos[1:] {
		m.MustPut(t, s, repo, "v1")
	}
	// A crash leaves folders of tags without a link, or with an empty one.
	for _, text := range []string{"v11/current", "v12/index"} {
		if err := os.MkdirAll(filepath.Join(dir, "registry", layout.Tags("a"), text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Driver().PutContent(t.Context(), "/"+layout.Tag("a", "v13"), nil); err != nil {
		t.Fatal(err)
	}
	h := handler(t, s, Options{})
	for n, want := range map[string]int{"": 1, "?n=1": 5, "?n=2": 3, "?n=5": 1, "?n=5000": 1, "?last=v10": 1, "?n=2&last=": 3} {
		names, pages := follow(t, h, "/v2/a/tags/list"+n, "tags")
		wanted := tags
		if n == "?last=v10" {
			wanted = tags[3:]
		}
		if diff := cmp.Diff(wanted, names); diff != "" || pages != want {
			t.Errorf("tags %s: %d pages %s", n, pages, diff)
		}
	}
	for n, want := range map[string]int{"": 1, "?n=1": 4, "?n=3": 2, "?n=4": 1, "?n=5000": 1} {
		names, pages := follow(t, h, "/v2/_catalog"+n, "repositories")
		if diff := cmp.Diff(repos, names); diff != "" || pages != want {
			t.Errorf("catalog %s: %d pages %s", n, pages, diff)
		}
	}
	if names, _ := follow(t, h, "/v2/a/tags/list?n=0", "tags"); len(names) > 0 {
		t.Errorf("n=0 lists %v", names)
	}
}

func TestReferrersAreThoseThatAreServed(t *testing.T) {
	s := opened(t, storetest.Folder(t))
	m := storetest.New("a")
	m.MustPut(t, s, "a", "v1")
	h := handler(t, s, Options{})
	kind := "application/vnd.example.signature"
	list := func(query string) ocispec.Index {
		var out ocispec.Index
		w := storetest.Ask(h, "GET", "/v2/a/referrers/"+m.Root.Digest.String()+query)
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || w.Code != 200 || w.Header().Get("Content-Type") != ocispec.MediaTypeImageIndex || out.Manifests == nil {
			t.Fatalf("%d %q", w.Code, w.Body)
		}
		if (w.Header().Get("OCI-Filters-Applied") == "artifactType") != (query != "") {
			t.Errorf("%s: %v", query, w.Header())
		}
		return out
	}
	if got := list("").Manifests; len(got) != 1 || got[0].ArtifactType != kind {
		t.Errorf("got %+v", got)
	}
	if got := list("?artifactType=" + kind).Manifests; len(got) != 1 {
		t.Errorf("got %+v", got)
	}
	if got := list("?artifactType=other").Manifests; len(got) != 0 {
		t.Errorf("got %+v", got)
	}
	// The ledger knows of more when a publication was cut short.
	late := &storetest.Image{}
	late.Single("late", &m.Root)
	if err := s.Ledger().RecordGraph(t.Context(), "a", late.Manifests, nil); err != nil {
		t.Fatal(err)
	}
	if got := list("").Manifests; len(got) != 1 {
		t.Errorf("one that is not served is listed: %+v", got)
	}
	if w := storetest.Ask(h, "GET", "/v2/nowhere/referrers/"+m.Root.Digest.String()); w.Code != 200 {
		t.Errorf("an unknown repository: %d", w.Code)
	}
}

func TestManifestsThatDistributionRefusesAreServed(t *testing.T) {
	s := opened(t, storetest.Folder(t))
	h := handler(t, s, Options{})
	for name, document := range map[string]any{
		"larger than 4 MiB":           map[string]any{"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageIndex, "manifests": []any{}, "annotations": map[string]string{"x": strings.Repeat("x", 5<<20)}},
		"an artifact manifest":        map[string]any{"mediaType": "application/vnd.oci.artifact.manifest.v1+json", "artifactType": "x/y"},
		"of a type that nobody knows": map[string]any{"schemaVersion": 2, "mediaType": "application/vnd.example.thing+json"},
		"without a media type":        map[string]any{"schemaVersion": 2, "manifests": []any{}},
	} {
		m := &storetest.Image{}
		parsed := m.Manifest(document)
		raw := m.Content[parsed.Digest]
		m.MustPut(t, s, "a", "v1")
		if w := storetest.Ask(h, "GET", "/v2/a/manifests/v1"); w.Code != 200 || !bytes.Equal(w.Body.Bytes(), raw) || w.Header().Get("Content-Type") != parsed.MediaType {
			t.Errorf("%s: %d %v", name, w.Code, w.Header())
		}
	}
}

func TestADamagedManifestIsNotServed(t *testing.T) {
	s := opened(t, storetest.Folder(t))
	m := storetest.New("a")
	m.MustPut(t, s, "a", "v1")
	if err := s.Driver().PutContent(t.Context(), "/"+layout.Data(m.Root.Digest), bytes.ToUpper(m.Content[m.Root.Digest])); err != nil {
		t.Fatal(err)
	}
	w := storetest.Ask(handler(t, s, Options{}), "GET", "/v2/a/manifests/v1")
	if w.Code != 500 || storetest.ErrorCode(t, w) != "UNKNOWN" {
		t.Errorf("got %d %q", w.Code, w.Body)
	}
}
