package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// shelf is a registry that takes pushes, as far as a test lets it.
type shelf struct {
	mu        sync.Mutex
	blobs     map[string][]byte // by repository and digest
	manifests map[string][]byte // by repository and tag or digest
	requests  []string          // method and path
	location  string            // where uploads go on; "": here
	referrers bool              // it has a list of referrers
	noMount   bool
	before    func(w http.ResponseWriter, r *http.Request) (answered bool)
}

func newShelf() *shelf { return &shelf{blobs: map[string][]byte{}, manifests: map[string][]byte{}} }

func (s *shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.Method+" "+r.URL.Path)
	before := s.before
	s.mu.Unlock()
	if before != nil && before(w, r) {
		return
	}
	if r.Body == nil { // of a request that went over no network
		r.Body = http.NoBody
	}
	body, err := io.ReadAll(r.Body)
	if err != nil || r.ContentLength > 0 && int64(len(body)) != r.ContentLength {
		return // as a server does whose client has gone
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	name := strings.TrimPrefix(r.URL.Path, "/v2/")
	switch repo, rest, _ := strings.Cut(name, "/blobs/"); {
	case rest == "uploads/" && r.Method == http.MethodPost:
		s.begin(w, r, repo)
	case strings.HasPrefix(rest, "uploads/") && r.Method == http.MethodPut:
		d := r.URL.Query().Get("digest")
		if digest.FromBytes(body).String() != d || r.URL.Query().Get("state") != "a b" {
			refuse(400, `{"errors":[{"code":"DIGEST_INVALID"}]}`)(w, r)
			return
		}
		s.blobs[repo+"@"+d] = body
		w.WriteHeader(http.StatusCreated)
	case rest != "":
		s.head(w, r, s.blobs, repo+"@"+rest)
	default:
		repo, ref, _ := strings.Cut(name, "/manifests/")
		if r.Method == http.MethodPut {
			s.putManifest(w, repo, ref, body)
			return
		}
		s.head(w, r, s.manifests, repo+"@"+ref)
	}
}

func (s *shelf) begin(w http.ResponseWriter, r *http.Request, repo string) {
	if raw, ok := s.blobs[r.URL.Query().Get("from")+"@"+r.URL.Query().Get("mount")]; ok && !s.noMount {
		s.blobs[repo+"@"+r.URL.Query().Get("mount")] = raw
		w.WriteHeader(http.StatusCreated)
		return
	}
	w.Header().Set("Location", s.location+"/v2/"+repo+"/blobs/uploads/1?state=a+b")
	w.WriteHeader(http.StatusAccepted)
}

func (s *shelf) putManifest(w http.ResponseWriter, repo, ref string, body []byte) {
	d := digest.FromBytes(body)
	s.manifests[repo+"@"+ref], s.manifests[repo+"@"+d.String()] = body, body
	w.Header().Set("Docker-Content-Digest", d.String())
	var m ocispec.Manifest
	if json.Unmarshal(body, &m) == nil && m.Subject != nil && s.referrers {
		w.Header().Set("OCI-Subject", m.Subject.Digest.String())
	}
	w.WriteHeader(http.StatusCreated)
}

func (s *shelf) head(w http.ResponseWriter, r *http.Request, all map[string][]byte, key string) {
	raw, ok := all[key]
	if !ok {
		refuse(404, `{"errors":[{"code":"UNKNOWN"}]}`)(w, r)
		return
	}
	w.Header().Set("Docker-Content-Digest", digest.FromBytes(raw).String())
	w.Header().Set("Content-Length", fmt.Sprint(len(raw)))
	if r.Method == http.MethodGet {
		_, _ = w.Write(raw)
	}
}

// sent counts the requests of a method.
func (s *shelf) sent(method string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.requests {
		if strings.HasPrefix(r, method+" ") {
			n++
		}
	}
	return n
}

// target is a registry at an address.
func target(t *testing.T, h http.Handler, s Settings) *Target {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	s.PlainHTTP = true
	to, err := OpenTarget(strings.TrimPrefix(srv.URL, "http://"), "copies", s, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(to.Close)
	return to
}

func anonymous() Settings { return Settings{Credentials: Anonymous()} }

func blobToSend(text string) (ocispec.Descriptor, func(context.Context) (io.ReadCloser, error)) {
	desc := ocispec.Descriptor{Digest: digest.FromString(text), Size: int64(len(text))}
	return desc, func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }
}

