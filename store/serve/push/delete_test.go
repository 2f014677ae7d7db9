package push

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/store/ledger"
	"lastro/store/storetest"
)

func TestATagIsDeletedAndItsManifestStays(t *testing.T) {
	c := newClient(t, storetest.Folder(t), everybody())
	d := c.push("a", "v1", "a")
	c.must(202, "DELETE", "/v2/a/manifests/v1", "")
	c.must(404, "GET", "/v2/a/manifests/v1", "")
	c.must(200, "GET", byDigest("a", d), "")
	c.refused(404, "MANIFEST_UNKNOWN", "DELETE", "/v2/a/manifests/v1", "")
	c.refused(404, "MANIFEST_UNKNOWN", "DELETE", "/v2/a/manifests/.bad", "")
	events, err := c.store.Ledger().History(t.Context(), "a", "v1")
	if err != nil || len(events) != 2 || events[1].Event != ledger.Removed || events[1].By != "push" || events[1].Reason == "" {
		t.Errorf("%+v, %v", events, err)
	}
}

func TestAManifestIsDeletedWithAllItsTags(t *testing.T) {
	c := newClient(t, storetest.Folder(t), everybody())
	d := c.push("a", "v1", "a")
	c.push("a", "v2", "a")
	c.push("b", "v1", "a")
	c.push("a", "v3", "b")
	c.must(202, "DELETE", byDigest("a", d), "")
	for _, ref := range []string{"v1", "v2", d.desc().Digest.String()} {
		c.must(404, "GET", "/v2/a/manifests/"+ref, "")
	}
	c.must(200, "GET", "/v2/a/manifests/v3", "")
	c.must(200, "GET", "/v2/b/manifests/v1", "")
	c.refused(404, "MANIFEST_UNKNOWN", "DELETE", byDigest("a", d), "")
	c.refused(400, "DIGEST_INVALID", "DELETE", "/v2/a/manifests/sha256:bad", "")
	if linked, err := c.store.Ledger().Linked(t.Context(), "a", d.desc().Digest); err != nil || linked {
		t.Errorf("the ledger still has it: %v", err)
	}
	// The content is for collect.
	if has, err := c.store.Has(t.Context(), d.desc()); err != nil || !has {
		t.Errorf("content was deleted: %v", err)
	}
	// It can come again.
	c.push("a", "v1", "a")
	c.must(200, "GET", "/v2/a/manifests/v1", "")
}

func TestWhatIsToBeKeptIsNotDeleted(t *testing.T) {
	o := everybody()
	o.Keep = func(_ context.Context, _, tag string, d digest.Digest) (string, error) {
		if tag == "v2" || tag == "" && d == digest.FromString("protected") {
			return "tag v2 is protected by release", nil
		}
		return "", nil
	}
	c := newClient(t, storetest.Folder(t), o)
	d := c.push("a", "v1", "a")
	c.push("a", "v2", "a")
	for _, path := range []string{"/v2/a/manifests/v2", byDigest("a", d)} {
		if why := c.refused(409, "DENIED", "DELETE", path, ""); !strings.Contains(why, "protected by release") {
			t.Errorf("it does not say why: %s", why)
		}
	}
	c.must(200, "GET", "/v2/a/manifests/v1", "")
	c.must(200, "GET", "/v2/a/manifests/v2", "")
	c.must(202, "DELETE", "/v2/a/manifests/v1", "")
}

func TestADigestIsKeptForItself(t *testing.T) {
	o := everybody()
	o.Keep = func(_ context.Context, _, tag string, _ digest.Digest) (string, error) {
		if tag == "" {
			return "protected", nil
		}
		return "", nil
	}
	c := newClient(t, storetest.Folder(t), o)
	d := c.push("a", "v1", "a")
	c.refused(409, "DENIED", "DELETE", byDigest("a", d), "")
	c.must(200, "GET", "/v2/a/manifests/v1", "")
}

func TestWhatAManifestRefersToIsNotDeleted(t *testing.T) {
	c := newClient(t, storetest.Folder(t), everybody())
	child := c.push("a", "v1", "a")
	index := document{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{child.desc()}}
	if w := c.put("a", "all", index); w.Code != 201 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if why := c.refused(409, "DENIED", "DELETE", byDigest("a", child), ""); !strings.Contains(why, index.desc().Digest.String()) {
		t.Errorf("it does not say why: %s", why)
	}
	c.must(200, "GET", "/v2/a/manifests/v1", "")
	layer := child.Layers[0].Digest
	c.refused(409, "DENIED", "DELETE", blobPath("a", layer), "")
	c.must(202, "DELETE", byDigest("a", index), "")
	c.must(202, "DELETE", byDigest("a", child), "")
	c.must(202, "DELETE", blobPath("a", layer), "")
	c.must(404, "GET", blobPath("a", layer), "")
	c.refused(404, "BLOB_UNKNOWN", "DELETE", blobPath("a", layer), "")
	// Another repository does not hold it here.
	c.push("b", "v1", "a")
	c.blob("a", "shared")
	c.must(202, "DELETE", blobPath("a", layer), "")
	c.must(200, "GET", blobPath("b", layer), "")
}

func TestABlobDoesNotGoFromUnderAManifestThatComes(t *testing.T) {
	c := newClient(t, storetest.Folder(t), everybody())
	layer := digest.FromString("shared")
	for i := range 20 {
		d := c.image("a", fmt.Sprint(i))
		var wg sync.WaitGroup
		wg.Go(func() { c.put("a", "v1", d) })
		wg.Go(func() { c.do("DELETE", blobPath("a", layer), "") })
		wg.Wait()
		if root, err := c.store.Resolve(t.Context(), "a", "v1"); err == nil {
			if _, err := c.store.Closure(t.Context(), "a", root); err != nil {
				t.Fatal(err)
			}
			c.must(202, "DELETE", "/v2/a/manifests/"+root.String(), "")
		}
	}
}
