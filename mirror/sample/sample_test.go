package sample

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func start(t *testing.T, o Options) *Registry {
	t.Helper()
	r, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func filled(t *testing.T, o Options) (*Registry, []Expect) {
	t.Helper()
	r := start(t, o)
	all, err := r.Fill(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r, all
}

func TestTheRegistryServesEveryImageWhole(t *testing.T) {
	tests := []struct {
		name    string
		options Options
	}{
		{"with the referrers API", Options{}},
		{"with fallback tags only", Options{NoReferrers: true}},
		{"with larger layers and more versions", Options{Seed: 7, LayerBytes: 64 << 10, Versions: 8}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, all := filled(t, tt.options)
			pullAll(t, r.URL(), all)
		})
	}
}

func pullAll(t *testing.T, base string, all []Expect) {
	t.Helper()
	for _, e := range all {
		got, err := Pull(t.Context(), base, e.Repo, e.Tag)
		if err == nil {
			err = e.Check(got)
		}
		if err != nil {
			t.Error(err)
		}
	}
}

func TestContentIsTheSameForTheSameOptionsOnly(t *testing.T) {
	digests := func(o Options) map[string]digest.Digest {
		all := map[string]digest.Digest{}
		for _, e := range Generate(o).Expect() {
			all[e.Repo+":"+e.Tag] = e.Digest
		}
		return all
	}
	first := digests(Options{})
	if diff := cmp.Diff(first, digests(Options{})); diff != "" {
		t.Errorf("two runs differ:\n%s", diff)
	}
	if other := digests(Options{Seed: 1}); other["library/base:latest"] == first["library/base:latest"] {
		t.Error("another seed gives the same bytes")
	}
}

func TestEveryKindOfContentIsThere(t *testing.T) {
	all := Generate(Options{}).Expect()
	any := func(matches func(Expect, Content) bool) bool {
		return slices.ContainsFunc(all, func(e Expect) bool {
			return slices.ContainsFunc(slices.Concat(e.Image, e.Referrers), func(c Content) bool { return matches(e, c) })
		})
	}
	contains := func(text string) func(Expect, Content) bool {
		return func(_ Expect, c Content) bool { return c.Manifest && bytes.Contains(c.Raw, []byte(text)) }
	}
	tests := []struct {
		name    string
		matches func(Expect, Content) bool
	}{
		{"an OCI index", func(_ Expect, c Content) bool { return c.MediaType == ocispec.MediaTypeImageIndex }},
		{"an index in an index", func(_ Expect, c Content) bool {
			return slices.ContainsFunc(parse(c.Raw).Manifests, func(d ocispec.Descriptor) bool { return d.MediaType == ocispec.MediaTypeImageIndex })
		}},
		{"a Docker manifest list", func(_ Expect, c Content) bool { return c.MediaType == dockerList }},
		{"a Docker schema 2 image", func(_ Expect, c Content) bool { return c.MediaType == dockerImage }},
		{"a variant of a platform", contains(`"variant":"v7"`)},
		{"a BuildKit attestation", contains(`"vnd.docker.reference.type":"attestation-manifest"`)},
		{"a zstd layer", contains(ocispec.MediaTypeImageLayerZstd)},
		{"a foreign layer", contains(`"urls":["https://`)},
		{"a Helm chart", contains("application/vnd.cncf.helm.chart.content.v1.tar+gzip")},
		{"an unknown artifact type with the empty config", contains(`"artifactType":"application/vnd.example.model.v1","config":{"mediaType":"application/vnd.oci.empty.v1+json"`)},
		{"a fallback tag", func(e Expect, c Content) bool {
			return e.Attached && len(e.Tag) == 71 && c.MediaType == ocispec.MediaTypeImageIndex
		}},
		{"a cosign signature", func(e Expect, _ Content) bool { return strings.HasSuffix(e.Tag, ".sig") }},
		{"a cosign attestation", func(e Expect, _ Content) bool { return strings.HasSuffix(e.Tag, ".att") }},
		{"a tag of 128 characters", func(e Expect, _ Content) bool { return len(e.Tag) == 128 }},
		{"a name of five levels", func(e Expect, _ Content) bool { return strings.Count(e.Repo, "/") == 4 }},
		{"a referrer", func(e Expect, c Content) bool {
			return parse(c.Raw).Subject != nil && parse(c.Raw).Subject.Digest == e.Digest
		}},
		{"a referrer of a referrer", func(e Expect, c Content) bool {
			s := parse(c.Raw).Subject
			return s != nil && slices.ContainsFunc(e.Referrers, func(r Content) bool { return r.Digest == s.Digest })
		}},
		{"a referrer of one platform's image", func(e Expect, c Content) bool {
			s := parse(c.Raw).Subject
			return s != nil && s.Digest != e.Digest && slices.ContainsFunc(e.Image, func(r Content) bool { return r.Digest == s.Digest })
		}},
		{"one layer twice in an image", func(_ Expect, c Content) bool {
			seen := map[digest.Digest]bool{}
			return slices.ContainsFunc(parse(c.Raw).Layers, func(l ocispec.Descriptor) bool {
				defer func() { seen[l.Digest] = true }()
				return seen[l.Digest]
			})
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if !any(tt.matches) {
				t.Error("there is none")
			}
		})
	}
}

func TestRepositoriesShareLayers(t *testing.T) {
	im := Generate(Options{})
	shared := 0
	for d := range im.repo("library/base").held {
		if _, ok := im.repo("library/tools").held[d]; ok {
			shared++
		}
	}
	if shared == 0 {
		t.Error("library/base and library/tools have nothing in common")
	}
}

func TestLayersUnpackAndConfigsKnowThem(t *testing.T) {
	for _, e := range Generate(Options{}).Expect() {
		held := map[digest.Digest][]byte{}
		for _, c := range slices.Concat(e.Image, e.Referrers) {
			held[c.Digest] = c.Raw
		}
		for _, c := range e.Image {
			doc := parse(c.Raw)
			for i, l := range doc.Layers {
				if strings.Contains(l.MediaType, "layer") && held[l.Digest] != nil || strings.Contains(l.MediaType, "rootfs.diff") {
					checkLayer(t, l, held[l.Digest], held[doc.Config.Digest], i)
				}
			}
		}
	}
}

func checkLayer(t *testing.T, l ocispec.Descriptor, raw, config []byte, i int) {
	t.Helper()
	var image ocispec.Image
	if err := json.Unmarshal(config, &image); err != nil {
		t.Fatal(err)
	}
	plain := uncompressed(t, l.MediaType, raw)
	if got := digest.FromBytes(plain); got != image.RootFS.DiffIDs[i] {
		t.Errorf("layer %s has the diff ID %s where the config says %s", l.Digest, got, image.RootFS.DiffIDs[i])
	}
	files := 0
	for r := tar.NewReader(bytes.NewReader(plain)); ; files++ {
		if _, err := r.Next(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("layer %s: %v", l.Digest, err)
		}
	}
	if files != 4 {
		t.Errorf("layer %s has %d files, not 4", l.Digest, files)
	}
}

func uncompressed(t *testing.T, mediaType string, raw []byte) []byte {
	t.Helper()
	var r io.Reader
	var err error
	if strings.HasSuffix(mediaType, "zstd") {
		r, err = zstd.NewReader(bytes.NewReader(raw), zstd.WithDecoderConcurrency(1))
	} else {
		r, err = gzip.NewReader(bytes.NewReader(raw))
	}
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

func TestAMovedTagIsAnotherImageOnTheSameBase(t *testing.T) {
	r, before := filled(t, Options{})
	after, err := r.Move(t.Context(), "apps/web", "latest")
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(before, func(e Expect) bool { return e.Repo == "apps/web" && e.Tag == "latest" })
	if before[i].Digest == after.Digest {
		t.Error("the tag has not moved")
	}
	old := before[i]
	old.Tag = old.Digest.String()
	pullAll(t, r.URL(), []Expect{after, old})
	pullAll(t, r.URL(), r.Expect())
	if !slices.ContainsFunc(after.Image, func(c Content) bool {
		return slices.ContainsFunc(before[i].Image, func(old Content) bool { return !c.Manifest && old.Digest == c.Digest })
	}) {
		t.Error("the two images share no layer")
	}
}

func TestWithoutReferrersAPIEverySubjectHasAFallbackTag(t *testing.T) {
	r, all := filled(t, Options{NoReferrers: true})
	for _, e := range all {
		for _, c := range slices.Concat(e.Image, e.Referrers) {
			s := parse(c.Raw).Subject
			if s == nil {
				continue
			}
			listed, err := Pull(t.Context(), r.URL(), e.Repo, dashed(s.Digest))
			if _, ok := listed.Content[c.Digest]; err != nil || !ok {
				t.Errorf("%s:%s: the fallback tag of %s does not list %s: %v", e.Repo, e.Tag, s.Digest, c.Digest, err)
			}
		}
	}
	res, err := http.Get(r.URL() + "/v2/library/base/referrers/" + all[0].Digest.String())
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusNotFound {
		t.Errorf("the referrers API answers %s", res.Status)
	}
}

func TestRequestsAreRecordedByKind(t *testing.T) {
	r, all := filled(t, Options{})
	r.ForgetRequests()
	blob := all[0].Image[0].Digest.String()
	for _, path := range []string{"/v2/", "/v2/_catalog", "/v2/" + all[0].Repo + "/tags/list", "/v2/a/b/manifests/v1", "/v2/" + all[0].Repo + "/blobs/" + blob, "/v2/a/referrers/" + blob} {
		res, err := http.Get(r.URL() + path)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
	want := Requests{
		{"GET", KindOther, "", ""}, {"GET", KindCatalog, "", ""}, {"GET", KindTags, all[0].Repo, "list"},
		{"GET", KindManifest, "a/b", "v1"}, {"GET", KindBlob, all[0].Repo, blob}, {"GET", KindReferrers, "a", blob},
	}
	if diff := cmp.Diff(want, r.Requests()); diff != "" {
		t.Error(diff)
	}
	if got := r.Requests().Count(http.MethodGet, KindBlob); got != 1 {
		t.Errorf("%d blobs were asked for, not 1", got)
	}
}

func TestABlobIsReadOnFromAnOffset(t *testing.T) {
	r, all := filled(t, Options{})
	i := slices.IndexFunc(all[0].Image, func(c Content) bool { return !c.Manifest && c.Size > 10 })
	c := all[0].Image[i]
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.URL()+"/v2/"+all[0].Repo+"/blobs/"+c.Digest.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Range", "bytes=7-")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusPartialContent || !bytes.Equal(got, c.Raw[7:]) {
		t.Errorf("%s with %d bytes (%v), not the rest of %d", res.Status, len(got), err, c.Size)
	}
}

// spoilingHandler answers with one thing wrong.
type spoilingHandler struct {
	http.Handler
	spoil func(path string, rec *httptest.ResponseRecorder)
}

func (h spoilingHandler) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	rec := httptest.NewRecorder()
	h.Handler.ServeHTTP(rec, req)
	h.spoil(req.URL.Path, rec)
	maps.Copy(w.Header(), rec.Header())
	w.Header().Del("Content-Length")
	w.WriteHeader(rec.Code)
	_, _ = w.Write(rec.Body.Bytes())
}

func TestPullRefusesWhatIsNotRight(t *testing.T) {
	r, all := filled(t, Options{})
	e := all[slices.IndexFunc(all, func(e Expect) bool { return e.Repo == "library/base" && e.Tag == "latest" })]
	layer := e.Image[slices.IndexFunc(e.Image, func(c Content) bool { return !c.Manifest })].Digest.String()
	child := e.Image[slices.IndexFunc(e.Image, func(c Content) bool { return c.Manifest })].Digest.String()
	referrer := e.Referrers[slices.IndexFunc(e.Referrers, func(c Content) bool { return c.Manifest })].Digest.String()
	flip := func(rec *httptest.ResponseRecorder) { rec.Body.Bytes()[5] ^= 1 }
	tests := []struct {
		name  string
		path  string
		spoil func(*httptest.ResponseRecorder)
	}{
		{"a blob with a flipped bit", "/blobs/" + layer, flip},
		{"a blob that is cut short", "/blobs/" + layer, func(rec *httptest.ResponseRecorder) { rec.Body.Truncate(5) }},
		{"a blob that is absent", "/blobs/" + layer, func(rec *httptest.ResponseRecorder) { rec.Code = http.StatusNotFound }},
		{"a child with a flipped bit", "/manifests/" + child, flip},
		{"a child that is absent", "/manifests/" + child, func(rec *httptest.ResponseRecorder) { rec.Code = http.StatusNotFound }},
		{"a tag whose digest header lies", "/manifests/latest", func(rec *httptest.ResponseRecorder) { rec.Header().Set("Docker-Content-Digest", child) }},
		{"a signature with a flipped bit", "/manifests/" + referrer, flip},
		{"a referrers list that fails", "/referrers/" + e.Digest.String(), func(rec *httptest.ResponseRecorder) { rec.Code = http.StatusInternalServerError }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(spoilingHandler{r.Handler(), func(path string, rec *httptest.ResponseRecorder) {
				if strings.HasSuffix(path, tt.path) {
					tt.spoil(rec)
				}
			}})
			defer server.Close()
			if _, err := Pull(t.Context(), server.URL, e.Repo, e.Tag); err == nil {
				t.Error("it was pulled without an error")
			}
		})
	}
}

