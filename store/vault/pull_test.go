package vault_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/store"
	"lastro/store/serve"
	"lastro/store/vault/bucket"
	"lastro/store/vault/layout"
	"lastro/store/vault/pull"
)

// watchedBucket counts requests, each of which takes a while. When it is away none
// is answered.
type watchedBucket struct {
	bucket.Bucket
	latency time.Duration
	hold    chan struct{} // contents come when it is closed; nil: at once
	away    atomic.Bool

	mu    sync.Mutex
	asked []string
}

var errAway = errors.New("connection refused")

func (b *watchedBucket) ask(key string) error {
	<-time.After(b.latency)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked = append(b.asked, key)
	if b.away.Load() {
		return errAway
	}
	return nil
}

func (b *watchedBucket) taken() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	asked := b.asked
	b.asked = nil
	return asked
}

func (b *watchedBucket) Load(ctx context.Context, key string) (bucket.Record, error) {
	if err := b.ask(key); err != nil {
		return bucket.Record{}, err
	}
	return b.Bucket.Load(ctx, key)
}

func (b *watchedBucket) Get(ctx context.Context, key string, offset int64) (io.ReadCloser, bucket.Info, error) {
	if err := b.ask(key); err != nil {
		return nil, bucket.Info{}, err
	}
	if b.hold != nil {
		<-b.hold
	}
	return b.Bucket.Get(ctx, key, offset)
}

// puller serves a vault from an empty store.
type puller struct {
	*httptest.Server
	store  *store.Store
	bucket *watchedBucket
}

func pullFrom(t *testing.T, dir string, st *store.Store, b *watchedBucket, o pull.Options) *puller {
	t.Helper()
	v := openVault(t, dir, &clock{}, func(real bucket.Bucket) bucket.Bucket { b.Bucket = real; return b })
	snap, err := pull.Open(t.Context(), v.Catalog, st, o)
	if err != nil {
		t.Fatal(err)
	}
	h, err := serve.New(st, serve.Options{Demand: snap, Lists: snap.Lists})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") != "" {
			r = r.WithContext(pull.Verified(r.Context()))
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { server.Close(); snap.Close() })
	return &puller{server, st, b}
}

// answer is what a client sees. Broken is an answer that is not whole.
type answer struct {
	Status int
	Header http.Header
	Body   string
	Broken bool
}

func ask(t tester, method, url string, header ...string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(header) > 0 {
		r.Header.Set(header[0], header[1])
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return answer{Broken: true}
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	res.Header.Del("Date")
	return answer{res.StatusCode, res.Header, string(body), err != nil}
}

// saved is a vault with one of everything, and the store that it is of.
func saved(t *testing.T) (dir string, st *store.Store) {
	t.Helper()
	c := &clock{}
	st, dir = newStore(t, c), t.TempDir()
	sample(t, st)
	backup(t, openVault(t, dir, c, nil), st)
	return dir, st
}

// everything is all that can be asked of a store.
func everything(t *testing.T, st *store.Store) (paths []string) {
	t.Helper()
	paths = []string{"", "_catalog", "_catalog?n=2", "_catalog?n=1&last=docker.io/library/a", "none/tags/list", "none/manifests/1"}
	for repo := range st.Repositories(t.Context()) {
		paths = append(paths, repo+"/tags/list", repo+"/tags/list?n=1", repo+"/manifests/none", repo+"/blobs/"+digest.FromString("none").String())
		for tag := range st.Tags(t.Context(), repo) {
			paths = append(paths, repo+"/manifests/"+tag.Name)
		}
		for d := range st.Revisions(t.Context(), repo) {
			paths = append(paths, repo+"/manifests/"+d.String(), repo+"/referrers/"+d.String())
			all, err := st.Closure(t.Context(), repo, d)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range all {
				paths = append(paths, repo+"/blobs/"+c.Digest.String())
			}
		}
	}
	return paths
}

func TestASnapshotAnswersAsTheStoreThatItIsOf(t *testing.T) {
	dir, st := saved(t)
	h, err := serve.New(st, serve.Options{})
	if err != nil {
		t.Fatal(err)
	}
	real := httptest.NewServer(h)
	t.Cleanup(real.Close)
	for _, order := range []string{"from the first on", "from the last on"} {
		t.Run(order, func(t *testing.T) {
			p := pullFrom(t, dir, newStore(t, &clock{}), &watchedBucket{}, pull.Options{})
			paths := everything(t, st)
			for i := range paths {
				path := paths[i]
				if order == "from the last on" {
					path = paths[len(paths)-1-i]
				}
				isManifest := strings.Contains(path, "/blobs/") && ask(t, http.MethodGet, real.URL+"/v2/"+strings.Replace(path, "/blobs/", "/manifests/", 1)).Status == http.StatusOK
				if isManifest {
					continue // a store may have it as both, and a snapshot says which it is
				}
				for _, method := range []string{http.MethodGet, http.MethodHead} {
					want, got := ask(t, method, real.URL+"/v2/"+path), ask(t, method, p.URL+"/v2/"+path)
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("%s %s (-store +snapshot):\n%s", method, path, diff)
					}
				}
				want, got := ask(t, http.MethodGet, real.URL+"/v2/"+path, "Range", "bytes=2-5"), ask(t, http.MethodGet, p.URL+"/v2/"+path, "Range", "bytes=2-5")
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("a part of %s (-store +snapshot):\n%s", path, diff)
				}
			}
			if got := stateOf(t, p.store); len(got.Tags)+len(got.Manifests)+len(got.History) > 0 {
				t.Errorf("what was pulled is visible in the store: %+v", got)
			}
		})
	}
}

