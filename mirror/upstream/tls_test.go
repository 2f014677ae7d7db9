package upstream

import (
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// private starts an upstream whose CA nobody knows.
func private(t *testing.T, h http.HandlerFunc) (srv *httptest.Server, host, ca string) {
	t.Helper()
	srv = httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.EnableHTTP2 = true
	srv.StartTLS()
	t.Cleanup(srv.Close)
	ca = filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	if err := os.WriteFile(ca, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return srv, strings.TrimPrefix(srv.URL, "https://"), ca
}

func TestAPrivateCAIsTrustedWhenItIsNamed(t *testing.T) {
	var proto atomic.Value
	_, host, ca := private(t, func(w http.ResponseWriter, r *http.Request) {
		proto.Store(r.Proto)
		sendIndex(w, r)
	})
	r := open(t, host, Settings{CA: ca, Credentials: Anonymous()})
	if _, err := r.Head(t.Context(), "a", "v1"); err != nil {
		t.Fatal(err)
	}
	if proto.Load() != "HTTP/2.0" {
		t.Errorf("spoke %v", proto.Load())
	}
	r = open(t, host, Settings{Credentials: Anonymous()})
	_, err := r.Head(t.Context(), "a", "v1")
	wantError(t, err, "certificate", "upstreams."+host+".ca")
	if r.Requests() != 1 {
		t.Errorf("%d requests, though trying again cannot help", r.Requests())
	}
}

func TestACAThatCannotBeReadIsSaidAtOnce(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, []byte("no PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, ca := range []string{empty, empty + "x"} {
		_, err := Open("a.test", Settings{CA: ca}, Options{})
		wantError(t, err, "upstream a.test: ca: ", ca)
	}
}

func TestTLSAndPlainHTTPAreToldApart(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(sendIndex))
	defer plain.Close()
	host := strings.TrimPrefix(plain.URL, "http://")
	_, err := open(t, host, Settings{Credentials: Anonymous()}).Head(t.Context(), "a", "v1")
	wantError(t, err, "upstreams."+host+".plain-http: true")

	_, host, _ = private(t, sendIndex)
	_, _, err = open(t, host, Settings{PlainHTTP: true, Credentials: Anonymous()}).Manifest(t.Context(), "a", "v1")
	wantError(t, err, "400 Bad Request", "remove upstreams."+host+".plain-http")
}

func TestARedirectFromTLSToPlainHTTPIsRefused(t *testing.T) {
	reached := false
	plain := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer plain.Close()
	_, host, ca := private(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, plain.URL+"/?signature=secret", http.StatusFound)
	})
	_, _, err := open(t, host, Settings{CA: ca, Credentials: Anonymous()}).Blob(t.Context(), "a", blobOf("x"), 0)
	wantError(t, err, "redirects from https to http://", "refused")
	if reached {
		t.Error("it was followed")
	}
}

// TestARealRegistryIsRead reads what another implementation serves.
func TestARealRegistryIsRead(t *testing.T) {
	srv := httptest.NewServer(registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0))))
	defer srv.Close()
	put := func(path, kind, body string) {
		t.Helper()
		method := http.MethodPut
		if strings.Contains(path, "/uploads/") {
			method = http.MethodPost
		}
		req, _ := http.NewRequestWithContext(t.Context(), method, srv.URL+path, strings.NewReader(body))
		req.Header.Set("Content-Type", kind)
		resp, err := http.DefaultClient.Do(req)
		if err != nil || resp.StatusCode != http.StatusCreated {
			t.Fatalf("%s: %v, %v", path, resp, err)
		}
		resp.Body.Close()
	}
	const content = "0123456789"
	put("/v2/org/app/blobs/uploads/?digest="+blobOf(content).Digest.String(), "application/octet-stream", content)
	put("/v2/org/app/manifests/v1", ocispec.MediaTypeImageIndex, index)
	signature := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":10},"layers":[],"subject":{"mediaType":%q,"digest":%q,"size":%d}}`,
		ocispec.MediaTypeImageManifest, blobOf(content).Digest, ocispec.MediaTypeImageIndex, indexDigest, len(index))
	put("/v2/org/app/manifests/"+digest.FromString(signature).String(), ocispec.MediaTypeImageManifest, signature)

	r := open(t, strings.TrimPrefix(srv.URL, "http://"), Settings{PlainHTTP: true, Credentials: Anonymous()})
	if desc, err := r.Head(t.Context(), "org/app", "v1"); err != nil || desc.Digest != indexDigest {
		t.Errorf("head: %v, %v", desc, err)
	}
	if _, raw, err := r.Manifest(t.Context(), "org/app", indexDigest.String()); err != nil || string(raw) != index {
		t.Errorf("manifest: %q, %v", raw, err)
	}
	if names, err := collect(r.Repositories(t.Context())); err != nil || strings.Join(names, " ") != "org/app" {
		t.Errorf("catalog: %q, %v", names, err)
	}
	if tags, err := collect(r.Tags(t.Context(), "org/app")); err != nil || !strings.Contains(strings.Join(tags, " "), "v1") {
		t.Errorf("tags: %q, %v", tags, err)
	}
	if found, err := r.Referrers(t.Context(), "org/app", indexDigest); err != nil || len(found) != 1 || found[0].Digest != digest.FromString(signature) {
		t.Errorf("referrers: %v, %v", found, err)
	}
	for _, offset := range []int64{0, 4} {
		body, start, err := r.Blob(t.Context(), "org/app", blobOf(content), offset)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(body)
		body.Close()
		if string(got) != content[start:] || err != nil || start != offset {
			t.Errorf("blob from %d: %q from %d, %v", offset, got, start, err)
		}
	}
}
