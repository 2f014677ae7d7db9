package push

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/store/ledger"
	"lastro/store/storetest"
)

func TestOnlyWhatMayBePushedToIsPushedTo(t *testing.T) {
	o := everybody()
	o.Pushable = func(repo string) bool { return repo == "local/a" }
	c := newClient(t, storetest.Folder(t), o)
	c.push("local/a", "v1", "a")
	for _, method := range []string{"PUT", "DELETE"} {
		if why := c.refused(403, "DENIED", method, "/v2/docker.io/a/manifests/v1", ""); !strings.Contains(why, "registry.push") {
			t.Errorf("it does not say how: %s", why)
		}
	}
	c.refused(403, "DENIED", "POST", "/v2/docker.io/a/blobs/uploads/", "")
	c.refused(403, "DENIED", "DELETE", blobPath("docker.io/a", digest.FromString("shared")), "")
	c.refused(400, "NAME_INVALID", "PUT", "/v2/Local/manifests/v1", "")
	c.refused(405, "UNSUPPORTED", "POST", "/v2/local/a/manifests/v1", "")
	c.refused(405, "UNSUPPORTED", "PUT", blobPath("local/a", digest.FromString("shared")), "")
	c.refused(405, "UNSUPPORTED", "PUT", "/v2/local/a/blobs/uploads/", "")
	c.refused(405, "UNSUPPORTED", "PUT", "/v2/local/a/tags/list", "")
}

func TestAManifestThatIsNotWholeIsRefusedAndNotSeen(t *testing.T) {
	for _, c := range []struct {
		name   string
		status int
		code   string
		ref    string // "": by its digest
		change func(c *client, d *document)
		raw    string // in place of it
		kind   string // the Content-Type
	}{
		{name: "a missing config", status: 400, code: "MANIFEST_BLOB_UNKNOWN", change: func(_ *client, d *document) { d.Config.Digest = digest.FromString("nowhere") }},
		{name: "a missing layer", status: 400, code: "MANIFEST_BLOB_UNKNOWN", change: func(_ *client, d *document) { d.Layers[0].Digest = digest.FromString("nowhere") }},
		{name: "a layer that only another repository has", status: 400, code: "MANIFEST_BLOB_UNKNOWN", change: func(c *client, d *document) { d.Layers[0] = c.blob("secret", "not for a") }},
		{name: "a layer of another size", status: 400, code: "MANIFEST_BLOB_UNKNOWN", change: func(_ *client, d *document) { d.Layers[0].Size++ }},
		{name: "a missing child", status: 400, code: "MANIFEST_BLOB_UNKNOWN", change: func(_ *client, d *document) {
			*d = document{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{{Digest: digest.FromString("nowhere"), Size: 7}}}
		}},
		{name: "a child that only another repository has", status: 400, code: "MANIFEST_BLOB_UNKNOWN", change: func(c *client, d *document) {
			child := c.push("secret", "v1", "child")
			*d = document{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{child.desc()}}
		}},
		{name: "another digest", status: 400, code: "DIGEST_INVALID", ref: digest.FromString("other").String()},
		{name: "no digest", status: 400, code: "DIGEST_INVALID", ref: "sha256:baddigest"},
		{name: "a digest of a kind that is not kept", status: 400, code: "DIGEST_INVALID", ref: digest.SHA384.FromString("a").String()},
		{name: "no tag", status: 400, code: "MANIFEST_INVALID", ref: ".bad"},
		{name: "one bad tag of two", status: 400, code: "MANIFEST_INVALID", ref: "?tag=v1&tag=.bad"},
		{name: "too many tags", status: 414, code: "MANIFEST_INVALID", ref: "?tag=" + strings.Repeat("v&tag=", maxTags)},
		{name: "another type", status: 400, code: "MANIFEST_INVALID", kind: ocispec.MediaTypeImageIndex},
		{name: "no JSON", status: 400, code: "MANIFEST_INVALID", ref: "v1", raw: "{"},
		{name: "no manifest", status: 400, code: "MANIFEST_INVALID", ref: "v1", raw: "{}", kind: "application/json"},
		{name: "schema 1", status: 400, code: "MANIFEST_INVALID", ref: "v1", raw: `{"schemaVersion":1,"fsLayers":[]}`, kind: "application/vnd.docker.distribution.manifest.v1+json"},
		{name: "both an image and an index", status: 400, code: "MANIFEST_INVALID", ref: "v1", raw: `{"schemaVersion":2,"manifests":[],"layers":[]}`},
		{name: "more than a manifest may have", status: 413, code: "SIZE_INVALID", ref: "v1", raw: strings.Repeat(" ", 2000)},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := everybody()
			o.MaxManifest = 1500
			cl := newClient(t, storetest.Folder(t), o)
			d := cl.image("a", "a")
			if c.change != nil {
				c.change(cl, &d)
			}
			raw := d.raw()
			if c.raw != "" {
				raw = c.raw
			}
			ref := c.ref
			if ref == "" || ref[0] == '?' {
				ref = digest.FromString(raw).String() + ref
			}
			kind := d.MediaType
			if c.kind != "" {
				kind = c.kind
			}
			cl.refused(c.status, c.code, "PUT", "/v2/a/manifests/"+ref, raw, "Content-Type", kind)
			cl.must(404, "GET", "/v2/a/manifests/"+digest.FromString(raw).String(), "")
			if has, err := cl.store.Has(t.Context(), ocispec.Descriptor{Digest: digest.FromString(raw), Size: int64(len(raw))}); err != nil || has {
				t.Errorf("a refused manifest is stored: %v", err)
			}
		})
	}
}

