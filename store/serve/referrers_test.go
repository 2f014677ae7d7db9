package serve

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/store/storetest"
)

func TestReferrersOfTheFallbackTagAreListed(t *testing.T) {
	s := opened(t, storetest.Folder(t))
	m := storetest.New("a")
	m.MustPut(t, s, "a", "v1")
	h := handler(t, s, Options{})
	tag := "sha256-" + m.Root.Digest.Encoded()
	signature := m.Manifests[len(m.Manifests)-2].Descriptor

	// An old attachment, which names no subject, one that is known already, and
	// one that is not here.
	old := &storetest.Image{}
	attached := old.Single("old", nil)
	attached.ArtifactType, attached.Annotations = "application/vnd.example.old", map[string]string{"by": "a client"}
	absent := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("absent"), Size: 1}
	old.Absent = []digest.Digest{absent.Digest}
	old.Index(attached, signature, absent)
	old.MustPut(t, s, "a", tag)

	list := func(query string) (digests []string) {
		for _, d := range index(t, h, "/v2/a/referrers/"+m.Root.Digest.String()+query).Manifests {
			digests = append(digests, d.Digest.String())
		}
		return digests
	}
	want := []string{attached.Digest.String(), signature.Digest.String()}
	slices.Sort(want)
	if diff := cmp.Diff(want, list("")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{attached.Digest.String()}, list("?artifactType=application/vnd.example.old")); diff != "" {
		t.Error(diff)
	}

	// What is under the tag and no index lists nothing.
	other := &storetest.Image{}
	other.Single("other", nil)
	other.MustPut(t, s, "a", tag)
	if diff := cmp.Diff([]string{signature.Digest.String()}, list("")); diff != "" {
		t.Error(diff)
	}
}

// TestTheFallbackTagOfALongDigestIsCut is of the distribution-spec: a tag has at most 128
// characters.
func TestTheFallbackTagOfALongDigestIsCut(t *testing.T) {
	s := opened(t, storetest.Folder(t))
	subject := digest.SHA512.FromString("subject")
	old := &storetest.Image{}
	attached := old.Single("old", nil)
	old.Index(attached)
	old.MustPut(t, s, "a", "sha512-"+subject.Encoded()[:64])
	list := index(t, handler(t, s, Options{}), "/v2/a/referrers/"+subject.String()).Manifests
	if len(list) != 1 || list[0].Digest != attached.Digest {
		t.Errorf("got %+v", list)
	}
}

// index asks for an index.
func index(t testing.TB, h http.Handler, target string) (out ocispec.Index) {
	t.Helper()
	w := storetest.Ask(h, "GET", target)
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || w.Code != 200 || w.Header().Get("Content-Type") != ocispec.MediaTypeImageIndex || out.Manifests == nil {
		t.Fatalf("%s: %d %q", target, w.Code, w.Body)
	}
	return out
}

func TestManyReferrersComeInPages(t *testing.T) {
	s := opened(t, storetest.Folder(t))
	m := storetest.New("a")
	var want []string
	for i := range 6 {
		d := m.Manifest(ocispec.Manifest{
			MediaType: ocispec.MediaTypeImageManifest, ArtifactType: fmt.Sprintf("x/y%d", i%2), Subject: &m.Root,
			Config: ocispec.DescriptorEmptyJSON, Annotations: map[string]string{"long": strings.Repeat("x", 1<<20), "n": fmt.Sprint(i)},
		})
		m.Blob("", []byte("{}"))
		if i%2 == 0 {
			want = append(want, d.Digest.String())
		}
	}
	slices.Sort(want)
	m.MustPut(t, s, "a", "v1")
	h := handler(t, s, Options{})
	for query, atLeast := range map[string]int{"": 7, "?artifactType=x/y0": 3, "?ns=x&artifactType=x/y0": 3} {
		var got []string
		pages := 0
		for target := "/v2/a/referrers/" + m.Root.Digest.String() + query; target != ""; pages++ {
			w := storetest.Ask(h, "GET", target)
			if w.Body.Len() > 4<<20 {
				t.Errorf("%s: a page of %d bytes", target, w.Body.Len())
			}
			if strings.Contains(query, "artifactType") != (w.Header().Get("OCI-Filters-Applied") == "artifactType") || strings.Contains(query, "ns=") && w.Header().Get("Link") != "" && !strings.Contains(w.Header().Get("Link"), "ns=x") {
				t.Errorf("%s: %v", target, w.Header())
			}
			for _, d := range index(t, h, target).Manifests {
				got = append(got, d.Digest.String())
			}
			target, _, _ = strings.Cut(strings.TrimPrefix(w.Header().Get("Link"), "<"), `>; rel="next"`)
		}
		if len(got) != atLeast || !slices.IsSorted(got) || query == "" && pages < 2 {
			t.Errorf("%q: %d in %d pages: %v", query, len(got), pages, got)
		}
		if query != "" && !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", query, got, want)
		}
	}
}