func TestABlobIsSentOnceAndTakenFromThereAfterwards(t *testing.T) {
	for _, noMount := range []bool{false, true} {
		s := newShelf()
		s.noMount = noMount
		to := target(t, s, anonymous())
		desc, open := blobToSend("layer")
		if has, err := to.Has(t.Context(), "a", desc, false); has || err != nil {
			t.Fatalf("got %v, %v of an empty registry", has, err)
		}
		for _, repo := range []string{"a", "b"} {
			if err := to.Blob(t.Context(), repo, desc, open); err != nil {
				t.Fatal(err)
			}
			if string(s.blobs["copies/"+repo+"@"+desc.Digest.String()]) != "layer" {
				t.Errorf("%s has not got it", repo)
			}
			if has, err := to.Has(t.Context(), repo, desc, false); !has || err != nil {
				t.Errorf("got %v, %v", has, err)
			}
		}
		if puts := s.sent("PUT"); puts != map[bool]int{false: 1, true: 2}[noMount] {
			t.Errorf("it was sent %d times, no mount: %v", puts, noMount)
		}
	}
}

func TestAnEmptyBlobIsSent(t *testing.T) {
	s := newShelf()
	to := target(t, s, anonymous())
	desc, open := blobToSend("")
	if err := to.Blob(t.Context(), "a", desc, open); err != nil {
		t.Fatal(err)
	}
	if _, ok := s.blobs["copies/a@"+desc.Digest.String()]; !ok {
		t.Error("it is not there")
	}
}

func TestABlobOfAnotherLengthIsNotTheOne(t *testing.T) {
	s := newShelf()
	to := target(t, s, anonymous())
	desc, _ := blobToSend("layer")
	s.blobs["copies/a@"+desc.Digest.String()] = []byte("lay")
	if has, err := to.Has(t.Context(), "a", desc, false); has || err != nil {
		t.Errorf("got %v, %v", has, err)
	}
}

// TestABlobThatBreaksOffIsSentAgain has a server that takes a part, and one whose
// answer is lost.
func TestABlobThatBreaksOffIsSentAgain(t *testing.T) {
	for _, lost := range []bool{false, true} {
		t.Run(fmt.Sprintf("the answer is lost: %v", lost), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newShelf()
				broken := 0
				r := inProcess(func(w http.ResponseWriter, r *http.Request) {
					if r.Method == http.MethodPut && broken < 2 {
						broken++
						if lost {
							s.ServeHTTP(httptest.NewRecorder(), r)
						}
						refuse(http.StatusBadGateway, "")(w, r)
						return
					}
					s.ServeHTTP(w, r)
				})
				to := &Target{r: r, homes: map[digest.Digest]string{}}
				desc, open := blobToSend("layer")
				if err := to.Blob(t.Context(), "a", desc, open); err != nil {
					t.Fatal(err)
				}
				want := map[bool][2]int{false: {3, 3}, true: {1, 1}}[lost]
				if posts, puts := s.sent("POST"), broken+s.sent("PUT"); posts != want[0] || !lost && puts != want[1] {
					t.Errorf("%d uploads began and %d were sent", posts, puts)
				}
				if r.health.isDown() {
					t.Error("the registry counts as down")
				}
			})
		})
	}
}

