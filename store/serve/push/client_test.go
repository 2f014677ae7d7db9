package push

import (
	"bytes"
	"cmp"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/store"
	"lastro/store/serve"
	"lastro/store/storetest"
)

// client talks to a whole registry in this process.
type client struct {
	testing.TB
	store  *store.Store
	pushes *Handler
	http.Handler
}

func newClient(t testing.TB, dir string, o Options) *client {
	t.Helper()
	s, err := store.Open(dir, store.Options{Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return clientOf(t, s, o)
}

func clientOf(t testing.TB, s *store.Store, o Options) *client {
	t.Helper()
	pushes, err := New(s, o)
	if err != nil {
		t.Fatal(err)
	}
	h, err := serve.New(s, serve.Options{Push: pushes})
	if err != nil {
		t.Fatal(err)
	}
	return &client{t, s, pushes, h}
}

// do asks, with pairs of header names and values.
func (c *client) do(method, target, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, bytes.NewReader([]byte(body)))
	r.Header.Set("Content-Length", strconv.Itoa(len(body)))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	c.ServeHTTP(w, r)
	return w
}

// must asks, and is answered so.
func (c *client) must(status int, method, target, body string, header ...string) *httptest.ResponseRecorder {
	c.Helper()
	w := c.do(method, target, body, header...)
	if w.Code != status {
		c.Fatalf("%s %.120s: %d %s, want %d", method, target, w.Code, w.Body, status)
	}
	return w
}

// refused asks, and is refused so.
func (c *client) refused(status int, code, method, target, body string, header ...string) string {
	c.Helper()
	w := c.do(method, target, body, header...)
	if w.Code != status || storetest.ErrorCode(c, w) != code {
		c.Errorf("%s %.120s: %d %s, want %d %s", method, target, w.Code, w.Body, status, code)
	}
	return w.Body.String()
}

// blob pushes a blob and says what it is.
func (c *client) blob(repo, content string) ocispec.Descriptor {
	c.Helper()
	d := digest.FromString(content)
	c.must(201, "POST", "/v2/"+repo+"/blobs/uploads/?digest="+d.String(), content)
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: d, Size: int64(len(content))}
}

// document is a manifest in the making.
type document struct {
	SchemaVersion int                  `json:"schemaVersion"`
	MediaType     string               `json:"mediaType,omitempty"`
	ArtifactType  string               `json:"artifactType,omitempty"`
	Config        *ocispec.Descriptor  `json:"config,omitempty"`
	Layers        []ocispec.Descriptor `json:"layers,omitempty"`
	Manifests     []ocispec.Descriptor `json:"manifests,omitempty"`
	Subject       *ocispec.Descriptor  `json:"subject,omitempty"`
}

func (d document) raw() string {
	d.SchemaVersion = 2
	raw, err := json.Marshal(d)
	if err != nil {
		panic(err)
	}
	return string(raw)
}

func (d document) desc() ocispec.Descriptor {
	raw := d.raw()
	return ocispec.Descriptor{MediaType: d.MediaType, Digest: digest.FromString(raw), Size: int64(len(raw))}
}

// image pushes the blobs of an image that is told from others by its name.
func (c *client) image(repo, name string) document {
	c.Helper()
	return document{
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    new(c.blob(repo, `{"architecture":"`+name+`"}`)),
		Layers:    []ocispec.Descriptor{c.blob(repo, "shared"), c.blob(repo, "layer of "+name)},
	}
}

func (c *client) put(repo, ref string, d document) *httptest.ResponseRecorder {
	return c.do("PUT", "/v2/"+repo+"/manifests/"+ref, d.raw(), "Content-Type", cmp.Or(d.MediaType, ocispec.MediaTypeImageManifest))
}

// push pushes an image whole.
func (c *client) push(repo, ref, name string) document {
	c.Helper()
	d := c.image(repo, name)
	if w := c.put(repo, ref, d); w.Code != 201 {
		c.Fatalf("push %s:%s: %d %s", repo, ref, w.Code, w.Body)
	}
	return d
}

func byDigest(repo string, d document) string {
	return "/v2/" + repo + "/manifests/" + d.desc().Digest.String()
}

func blobPath(repo string, d digest.Digest) string { return "/v2/" + repo + "/blobs/" + d.String() }
