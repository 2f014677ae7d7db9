package vault_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lastro/store"
	"lastro/store/serve"
	"lastro/store/vault"
	"lastro/store/vault/bucket"
)

// scratch is an empty registry, which lies when it is told to.
type scratch struct {
	*store.Store
	handler http.Handler
	room    int64
	lie     func(r *http.Request, a *httptest.ResponseRecorder)
}

func newScratch(t *testing.T) *scratch {
	t.Helper()
	st := newStore(t, &clock{})
	h, err := serve.New(st, serve.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return &scratch{Store: st, handler: h, room: 1 << 40}
}

func (s *scratch) Room(context.Context) (int64, error) { return s.room, nil }

func (s *scratch) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.lie == nil {
		s.handler.ServeHTTP(w, r)
		return
	}
	a := httptest.NewRecorder()
	s.handler.ServeHTTP(a, r)
	s.lie(r, a)
	maps.Copy(w.Header(), a.Header())
	w.Header().Del("Content-Length")
	w.WriteHeader(a.Code)
	_, _ = a.Body.WriteTo(w)
}

func drilled(t *testing.T, dir string, s *scratch, seed uint64, images int) (vault.Drilled, error) {
	t.Helper()
	return openVault(t, dir, &clock{}, nil).Drill(t.Context(), s, vault.DrillOptions{Images: images, Rand: newRand(seed)}, nil)
}

func TestADrillOfAGoodVaultFindsNothing(t *testing.T) {
	dir, _ := saved(t)
	for seed := range uint64(20) {
		r, err := drilled(t, dir, newScratch(t), seed, 3)
		if err != nil || !r.OK || len(r.Problems) > 0 || r.Repository == "" || r.Manifests == 0 || r.Blobs == 0 || r.Restored.Blobs == 0 || r.RTOSeconds <= 0 {
			t.Errorf("seed %d: %+v, %v", seed, r, err)
		}
	}
}

func TestEveryImageIsDrilledSoonerOrLater(t *testing.T) {
	dir, st := saved(t)
	left := map[string]bool{}
	for repo := range st.Repositories(t.Context()) {
		left[repo] = true
	}
	images := map[string]bool{}
	for seed := uint64(0); len(left) > 0 && seed < 200; seed++ {
		r, err := drilled(t, dir, newScratch(t), seed, 2)
		if err != nil {
			t.Fatal(err)
		}
		delete(left, r.Repository)
		for _, name := range r.Images {
			images[name] = true
		}
	}
	if len(left) > 0 || len(images) < 3 {
		t.Errorf("never whole: %v; images: %v", left, images)
	}
}