func TestWhatCannotBeReadIsNotSentAgain(t *testing.T) {
	s := newShelf()
	to := target(t, s, anonymous())
	desc, _ := blobToSend(strings.Repeat("layer", 100_000))
	away := errors.New("the vault is away")
	for name, open := range map[string]func(context.Context) (io.ReadCloser, error){
		"from the start": func(context.Context) (io.ReadCloser, error) { return nil, away },
		"in the middle": func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(strings.NewReader("layer"), failing{away})), nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			s.requests = nil
			err := to.Blob(t.Context(), "a", desc, open)
			if !errors.Is(err, away) || s.sent("POST") != 1 {
				t.Errorf("got %v after %d uploads", err, s.sent("POST"))
			}
			if len(s.blobs) > 0 {
				t.Error("a part of it is there")
			}
		})
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestWhereAnUploadGoesOn(t *testing.T) {
	elsewhere := newShelf()
	var seen string
	elsewhere.before = func(_ http.ResponseWriter, r *http.Request) bool {
		seen = r.Header.Get("Authorization")
		return false
	}
	other := httptest.NewServer(elsewhere)
	defer other.Close()
	s := newShelf()
	s.location = other.URL
	to := target(t, s, Settings{Credentials: []Credentials{{Token: "secret-token"}}})
	desc, open := blobToSend("layer")
	if err := to.Blob(t.Context(), "a", desc, open); err != nil {
		t.Fatal(err)
	}
	if len(elsewhere.blobs) != 1 || seen != "" {
		t.Errorf("elsewhere has %d blobs, and saw %q", len(elsewhere.blobs), seen)
	}
	for _, c := range []struct {
		name, endpoint, location, want, err string
	}{
		{name: "here", endpoint: "https://r.test", location: "/v2/a/blobs/uploads/1?x=1", want: "https://r.test/v2/a/blobs/uploads/1?x=1"},
		{name: "here, by a proxy that does not know of TLS", endpoint: "https://r.test", location: "http://r.test/v2/a", want: "https://r.test/v2/a"},
		{name: "elsewhere", endpoint: "https://r.test", location: "https://store.test/a", want: "https://store.test/a"},
		{name: "elsewhere without TLS", endpoint: "https://r.test", location: "http://store.test/a", err: "http://store.test, which is refused"},
		{name: "nowhere", endpoint: "https://r.test", err: "does not say"},
		{name: "with a password", endpoint: "https://r.test", location: "https://u:secret@r.test/", err: "does not say"},
	} {
		t.Run(c.name, func(t *testing.T) {
			u, err := url.Parse(c.endpoint)
			if err != nil {
				t.Fatal(err)
			}
			to := &Target{r: &Registry{endpoint: u}}
			resp := &http.Response{Header: http.Header{}, Request: &http.Request{URL: u}}
			resp.Header.Set("Location", c.location)
			got, err := to.location(resp)
			if c.err != "" {
				wantError(t, err, c.err)
			} else if err != nil || got.String() != c.want {
				t.Errorf("got %v, %v, want %s", got, err, c.want)
			}
		})
	}
}

func manifestOf(subject *ocispec.Descriptor, name string) (ocispec.Descriptor, []byte) {
	raw, _ := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: "application/" + name,
		Config: ocispec.DescriptorEmptyJSON, Layers: []ocispec.Descriptor{}, Subject: subject, Annotations: map[string]string{"name": name},
	})
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(raw), Size: int64(len(raw))}, raw
}

func TestAManifestIsPublishedUnderItsTag(t *testing.T) {
	s := newShelf()
	to := target(t, s, anonymous())
	desc, raw := manifestOf(nil, "image")
	if _, err := to.Resolve(t.Context(), "a", "1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if err := to.Publish(t.Context(), "a", "1", desc, raw); err != nil {
		t.Fatal(err)
	}
	if d, err := to.Resolve(t.Context(), "a", "1"); d != desc.Digest || err != nil {
		t.Errorf("got %s, %v", d, err)
	}
	if has, err := to.Has(t.Context(), "a", desc, true); !has || err != nil {
		t.Errorf("got %v, %v", has, err)
	}
	other, _ := manifestOf(nil, "other")
	if has, err := to.Has(t.Context(), "a", other, true); has || err != nil {
		t.Errorf("got %v, %v", has, err)
	}
}

// TestReferrersAreListedWhereTheRegistryDoesNot pushes two, one of them twice.
func TestReferrersAreListedWhereTheRegistryDoesNot(t *testing.T) {
	for _, lists := range []bool{false, true} {
		s := newShelf()
		s.referrers = lists
		to := target(t, s, anonymous())
		subject, _ := manifestOf(nil, "image")
		var want []digest.Digest
		for _, name := range []string{"signature", "sbom", "signature"} {
			desc, raw := manifestOf(&subject, name)
			if want = append(want, desc.Digest); len(want) > 2 {
				want = want[:2]
			}
			if err := to.Publish(t.Context(), "a", "", desc, raw); err != nil {
				t.Fatal(err)
			}
		}
		var idx ocispec.Index
		var got []digest.Digest
		if raw := s.manifests["copies/a@"+strings.Replace(subject.Digest.String(), ":", "-", 1)]; raw != nil {
			if err := json.Unmarshal(raw, &idx); err != nil {
				t.Fatal(err)
			}
		}
		for _, d := range idx.Manifests {
			got = append(got, d.Digest)
			if d.ArtifactType == "" || d.Annotations["name"] == "" || d.Size == 0 {
				t.Errorf("listed as %+v", d)
			}
		}
		if lists {
			want = nil
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("lists: %v: %s", lists, diff)
		}
	}
}