func TestAPushedManifestIsServedAsItCame(t *testing.T) {
	for _, c := range []struct {
		name, given, own, served string
	}{
		{"its own type", ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageManifest},
		{"the type that the client gives", ocispec.MediaTypeImageManifest, "", ocispec.MediaTypeImageManifest},
		{"a type that nobody knows", "application/vnd.example.thing+json", "", "application/vnd.example.thing+json"},
		{"its own type, whatever parameters come with it", ocispec.MediaTypeImageManifest + "; charset=utf-8", ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageManifest},
		{"no type at all", "", "", ocispec.MediaTypeImageManifest},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := storetest.Folder(t)
			cl := newClient(t, dir, everybody())
			d := cl.image("a", "a")
			d.MediaType = c.own
			w := cl.must(201, "PUT", "/v2/a/manifests/v1", d.raw(), "Content-Type", c.given)
			if w.Header().Get("Location") != byDigest("a", d) || w.Header().Get("Docker-Content-Digest") != d.desc().Digest.String() {
				t.Errorf("answer %v", w.Header())
			}
			cl.store.Close()
			cl = newClient(t, dir, everybody())
			got := cl.must(200, "GET", "/v2/a/manifests/v1", "")
			if got.Body.String() != d.raw() || got.Header().Get("Content-Type") != c.served {
				t.Errorf("served %s as %v, want %s", got.Body, got.Header(), c.served)
			}
		})
	}
}

func TestAManifestThatDoesNotSayWhatItIsHasOneType(t *testing.T) {
	c := newClient(t, storetest.Folder(t), everybody())
	for _, repo := range []string{"a", "b"} {
		c.image(repo, "a")
	}
	d := c.image("a", "a")
	d.MediaType = ""
	c.must(201, "PUT", byDigest("a", d), d.raw(), "Content-Type", "application/vnd.example.one+json")
	c.refused(400, "MANIFEST_INVALID", "PUT", byDigest("b", d), d.raw(), "Content-Type", "application/vnd.example.two+json")
	c.must(201, "PUT", byDigest("b", d), d.raw(), "Content-Type", "application/vnd.example.one+json")
}

func TestWhatRefersToASubjectIsListed(t *testing.T) {
	c := newClient(t, storetest.Folder(t), everybody())
	subject := c.image("a", "subject")
	d := c.image("a", "signature")
	d.ArtifactType, d.Subject = "application/vnd.example.signature", new(subject.desc())
	if w := c.put("a", d.desc().Digest.String(), d); w.Code != 201 || w.Header().Get("OCI-Subject") != subject.desc().Digest.String() {
		t.Fatalf("%d %s %v", w.Code, w.Body, w.Header())
	}
	var index ocispec.Index
	w := c.must(200, "GET", "/v2/a/referrers/"+subject.desc().Digest.String(), "")
	if err := json.Unmarshal(w.Body.Bytes(), &index); err != nil || len(index.Manifests) != 1 || index.Manifests[0].ArtifactType != d.ArtifactType {
		t.Errorf("%s, %v", w.Body, err)
	}
	c.must(202, "DELETE", byDigest("a", d), "")
	if w := c.must(200, "GET", "/v2/a/referrers/"+subject.desc().Digest.String(), ""); strings.Contains(w.Body.String(), "signature") {
		t.Errorf("what was deleted is listed: %s", w.Body)
	}
}

func TestForeignLayersAreNotNeededAndNotTaken(t *testing.T) {
	c := newClient(t, storetest.Folder(t), everybody())
	secret := c.blob("secret", "not for a")
	d := c.image("a", "a")
	secret.URLs = []string{"https://example.com/layer"}
	d.Layers = append(d.Layers, secret, ocispec.Descriptor{MediaType: "x/y", Digest: digest.FromString("nowhere"), Size: 7, URLs: secret.URLs})
	if w := c.put("a", "v1", d); w.Code != 201 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	c.must(404, "GET", blobPath("a", secret.Digest), "")
	// What the repository has already it keeps.
	c.blob("a", "not for a")
	if w := c.put("a", "v2", d); w.Code != 201 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	c.must(200, "GET", blobPath("a", secret.Digest), "")
}

func TestAPushByDigestSetsTags(t *testing.T) {
	c := newClient(t, storetest.Folder(t), everybody())
	d := c.image("a", "a")
	w := c.must(201, "PUT", byDigest("a", d)+"?tag=v1&tag=v2", d.raw(), "Content-Type", d.MediaType)
	if got := w.Header().Values("OCI-Tag"); !slices.Equal(got, []string{"v1", "v2"}) {
		t.Errorf("OCI-Tag %v", got)
	}
	for _, tag := range []string{"v1", "v2"} {
		c.must(200, "GET", "/v2/a/manifests/"+tag, "")
	}
}