func TestCheckSaysWhatIsMissingAndWhatIsTooMuch(t *testing.T) {
	r, all := filled(t, Options{})
	e := all[slices.IndexFunc(all, func(e Expect) bool { return len(e.Referrers) > 0 })]
	whole, err := Pull(t.Context(), r.URL(), e.Repo, e.Tag)
	if err != nil {
		t.Fatal(err)
	}
	stranger := digest.FromString("stranger")
	tests := []struct {
		name  string
		spoil func(*Pulled)
	}{
		{"another digest", func(p *Pulled) { p.Digest = stranger }},
		{"no signature", func(p *Pulled) { delete(p.Content, e.Referrers[0].Digest) }},
		{"a layer of another size", func(p *Pulled) { p.Content[e.Image[0].Digest]++ }},
		{"something that does not belong", func(p *Pulled) { p.Content[stranger] = 1 }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := Pulled{Digest: whole.Digest, Content: map[digest.Digest]int64{}}
			maps.Copy(p.Content, whole.Content)
			if err := e.Check(p); err != nil {
				t.Fatalf("before it is spoiled: %v", err)
			}
			tt.spoil(&p)
			if e.Check(p) == nil {
				t.Error("it passes")
			}
		})
	}
}

func TestPushReportsWhatTheRegistrySays(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no room", http.StatusInsufficientStorage)
	}))
	defer server.Close()
	err := Generate(Options{}).PushTo(t.Context(), server.Client(), server.URL)
	if err == nil || !strings.Contains(fmt.Sprint(err), "no room") {
		t.Errorf("got %v", err)
	}
}