func TestARefusalIsOfOneThing(t *testing.T) {
	for status, one := range map[int]bool{400: true, 401: true, 403: true, 404: true, 413: true, 500: false} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				to := &Target{r: inProcess(refuse(status, `{"errors":[{"code":"NO","message":"quota"}]}`))}
				desc, raw := manifestOf(nil, "image")
				err := to.Publish(t.Context(), "a", "1", desc, raw)
				wantError(t, err, "NO: quota")
				var r interface{ Refused() bool }
				if got := errors.As(err, &r) && r.Refused(); got != one {
					t.Errorf("got %v of %v", got, err)
				}
			})
		})
	}
}

func TestARegistryThatChangesAManifestIsFoundOut(t *testing.T) {
	s := newShelf()
	s.before = func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Docker-Content-Digest", digest.FromString("another").String())
		w.WriteHeader(http.StatusCreated)
		return true
	}
	desc, raw := manifestOf(nil, "image")
	wantError(t, target(t, s, anonymous()).Publish(t.Context(), "a", "1", desc, raw), digest.FromString("another").String(), desc.Digest.String())
}

// TestATokenToPushIsGot has a token server that gives the scope that is asked for.
func TestATokenToPushIsGot(t *testing.T) {
	s := newShelf()
	var scopes []string
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			scopes = append(scopes, strings.Join(r.URL.Query()["scope"], " "))
			_ = json.NewEncoder(w).Encode(map[string]any{"token": strings.Join(r.URL.Query()["scope"], "+"), "expires_in": 300})
			return
		}
		right := "pull"
		if r.Method != http.MethodHead {
			right = "pull,push"
		}
		if got := r.Header.Get("Authorization"); !strings.Contains(got, "copies/") || right == "pull,push" && !strings.Contains(got, right) {
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="r",scope="repository:copies/a:%s"`, r.Host, right))
			refuse(401, "")(w, r)
			return
		}
		s.ServeHTTP(w, r)
	})
	to := target(t, h, Settings{Credentials: []Credentials{{Username: "me", Password: password}}})
	desc, open := blobToSend("layer")
	if has, err := to.Has(t.Context(), "a", desc, false); has || err != nil {
		t.Fatalf("got %v, %v", has, err)
	}
	if err := to.Blob(t.Context(), "a", desc, open); err != nil {
		t.Fatal(err)
	}
	if len(s.blobs) != 1 || !slices.Contains(scopes, "repository:copies/a:pull,push") {
		t.Errorf("got %d blobs with %q", len(s.blobs), scopes)
	}
}

// stuckBody gives bytes for ever, to a server that does not take them.
type stuckBody struct{}

func (stuckBody) Read(p []byte) (int, error) { return len(p), nil }

func TestAServerThatTakesNothingIsNotWaitedForForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		r := inProcess(nil)
		r.transport = roundTrip(func(req *http.Request) (*http.Response, error) {
			if req.Method != http.MethodPut {
				return answered(inProcess(nil), s.ServeHTTP).transport.RoundTrip(req)
			}
			defer req.Body.Close()
			if _, err := io.CopyN(io.Discard, req.Body, 1<<20); err != nil {
				return nil, err
			}
			<-req.Context().Done() // the window is full, and stays so
			return nil, req.Context().Err()
		})
		to := &Target{r: r, homes: map[digest.Digest]string{}}
		desc := ocispec.Descriptor{Digest: digest.FromString("large"), Size: 1 << 30}
		began := time.Now()
		err := to.Blob(t.Context(), "a", desc, func(context.Context) (io.ReadCloser, error) { return io.NopCloser(stuckBody{}), nil })
		wantError(t, err, "taken", "registry.test")
		if took := time.Since(began); took < stallTimeout || took > 10*maxAttempts*stallTimeout {
			t.Errorf("it took %v", took)
		}
	})
}