func TestTheFirstPullReadsNothingThatItDoesNotNeed(t *testing.T) {
	dir, _ := saved(t)
	p := pullFrom(t, dir, newStore(t, &clock{}), &watchedBucket{}, pull.Options{})
	if got := p.bucket.taken(); len(got) != 4 || got[0] != layout.KeyConfig || got[1] != layout.KeyHead {
		t.Errorf("it starts with %q, want config, head, record and root", got)
	}
	img := plain("a-2", sharedLayer())
	for _, path := range []string{"manifests/2", "blobs/" + sharedLayer().desc.Digest.String()} {
		if got := ask(t, http.MethodGet, p.URL+"/v2/docker.io/library/a/"+path); got.Status != http.StatusOK {
			t.Fatalf("%s: %+v", path, got)
		}
	}
	if got := p.bucket.taken(); len(got) != 3 {
		t.Errorf("the first pull of one layer of %v reads %q, want index, manifest and layer", img.root.desc.Digest, got)
	}
	ask(t, http.MethodGet, p.URL+"/v2/docker.io/library/a/manifests/2")
	ask(t, http.MethodGet, p.URL+"/v2/docker.io/library/a/blobs/"+sharedLayer().desc.Digest.String())
	if got := p.bucket.taken(); len(got) != 0 {
		t.Errorf("the second pull reads %q, want nothing", got)
	}
}

func TestARepositoryServesNothingOfAnother(t *testing.T) {
	dir, _ := saved(t)
	p := pullFrom(t, dir, newStore(t, &clock{}), &watchedBucket{}, pull.Options{})
	other := sharedLayer().desc.Digest.String() // of docker.io/library/a
	if got := ask(t, http.MethodGet, p.URL+"/v2/docker.io/library/a/manifests/2"); got.Status != http.StatusOK {
		t.Fatal(got)
	}
	if got := ask(t, http.MethodGet, p.URL+"/v2/ghcr.io/c/blobs/"+other); got.Status != http.StatusNotFound {
		t.Errorf("got %d for a blob of another repository, want 404", got.Status)
	}
}

// large is an image of one layer in a vault.
func large(t *testing.T) (dir string, layer content) {
	t.Helper()
	c := &clock{}
	st := newStore(t, c)
	dir, layer = t.TempDir(), newContent(ocispec.MediaTypeImageLayer, noise(1, 300_000))
	publish(t, st, "app", "1", plain("app", layer))
	publish(t, st, "app", "2", plain("other"))
	backup(t, openVault(t, dir, c, nil), st)
	return dir, layer
}

func TestEightClientsOfALayerMakeOneRequest(t *testing.T) {
	dir, layer := large(t)
	b := &watchedBucket{}
	p := pullFrom(t, dir, newStore(t, &clock{}), b, pull.Options{})
	ask(t, http.MethodGet, p.URL+"/v2/app/manifests/1")
	b.taken()
	b.hold = make(chan struct{})
	var clients sync.WaitGroup
	begun := make(chan struct{}, 8)
	for range 8 {
		clients.Go(func() {
			begun <- struct{}{}
			if got := ask(t, http.MethodGet, p.URL+"/v2/app/blobs/"+layer.desc.Digest.String()); got.Body != string(layer.raw) {
				t.Errorf("got %d and %d bytes", got.Status, len(got.Body))
			}
		})
	}
	for range 8 {
		<-begun
	}
	close(b.hold)
	clients.Wait()
	if got := b.taken(); len(got) != 1 {
		t.Errorf("the bucket was asked for %q, want one layer", got)
	}
}