func TestADrillFindsWhatIsWrongInWhatItTries(t *testing.T) {
	harms := map[string]func(file string) error{
		"missing":   os.Remove,
		"truncated": func(file string) error { return os.Truncate(file, 1) },
		"a flipped bit": func(file string) error {
			raw, err := os.ReadFile(file)
			if err == nil {
				raw[len(raw)/2] ^= 4
				err = os.WriteFile(file, raw, 0o600)
			}
			return err
		},
	}
	for name, harm := range harms {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c := &clock{}
			st := newStore(t, c)
			multi := index("", plain("a"), plain("b"))
			publish(t, st, "only", "1", multi.with(signature(multi.root, "s")))
			backup(t, openVault(t, dir, c, nil), st)
			for _, key := range files(t, dir, "blobs") {
				file := filepath.Join(dir, key)
				raw, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.Chmod(file, 0o600); err != nil {
					t.Fatal(err)
				}
				if err := harm(file); err != nil {
					t.Fatal(err)
				}
				r, err := drilled(t, dir, newScratch(t), 1, 1)
				if err == nil && (r.OK || len(r.Problems) == 0) {
					t.Errorf("%s: nothing was found: %+v", key, r)
				}
				if err := os.WriteFile(file, raw, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestADrillBelievesNeitherTheRestoreNorTheStore(t *testing.T) {
	dir, _ := saved(t)
	lies := map[string]func(r *http.Request, a *httptest.ResponseRecorder){
		"a tag leads elsewhere": func(r *http.Request, a *httptest.ResponseRecorder) {
			if strings.Contains(r.URL.Path, "/manifests/") && !strings.Contains(r.URL.Path, "sha256:") {
				a.Body.WriteString(" ")
			}
		},
		"a manifest has other bytes": func(r *http.Request, a *httptest.ResponseRecorder) {
			if strings.Contains(r.URL.Path, "/manifests/sha256:") {
				a.Body.Bytes()[0] ^= 1
			}
		},
		"a manifest has another media type": func(r *http.Request, a *httptest.ResponseRecorder) {
			if strings.Contains(r.URL.Path, "/manifests/") {
				a.Header().Set("Content-Type", "text/plain")
			}
		},
		"a blob has other bytes": func(r *http.Request, a *httptest.ResponseRecorder) {
			if strings.Contains(r.URL.Path, "/blobs/") {
				a.Body.Bytes()[0] ^= 1
			}
		},
		"a blob is short": func(r *http.Request, a *httptest.ResponseRecorder) {
			if strings.Contains(r.URL.Path, "/blobs/") {
				a.Body.Truncate(a.Body.Len() - 1)
			}
		},
		"a blob goes on": func(r *http.Request, a *httptest.ResponseRecorder) {
			if strings.Contains(r.URL.Path, "/blobs/") {
				a.Body.WriteString("more")
			}
		},
		"blobs are not there": func(r *http.Request, a *httptest.ResponseRecorder) {
			if strings.Contains(r.URL.Path, "/blobs/") {
				a.Code = http.StatusNotFound
			}
		},
		"a tag is not listed": func(r *http.Request, a *httptest.ResponseRecorder) {
			if strings.HasSuffix(r.URL.Path, "/tags/list") {
				a.Body.Reset()
				fmt.Fprint(a.Body, `{"tags":[]}`)
			}
		},
	}
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(30) { // not every sample has a tag or a blob
				s := newScratch(t)
				s.lie = lie
				r, err := drilled(t, dir, s, seed, 3)
				if err != nil {
					t.Fatal(err)
				}
				if !r.OK && len(r.Problems) > 0 && r.Problems[0].Error != "" {
					return
				}
			}
			t.Error("it was believed")
		})
	}
}

func TestADrillTakesHalfOfTheRoom(t *testing.T) {
	dir, _ := saved(t)
	s := newScratch(t)
	s.room = 1
	if r, err := drilled(t, dir, s, 1, 2); err == nil || !strings.Contains(err.Error(), "no room") || r.OK {
		t.Errorf("with no room: %+v, %v", r, err)
	}
	whole, err := drilled(t, dir, newScratch(t), 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	s = newScratch(t)
	s.room = 2*whole.Restored.Bytes - 2
	r, err := drilled(t, dir, s, 1, 0)
	if err != nil && !strings.Contains(err.Error(), "no room") || len(r.LeftOut) == 0 || r.LeftOut[0] != whole.Repository {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestADrillThatCannotReachTheVaultIsAnErrorAndNoProblem(t *testing.T) {
	dir, _ := saved(t)
	b := &watchedBucket{}
	v := openVault(t, dir, &clock{}, func(real bucket.Bucket) bucket.Bucket { b.Bucket = real; return b })
	b.away.Store(true)
	r, err := v.Drill(t.Context(), newScratch(t), vault.DrillOptions{Rand: newRand(1)}, nil)
	if err == nil || r.OK || len(r.Problems) > 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestAnEmptySnapshotIsDrilled(t *testing.T) {
	dir, c := t.TempDir(), &clock{}
	backup(t, openVault(t, dir, c, nil), newStore(t, c))
	r, err := drilled(t, dir, newScratch(t), 1, 3)
	if err != nil || !r.OK {
		t.Errorf("%+v, %v", r, err)
	}
	if d := cmp.Diff([]string{}, r.Images); d != "" {
		t.Error(d)
	}
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }
