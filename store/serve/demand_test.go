package serve

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	"lastro/store/serve/spec"
	"lastro/store/storetest"
)

// demand is an upstream: what it has, and its error for everything else.
type demand struct {
	t         testing.TB
	manifests map[string][]byte // by repo:reference
	blobs     map[digest.Digest][]byte
	missing   error // nil: nothing is known of it

	mu    sync.Mutex // a request that was broken off may go on for a while
	open  func(data []byte, offset int64) (io.ReadCloser, error)
	asked []string
}

func (d *demand) opens(how func(data []byte, offset int64) (io.ReadCloser, error)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open = how
}

func (d *demand) note(what string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = append(d.asked, what)
}

func (d *demand) Manifest(_ context.Context, repo, ref string) (ocispec.Descriptor, []byte, error) {
	d.note(repo + ":" + ref)
	raw, ok := d.manifests[repo+":"+ref]
	if !ok {
		return ocispec.Descriptor{}, nil, d.missing
	}
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromBytes(raw), Size: int64(len(raw))}, raw, nil
}

func (d *demand) Blob(_ context.Context, repo string, want digest.Digest) (mirror.Stream, error) {
	d.note(repo + "@" + want.String())
	data, ok := d.blobs[want]
	if !ok {
		if d.missing == nil {
			return mirror.Stream{}, fs.ErrNotExist
		}
		return mirror.Stream{}, d.missing
	}
	return mirror.Stream{Size: int64(len(data)), Open: func(_ context.Context, offset int64) (io.ReadCloser, error) {
		d.mu.Lock()
		open := d.open
		d.mu.Unlock()
		if open != nil {
			return open(data, offset)
		}
		return io.NopCloser(bytes.NewReader(data[offset:])), nil
	}}, nil
}

func TestWhatIsNotHereIsAskedFor(t *testing.T) {
	s := opened(t, storetest.Folder(t))
	m := storetest.New("a")
	m.MustPut(t, s, "a", "v1")
	blob := bytes.Repeat([]byte("0123456789"), 100_000)
	raw := []byte(`{"schemaVersion":2,"manifests":[]}`)
	far, coming := digest.FromBytes(blob), digest.FromBytes(raw)
	shared := digest.FromString("shared")
	d := &demand{t: t, blobs: map[digest.Digest][]byte{far: blob}, manifests: map[string][]byte{"a:v2": raw, "a:" + coming.String(): raw}}
	h := handler(t, s, Options{Demand: d})
	for _, c := range []struct {
		name, path string
		headers    []string
		status     int
		body       string
		asked      []string
	}{
		{"a manifest that is here", "/v2/a/manifests/v1", nil, 200, string(m.Content[m.Root.Digest]), []string{"a:v1"}},
		{"a manifest that is nowhere", "/v2/a/manifests/v3", nil, 404, "", []string{"a:v3"}},
		{"a manifest that comes", "/v2/a/manifests/v2", nil, 200, string(raw), []string{"a:v2"}},
		{"a manifest that comes, by digest", "/v2/a/manifests/" + coming.String(), nil, 200, string(raw), []string{"a:" + coming.String()}},
		{"a manifest that comes and that the client has", "/v2/a/manifests/v2", []string{"If-None-Match", `"` + coming.String() + `"`}, 304, "", []string{"a:v2"}},
		{"what is no tag", "/v2/a/manifests/-x", nil, 404, "", nil},
		{"a blob that is here", "/v2/a/blobs/" + shared.String(), nil, 200, "shared", nil},
		{"a blob that comes", "/v2/a/blobs/" + far.String(), nil, 200, string(blob), []string{"a@" + far.String()}},
		{"a part of a blob that comes", "/v2/a/blobs/" + far.String(), []string{"Range", "bytes=999990-"}, 206, "0123456789", []string{"a@" + far.String()}},
		{"a middle part", "/v2/a/blobs/" + far.String(), []string{"Range", "bytes=3-7"}, 206, "34567", []string{"a@" + far.String()}},
		{"a blob that comes and that the client has", "/v2/a/blobs/" + far.String(), []string{"If-None-Match", far.String()}, 304, "", []string{"a@" + far.String()}},
		{"a blob that is nowhere", "/v2/a/blobs/" + coming.String(), nil, 404, "", []string{"a@" + coming.String()}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, method := range []string{"GET", "HEAD"} {
				d.asked = nil
				w := storetest.Ask(h, method, c.path, c.headers...)
				if w.Code != c.status || method == "GET" && c.status != 404 && w.Body.String() != c.body || method == "HEAD" && c.status < 400 && w.Body.Len() > 0 {
					t.Errorf("%s: got %d and %d bytes, want %d and %d", method, w.Code, w.Body.Len(), c.status, len(c.body))
				}
				if c.status == 200 && w.Header().Get("Content-Length") != fmt.Sprint(len(c.body)) {
					t.Errorf("%s: %v", method, w.Header())
				}
				if c.status < 400 && (w.Header().Get("Docker-Content-Digest") == "" || w.Header().Get("Etag") != `"`+w.Header().Get("Docker-Content-Digest")+`"`) {
					t.Errorf("%s: %v", method, w.Header())
				}
				if diff := cmp.Diff(c.asked, d.asked); diff != "" {
					t.Errorf("%s: asked %s", method, diff)
				}
			}
		})
	}
}