func TestWrongBytesInTheBucketAreNeverAWholeAnswer(t *testing.T) {
	for _, tt := range []struct {
		name   string
		damage func(raw []byte) []byte
	}{
		{"a byte in the middle", func(raw []byte) []byte { raw[150_000] ^= 1; return raw }},
		{"the first byte", func(raw []byte) []byte { raw[0] ^= 1; return raw }},
		{"the last byte", func(raw []byte) []byte { raw[len(raw)-1] ^= 1; return raw }},
		{"a truncated object", func(raw []byte) []byte { return raw[:200_000] }},
		{"an object that is too long", func(raw []byte) []byte { return append(raw, 0) }},
		{"an object that is gone", func([]byte) []byte { return nil }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir, layer := large(t)
			file := filepath.Join(dir, layout.BlobKey(layer.desc.Digest))
			err := os.Remove(file)
			if bad := tt.damage(bytes.Clone(layer.raw)); bad != nil {
				err = errors.Join(err, os.WriteFile(file, bad, 0o600))
			}
			if err != nil {
				t.Fatal(err)
			}
			p := pullFrom(t, dir, newStore(t, &clock{}), &watchedBucket{}, pull.Options{})
			ask(t, http.MethodGet, p.URL+"/v2/app/manifests/1")
			url := p.URL + "/v2/app/blobs/" + layer.desc.Digest.String()
			for range 2 {
				got := ask(t, http.MethodGet, url)
				if !got.Broken && got.Status != http.StatusBadGateway {
					t.Errorf("got %d and %d bytes, want a broken connection or 502", got.Status, len(got.Body))
				}
				if got := ask(t, http.MethodGet, url, "Range", "bytes=0-9"); !got.Broken && got.Status < 500 {
					t.Errorf("got %d and %d bytes for a part", got.Status, len(got.Body))
				}
			}
			if has, err := p.store.Has(t.Context(), layer.desc); has || err != nil {
				t.Errorf("the store keeps what is wrong (%v)", err)
			}
			if got := ask(t, http.MethodGet, p.URL+"/v2/app/manifests/2"); got.Status != http.StatusOK {
				t.Errorf("another image: %d", got.Status)
			}
		})
	}
}

func TestADamagedManifestIsSaidAndNotServed(t *testing.T) {
	dir, layer := large(t)
	img := plain("app", layer)
	file := filepath.Join(dir, layout.BlobKey(img.root.desc.Digest))
	raw := bytes.Clone(img.root.raw)
	raw[len(raw)-2] ^= 1
	if err := errors.Join(os.Remove(file), os.WriteFile(file, raw, 0o600)); err != nil {
		t.Fatal(err)
	}
	p := pullFrom(t, dir, newStore(t, &clock{}), &watchedBucket{}, pull.Options{})
	got := ask(t, http.MethodGet, p.URL+"/v2/app/manifests/1")
	if got.Status != http.StatusBadGateway || !strings.Contains(got.Body, "damaged in vault main") {
		t.Errorf("got %d %s", got.Status, got.Body)
	}
	if got := ask(t, http.MethodGet, p.URL+"/v2/app/manifests/2"); got.Status != http.StatusOK {
		t.Errorf("another image: %d", got.Status)
	}
}

func TestAVaultThatGoesAwayLeavesWhatWasPulled(t *testing.T) {
	dir, layer := large(t)
	b := &watchedBucket{}
	p := pullFrom(t, dir, newStore(t, &clock{}), b, pull.Options{})
	pulled := []string{"app/manifests/1", "app/blobs/" + layer.desc.Digest.String(), "app/tags/list", "_catalog"}
	for _, path := range pulled {
		ask(t, http.MethodGet, p.URL+"/v2/"+path)
	}
	b.away.Store(true)
	for _, path := range pulled {
		if got := ask(t, http.MethodGet, p.URL+"/v2/"+path); got.Status != http.StatusOK || got.Broken {
			t.Errorf("%s was pulled and is answered with %d", path, got.Status)
		}
	}
	for _, path := range []string{"app/manifests/2", "app/referrers/" + layer.desc.Digest.String(), "app/manifests/" + digest.FromString("x").String()} {
		got := ask(t, http.MethodGet, p.URL+"/v2/"+path)
		if got.Status != http.StatusServiceUnavailable || got.Header.Get("Retry-After") == "" {
			t.Errorf("%s: got %d %v, want 503 with Retry-After", path, got.Status, got.Header)
		}
	}
	b.away.Store(false)
	if got := ask(t, http.MethodGet, p.URL+"/v2/app/manifests/2"); got.Status != http.StatusOK {
		t.Errorf("the vault is back: %d", got.Status)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, http.MethodGet, p.URL+"/v2/app/blobs/"+plain("other").blobs[0].desc.Digest.String()); got.Status != http.StatusServiceUnavailable {
		t.Errorf("the folder is gone: %d, want 503", got.Status)
	}
}

