package upstream

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
)

// mirrored is an upstream with a mirror, neither of them on a network. The
// upstream has credentials, and what it is asked it answers with main.
func mirrored(main, second http.HandlerFunc, more ...Credentials) *Registry {
	r := inProcessAs("registry.test", Settings{
		PlainHTTP: true, Credentials: users("me"), Mirrors: []Mirror{{URL: "http://mirror.test", Credentials: more}},
	}, func(w http.ResponseWriter, req *http.Request) {
		if _, _, ok := req.BasicAuth(); !ok {
			w.Header().Set("WWW-Authenticate", "Basic")
			refuse(401, "")(w, req)
			return
		}
		main(w, req)
	})
	answered(r.mirrors[0], second)
	return r
}

func TestAMirrorHelpsWithContent(t *testing.T) {
	for _, c := range []struct {
		name          string
		fault         http.HandlerFunc
		content, tags bool // whether the mirror is asked
	}{
		{"when the upstream is down", refuse(500, ""), true, true},
		{"when it limits requests", after(429, "3600"), true, false},
		{"when it does not have it", refuse(404, ""), true, false},
		{"but not when we may not have it", refuse(403, ""), false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var leaked bool
				second := func(w http.ResponseWriter, req *http.Request) {
					leaked = leaked || req.Header.Get("Authorization") != ""
					if strings.Contains(req.URL.Path, "/blobs/") {
						http.ServeContent(w, req, "", time.Time{}, strings.NewReader(index))
						return
					}
					sendIndex(w, req)
				}
				r := mirrored(c.fault, second)
				check := func(what string, want bool, err error) {
					t.Helper()
					if (err == nil) != want {
						t.Errorf("%s: %v, want from the mirror: %v", what, err, want)
					}
				}
				_, err := r.Head(t.Context(), "a", indexDigest.String())
				check("HEAD by digest", c.content, err)
				_, _, err = r.Manifest(t.Context(), "a", indexDigest.String())
				check("a manifest by digest", c.content, err)
				body, _, err := r.Blob(t.Context(), "a", blobOf(index), 3)
				check("a blob", c.content, err)
				if err == nil {
					got, _ := io.ReadAll(body)
					body.Close()
					if string(got) != index[3:] {
						t.Errorf("got %q", got)
					}
				}
				body, err = r.Range(t.Context(), "a", blobOf(index), 3, 4)
				check("a part", c.content, err)
				if err == nil {
					body.Close()
				}
				_, err = r.Head(t.Context(), "a", "v1")
				check("HEAD by tag", c.tags, err)
				_, _, err = r.Manifest(t.Context(), "a", "v1")
				check("a manifest by tag", c.tags, err)
				for _, err := range r.Tags(t.Context(), "a") {
					check("tags", false, err)
				}
				if leaked {
					t.Error("the mirror saw credentials")
				}
			})
		})
	}
}

func TestAMirrorHasItsOwnCredentials(t *testing.T) {
	d := &doors{open: map[string]string{"a": "other"}}
	r := mirrored(refuse(404, ""), d.ServeHTTP, users("other")...)
	if _, err := r.Head(t.Context(), "a", indexDigest.String()); err != nil {
		t.Fatal(err)
	}
	if asked := d.forget(); asked != "nobody other" {
		t.Errorf("asked by %s", asked)
	}
}

func TestWhatAMirrorDoesNotHaveMayStillBeThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := mirrored(refuse(500, ""), refuse(404, ""))
		for _, ref := range []string{"v1", indexDigest.String()} {
			_, err := r.Head(t.Context(), "a", ref)
			if errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: a mirror's 404 is taken for the upstream's", ref)
			}
			wantError(t, err, "upstream registry.test: HEAD manifests/"+ref+" of a: 500", "; upstream mirror.test: ", "404 Not Found")
		}
		r = mirrored(refuse(404, ""), refuse(500, ""))
		if _, err := r.Head(t.Context(), "a", indexDigest.String()); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v, want that the upstream does not have it", err)
		}
	})
}

func TestWhatAMirrorSendsIsChecked(t *testing.T) {
	r := mirrored(refuse(404, ""), func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "other") })
	_, _, err := r.Manifest(t.Context(), "a", indexDigest.String())
	wantError(t, err, "404", "mirror.test", "wrong digest")
}

func TestAnUpstreamThatIsDownIsAskedLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := true
		r := mirrored(func(w http.ResponseWriter, req *http.Request) {
			if down {
				refuse(500, "")(w, req)
				return
			}
			sendIndex(w, req)
		}, sendIndex)
		content := func() int64 {
			t.Helper()
			before := r.requests.Load()
			if _, err := r.Head(t.Context(), "a", indexDigest.String()); err != nil {
				t.Error(err)
			}
			return r.requests.Load() - before
		}
		if n := content(); n < maxAttempts {
			t.Errorf("given up after %d requests", n)
		}
		if n := content(); n != 0 {
			t.Errorf("%d requests to an upstream that is down", n)
		}
		time.Sleep(restAfter)
		down = false
		if n := content(); n != 1 || r.mirrors[0].requests.Load() != 2 {
			t.Errorf("later: %d requests, and %d to the mirror", n, r.mirrors[0].requests.Load())
		}
	})
}