func TestWhatAnUpstreamCannotGiveIsSaid(t *testing.T) {
	signed := &url.Error{Op: "Get", URL: "https://cdn.example/blob?signature=secret", Err: errors.New("connection refused")}
	for _, c := range []struct {
		name   string
		err    error
		status int
		code   string
		says   string
	}{
		{"what is nowhere", fmt.Errorf("docker.io/a: %w", fs.ErrNotExist), 404, spec.ManifestUnknown, "a has no manifest v1"},
		{"an image that is held", fmt.Errorf("a: %w", &mirror.WithheldError{Repo: "a", Tag: "v1", Reason: "held until tomorrow"}), 404, spec.ManifestUnknown, "a:v1: held until tomorrow"},
		{"an upstream that throttles", fmt.Errorf("a: %w", &mirror.ThrottledError{Host: "docker.io", Until: storetest.Now().Add(1500 * time.Millisecond)}), 429, spec.TooManyRequests, "docker.io limits requests: try again in 2 s"},
		{"an upstream that throttled until now", &mirror.ThrottledError{Host: "docker.io", Until: storetest.Now()}, 429, spec.TooManyRequests, "in 1 s"},
		{"an upstream that fails", errors.New("resolve docker.io/a:v1: 500 Internal Server Error"), 502, spec.Unavailable, "docker.io/a:v1: 500"},
		{"an address with a secret", fmt.Errorf("docker.io/a: %w", signed), 502, spec.Unavailable, "https://cdn.example/blob\\\": connection refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := handler(t, opened(t, storetest.Folder(t)), Options{Demand: &demand{t: t, missing: c.err}, Now: storetest.Now})
			for _, path := range []string{"/v2/a/manifests/v1", "/v2/a/blobs/" + digest.FromString("x").String()} {
				w := storetest.Ask(h, "GET", path)
				code := storetest.ErrorCode(t, w)
				if strings.Contains(path, "blobs") && c.code == spec.ManifestUnknown {
					c.code, c.says = spec.BlobUnknown, ""
				}
				if w.Code != c.status || code != c.code || !strings.Contains(w.Body.String(), c.says) || strings.Contains(w.Body.String(), "secret") {
					t.Errorf("%s: got %d %s", path, w.Code, w.Body)
				}
				if retry := w.Header().Get("Retry-After"); (retry != "") != (c.status == 429) {
					t.Errorf("%s: Retry-After %q", path, retry)
				}
			}
		})
	}
}

// breaking ends with an error after some bytes.
func breaking(data []byte, offset int64) (io.ReadCloser, error) {
	return io.NopCloser(io.MultiReader(bytes.NewReader(data[offset:offset+10]), failing{})), nil
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("the upstream has gone") }

func closed([]byte, int64) (io.ReadCloser, error) { return nil, errors.New("the upstream has gone") }

func TestAStreamThatBreaksIsNeverTakenForWhole(t *testing.T) {
	blob := bytes.Repeat([]byte("0123456789"), 10_000)
	far := digest.FromBytes(blob)
	d := &demand{t: t, blobs: map[digest.Digest][]byte{far: blob}}
	server := httptest.NewServer(handler(t, opened(t, storetest.Folder(t)), Options{Demand: d}))
	defer server.Close()
	get := func(header string) (status int, n int64, err error) {
		r, _ := http.NewRequestWithContext(t.Context(), "GET", server.URL+"/v2/a/blobs/"+far.String(), nil)
		if header != "" {
			r.Header.Set("Range", header)
		}
		w, err := http.DefaultClient.Do(r)
		if err != nil {
			return 0, 0, err
		}
		defer w.Body.Close()
		n, err = io.Copy(io.Discard, w.Body)
		return w.StatusCode, n, err
	}
	d.opens(breaking)
	for _, header := range []string{"", "bytes=100-", "bytes=1-2000,5000-9000"} {
		if status, n, err := get(header); err == nil {
			t.Errorf("range %q: %d with %d bytes and no error", header, status, n)
		}
	}
	d.opens(func(data []byte, offset int64) (io.ReadCloser, error) { // ends early and says nothing of it
		return io.NopCloser(bytes.NewReader(data[offset : offset+10])), nil
	})
	if status, n, err := get(""); err == nil {
		t.Errorf("a short stream: %d with %d bytes and no error", status, n)
	}
	d.opens(closed)
	if status, _, err := get(""); err != nil || status != 502 {
		t.Errorf("a stream that does not open: %d %v", status, err)
	}
	if _, _, err := get("bytes=5-"); err == nil {
		t.Error("a part of a stream that does not open came whole")
	}
}

func TestPullsAreToldOf(t *testing.T) {
	s := opened(t, storetest.Folder(t))
	m := storetest.New("a")
	m.MustPut(t, s, "docker.io/a", "v1")
	var told []string
	h := handler(t, s, Options{
		Names: func(_, name string) (string, bool) { return "docker.io/" + name, true },
		Pulled: func(_ *http.Request, repo, tag string, d digest.Digest) {
			told = append(told, repo+":"+tag+"@"+d.String())
		},
	})
	root := m.Root.Digest.String()
	storetest.Ask(h, "GET", "/v2/a/manifests/v1")
	storetest.Ask(h, "GET", "/v2/a/manifests/"+root)
	storetest.Ask(h, "HEAD", "/v2/a/manifests/v1")
	storetest.Ask(h, "GET", "/v2/a/manifests/v1", "If-None-Match", root)
	storetest.Ask(h, "GET", "/v2/a/manifests/v2")
	storetest.Ask(h, "GET", "/v2/a/blobs/"+digest.FromString("shared").String())
	storetest.Ask(h, "GET", "/v2/a/tags/list")
	if diff := cmp.Diff([]string{"docker.io/a:v1@" + root, "docker.io/a:@" + root}, told); diff != "" {
		t.Error(diff)
	}
}