func TestWhatTheStoreServesCountsWhileItIsFilled(t *testing.T) {
	dir, layer := large(t)
	st := newStore(t, &clock{})
	publish(t, st, "app", "1", plain("newer here"))
	publish(t, st, "mine", "1", plain("mine"))
	snapshot := pullFrom(t, dir, st, &watchedBucket{}, pull.Options{})
	both := pullFrom(t, dir, st, &watchedBucket{}, pull.Options{Local: true})
	newer := plain("newer here").root.desc.Digest.String()
	for _, tt := range []struct {
		name, path       string
		snapshot, filled string // what the answer contains
	}{
		{"a tag that both have", "app/manifests/1", layer.desc.Digest.String(), `"schemaVersion"`},
		{"a tag of the snapshot", "app/manifests/2", `"schemaVersion"`, `"schemaVersion"`},
		{"a repository of the store", "mine/manifests/1", "MANIFEST_UNKNOWN", `"schemaVersion"`},
		{"the catalog", "_catalog", `["app"]`, `["app","mine"]`},
		{"tags", "app/tags/list", `["1","2"]`, `["1","2"]`},
		{"tags of the store", "mine/tags/list", "NAME_UNKNOWN", `["1"]`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := ask(t, http.MethodGet, snapshot.URL+"/v2/"+tt.path); !strings.Contains(got.Body, tt.snapshot) {
				t.Errorf("the snapshot answers %d %s, want %s", got.Status, got.Body, tt.snapshot)
			}
			if got := ask(t, http.MethodGet, both.URL+"/v2/"+tt.path); !strings.Contains(got.Body, tt.filled) {
				t.Errorf("a store that is filled answers %d %s, want %s", got.Status, got.Body, tt.filled)
			}
		})
	}
	if got := ask(t, http.MethodHead, both.URL+"/v2/app/manifests/1"); got.Header.Get("Docker-Content-Digest") != newer {
		t.Errorf("the tag that is newer here is answered with %v", got.Header)
	}
}

func TestWhatIsNotThereToBeServedIsSaid(t *testing.T) {
	dir, st := saved(t)
	for _, tt := range []struct {
		name, dir string
		o         pull.Options
		want      string
	}{
		{"no vault", t.TempDir(), pull.Options{}, "no vault there yet"},
		{"no such snapshot", dir, pull.Options{Snapshot: "01XXXX"}, `snapshot "01XXXX"`},
		{"none so old", dir, pull.Options{AsOf: time.Unix(0, 0)}, "snapshot as of 1970"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := openVault(t, tt.dir, &clock{}, nil)
			_, err := pull.Open(t.Context(), v.Catalog, st, tt.o)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// TestTheFirstPullTakesAsManyRequestsAtAnySize asks a vault of 2,000
// repositories and 20,000 tags whose every answer takes 50 ms.
func TestTheFirstPullTakesAsManyRequestsAtAnySize(t *testing.T) {
	dir := t.TempDir()
	many(t, dir, 2_000, 10)
	began := time.Now()
	p := pullFrom(t, dir, newStore(t, &clock{}), &watchedBucket{latency: 50 * time.Millisecond}, pull.Options{})
	got := ask(t, http.MethodGet, p.URL+"/v2/team/app-1234/manifests/7")
	layer := sharedLayer()
	blob := ask(t, http.MethodGet, p.URL+"/v2/team/app-1234/blobs/"+layer.desc.Digest.String())
	took := time.Since(began)
	if got.Status != http.StatusOK || blob.Body != string(layer.raw) {
		t.Fatalf("got %d and %d", got.Status, blob.Status)
	}
	asked := p.bucket.taken()
	t.Logf("from nothing to the first layer in %s, by %d requests", took, len(asked))
	if len(asked) > 8 {
		t.Errorf("it takes %d requests: %q", len(asked), asked)
	}
}

// many makes a vault as a backup would of so many repositories, which would take
// long to publish.
func many(t *testing.T, dir string, repos, tags int) {
	t.Helper()
	c := &clock{}
	st := newStore(t, c)
	publish(t, st, "seed", "1", plain("seed", sharedLayer()))
	backup(t, openVault(t, dir, c, nil), st)
	img := plain("seed", sharedLayer())
	rewrite(t, dir, func(put func(any) ocispec.Descriptor) ocispec.Descriptor {
		root := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex}
		root.SchemaVersion = 2
		for n := range repos {
			idx := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Annotations: map[string]string{layout.AnnotationRepository: fmt.Sprintf("team/app-%04d", n)}}
			idx.SchemaVersion = 2
			for tag := range tags {
				idx.Manifests = append(idx.Manifests, layout.NewImage(img.root.desc, fmt.Sprint(tag), nil))
			}
			desc := put(idx)
			desc.MediaType, desc.Annotations = ocispec.MediaTypeImageIndex, idx.Annotations
			root.Manifests = append(root.Manifests, desc)
		}
		desc := put(root)
		desc.MediaType = ocispec.MediaTypeImageIndex
		return desc
	})
}