func TestAMirrorHelpsWhenStreamsBreakOffAgainAndAgain(t *testing.T) {
	broken := true
	whole := func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, index) }
	r := mirrored(whole, whole)
	real := r.transport
	r.transport = roundTrip(func(req *http.Request) (*http.Response, error) {
		resp, err := real.RoundTrip(req)
		if err == nil && broken && resp.StatusCode == http.StatusOK {
			resp.Body, resp.ContentLength = io.NopCloser(brokenReader{}), -1
		}
		return resp, err
	})
	read := func() error {
		body, _, err := r.Blob(t.Context(), "a", blobOf(index), 0)
		if err != nil {
			t.Fatal(err)
		}
		defer body.Close()
		_, err = io.ReadAll(body)
		return err
	}
	for range toleratedBreaks {
		if err := read(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("got %v, want a stream that breaks off", err)
		}
	}
	before := r.requests.Load()
	if err := read(); err != nil || r.requests.Load() != before {
		t.Errorf("got %v, and the upstream was asked %d times", err, r.requests.Load()-before)
	}
	r.mirrors[0].breaks.of = map[digest.Digest]int{blobOf(index).Digest: toleratedBreaks}
	broken = false
	for range 2 {
		before := r.requests.Load()
		if err := read(); err != nil || r.requests.Load() == before {
			t.Errorf("got %v; the upstream was not asked though its streams are no worse", err)
		}
	}
	if len(r.breaks.of) != 0 {
		t.Error("it is remembered that streams broke off, though one was whole since")
	}
}

func TestAMirrorHelpsWhenNothingConnects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := mirrored(nil, sendIndex)
		r.transport = roundTrip(func(*http.Request) (*http.Response, error) {
			return nil, &net.DNSError{Err: "no such host", Name: "registry.test", IsNotFound: true}
		})
		for _, ref := range []string{"v1", indexDigest.String()} {
			if _, err := r.Head(t.Context(), "a", ref); err != nil {
				t.Errorf("%s: %v", ref, err)
			}
		}
	})
}

func TestThrottlingSurvivesMirrorsThatCannotHelp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := mirrored(after(429, "3600"), refuse(404, ""))
		_, err := r.Head(t.Context(), "a", indexDigest.String())
		if e := throttled(t, err); e.Host != "registry.test" {
			t.Errorf("%+v", e)
		}
		if r.Requests() != r.requests.Load()+r.mirrors[0].requests.Load() || r.mirrors[0].requests.Load() == 0 {
			t.Errorf("%d requests", r.Requests())
		}
	})
}

func TestALayerIsContinuedThoughItsTokenEndedMeanwhile(t *testing.T) {
	content := strings.Repeat("0123456789", 100)
	g := &guarded{t: t}
	cut := true
	r := serve(t, func(w http.ResponseWriter, req *http.Request) {
		rec := &swallow{header: http.Header{}}
		if !strings.Contains(req.URL.Path, "/blobs/") {
			g.ServeHTTP(w, req)
			return
		}
		req.URL.Path = strings.Replace(req.URL.Path, "/blobs/", "/manifests/", 1)
		if g.ServeHTTP(rec, req); rec.status == 401 {
			maps.Copy(w.Header(), rec.header)
			w.WriteHeader(401)
			return
		}
		if cut {
			cut = false
			g.revoked.Store(g.issued.Load())
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, content[:400])
			return
		}
		http.ServeContent(w, req, "", time.Time{}, strings.NewReader(content))
	})
	desc := blobOf(content)
	body, _, err := r.Blob(t.Context(), "a", desc, 0)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(body)
	body.Close()
	if len(got) != 400 || err == nil {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	body, start, err := r.Blob(t.Context(), "a", desc, int64(len(got)))
	if err != nil || start != 400 {
		t.Fatalf("continues at %d, %v", start, err)
	}
	rest, err := io.ReadAll(body)
	body.Close()
	if digest.FromBytes(append(got, rest...)) != desc.Digest || err != nil || g.issued.Load() != 2 {
		t.Errorf("%d bytes more, %v, %d tokens", len(rest), err, g.issued.Load())
	}
}

// swallow keeps what a handler says for itself.
type swallow struct {
	header http.Header
	status int
}

func (s *swallow) Header() http.Header         { return s.header }
func (s *swallow) WriteHeader(status int)      { s.status = status }
func (s *swallow) Write(p []byte) (int, error) { return len(p), nil }

func TestALayerIsContinuedThoughItsContentServerChanges(t *testing.T) {
	const content = "0123456789"
	for _, c := range []struct {
		name  string
		next  http.HandlerFunc // the second content server
		start int64
	}{
		{"to one that continues", func(w http.ResponseWriter, req *http.Request) {
			http.ServeContent(w, req, "", time.Time{}, strings.NewReader(content))
		}, 4},
		{"to one that begins again", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, content) }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			place := "http://first.test/x?signature=secret"
			r := inProcess(func(w http.ResponseWriter, req *http.Request) {
				switch req.URL.Host {
				case "registry.test":
					http.Redirect(w, req, place, http.StatusTemporaryRedirect)
				case "first.test":
					http.ServeContent(w, req, "", time.Time{}, strings.NewReader(content))
				default:
					c.next(w, req)
				}
			})
			body, _, err := r.Blob(t.Context(), "a", blobOf(content), 0)
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, 4)
			_, _ = io.ReadFull(body, got)
			body.Close()
			place = "http://second.test/y?signature=secret"
			body, start, err := r.Blob(t.Context(), "a", blobOf(content), 4)
			if err != nil || start != c.start {
				t.Fatalf("continues at %d, %v", start, err)
			}
			defer body.Close()
			if rest, err := io.ReadAll(body); string(rest) != content[start:] || err != nil {
				t.Errorf("got %q, %v", rest, err)
			}
		})
	}
}