func TestAPushIsAnEvent(t *testing.T) {
	o := everybody()
	o.By = func(r *http.Request) string { return r.Header.Get("Who") }
	c := newClient(t, storetest.Folder(t), o)
	a := c.push("a", "v1", "a")
	c.push("a", "v1", "a")
	b := c.image("a", "b")
	c.must(201, "PUT", "/v2/a/manifests/v1", b.raw(), "Content-Type", b.MediaType, "Who", "ann")
	events, err := c.store.Ledger().History(t.Context(), "a", "v1")
	if err != nil || len(events) != 2 {
		t.Fatalf("%+v, %v", events, err)
	}
	first, second := events[0], events[1]
	if first.Event != ledger.Pushed || first.By != "push" || first.Digest != a.desc().Digest ||
		second.Event != ledger.Pushed || second.By != "ann" || second.Digest != b.desc().Digest || second.Previous != a.desc().Digest {
		t.Errorf("%+v", events)
	}
}

func TestAnImmutableTagDoesNotMove(t *testing.T) {
	o := everybody()
	o.Immutable = func(_, tag string) bool { return tag != "latest" }
	c := newClient(t, storetest.Folder(t), o)
	c.push("a", "v1", "a")
	c.push("a", "v1", "a")
	b := c.image("a", "b")
	if why := c.refused(409, "DENIED", "PUT", "/v2/a/manifests/v1", b.raw(), "Content-Type", b.MediaType); !strings.Contains(why, "another tag") {
		t.Errorf("it does not say how: %s", why)
	}
	c.refused(409, "DENIED", "PUT", byDigest("a", b)+"?tag=v2&tag=v1", b.raw(), "Content-Type", b.MediaType)
	c.must(404, "GET", "/v2/a/manifests/v2", "")
	c.push("a", "latest", "a")
	c.push("a", "latest", "b")

}

// TestATagThatIsImmutableSinceTheFirstLookDoesNotMove pushes another image to
// the tag after the first push has looked and before it begins.
func TestATagThatIsImmutableSinceTheFirstLookDoesNotMove(t *testing.T) {
	o := everybody()
	looks, between := 0, func() {}
	o.Immutable = func(_, _ string) bool {
		if looks++; looks == 2 {
			between()
		}
		return true
	}
	c := newClient(t, storetest.Folder(t), o)
	a, b := c.image("a", "a"), c.image("a", "b")
	between = func() {
		if w := c.put("a", "v1", b); w.Code != 201 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
	c.refused(409, "DENIED", "PUT", "/v2/a/manifests/v1", a.raw(), "Content-Type", a.MediaType)
	if now, err := c.store.Resolve(t.Context(), "a", "v1"); err != nil || now != b.desc().Digest {
		t.Errorf("the tag is at %s, %v", now, err)
	}
}

func TestOneRequestAtATimePushesAnImmutableTag(t *testing.T) {
	var h *handler
	o, locked := everybody(), 0
	o.Immutable = func(_, tag string) bool { return tag == "v1" }
	o.By = func(*http.Request) string {
		for i := range h.settled {
			if m := &h.settled[i]; m.TryLock() {
				m.Unlock()
			} else {
				locked++
			}
		}
		return ""
	}
	c := newClient(t, storetest.Folder(t), o)
	d := c.image("a", "a")
	var err error
	if h, err = newHandler(c.store, o); err != nil {
		t.Fatal(err)
	}
	for tag, want := range map[string]int{"v1": 1, "latest": 0} {
		locked = 0
		w := httptest.NewRecorder()
		r := httptest.NewRequest("PUT", "/v2/a/manifests/"+tag, strings.NewReader(d.raw()))
		if h.ServeHTTP(w, r); w.Code != 201 || locked != want {
			t.Errorf("%s: %d with %d names locked", tag, w.Code, locked)
		}
	}
}

func TestPushesOfOneTagAtOnceAreOneEventEach(t *testing.T) {
	c := newClient(t, storetest.Folder(t), everybody())
	var wg sync.WaitGroup
	const n = 8
	for i := range n {
		d := c.image("a", fmt.Sprint(i))
		wg.Go(func() {
			if w := c.put("a", "v1", d); w.Code != 201 {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
	wg.Wait()
	events, err := c.store.Ledger().History(context.WithoutCancel(t.Context()), "a", "v1")
	if err != nil || len(events) != n {
		t.Fatalf("%d events of %d pushes, %v", len(events), n, err)
	}
	now, err := c.store.Resolve(t.Context(), "a", "v1")
	if err != nil || events[n-1].Digest != now {
		t.Errorf("the tag is at %s, and the ledger says %s, %v", now, events[n-1].Digest, err)
	}
	for i := 1; i < n; i++ {
		if events[i].Previous != events[i-1].Digest {
			t.Errorf("event %d comes after %s, and says %s", i, events[i-1].Digest, events[i].Previous)
		}
	}
}
