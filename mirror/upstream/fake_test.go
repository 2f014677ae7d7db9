package upstream

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote/auth"
)

const (
	index    = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`
	password = "hunter2-secret"
)

var indexDigest = digest.FromString(index)

// open is a registry at an address, with the settings that a test changes.
func open(t *testing.T, host string, s Settings) *Registry {
	t.Helper()
	r, err := Open(host, s, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// serve starts an upstream over plain HTTP that asks for no credentials.
func serve(t *testing.T, h http.HandlerFunc) *Registry {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return open(t, strings.TrimPrefix(srv.URL, "http://"), Settings{PlainHTTP: true, Credentials: Anonymous()})
}

// inProcess is an upstream without a network, for tests that run on fake time.
func inProcess(h http.HandlerFunc) *Registry {
	return inProcessAs("registry.test", Settings{PlainHTTP: true, Credentials: Anonymous()}, h)
}

// inProcessAs is one with a name and settings.
func inProcessAs(host string, s Settings, h http.HandlerFunc) *Registry {
	r, err := Open(host, s, Options{})
	if err != nil {
		panic(err)
	}
	return answered(r, h)
}

// answered makes a registry ask h in place of the network.
func answered(r *Registry, h http.HandlerFunc) *Registry {
	r.transport = roundTrip(func(req *http.Request) (*http.Response, error) {
		if err := req.Context().Err(); err != nil {
			return nil, err
		}
		w := httptest.NewRecorder()
		h(w, req)
		resp := w.Result()
		resp.Request = req
		return resp, nil
	})
	return r
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// as makes a registry use a password.
func as(r *Registry) *Registry {
	return with(r, Credentials{Username: "me", Password: password})
}

// with makes a registry use other credentials.
func with(r *Registry, all ...Credentials) *Registry {
	r.accounts.replace(all, r.newAccount)
	return r
}

// login is what the first credentials of a registry find.
func login(t *testing.T, r *Registry) (auth.Credential, error) {
	t.Helper()
	return r.accounts.all("")[0].login(t.Context())
}

func sendIndex(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
	w.Header().Set("Docker-Content-Digest", indexDigest.String())
	_, _ = io.WriteString(w, index)
}

func refuse(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// wantError checks that an error holds all of the words, and no secret.
func wantError(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q lacks %q", err, w)
		}
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("%q tells a secret", err)
	}
}
