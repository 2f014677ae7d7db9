package vault_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/store"
	"lastro/store/vault"
	"lastro/store/vault/bucket"
	"lastro/store/vault/layout"
	"lastro/store/vault/restore/ocidir"
)

// filled is a vault with one snapshot of the images.
func filled(t *testing.T, list []listedImage) (st *store.Store, dir string, c *clock) {
	t.Helper()
	c = &clock{}
	st, dir = newStore(t, c), filepath.Join(t.TempDir(), "vault")
	for _, l := range list {
		publish(t, st, l.repo, l.tag, l.image)
	}
	backup(t, openVault(t, dir, c, nil), st)
	return st, dir, c
}

func openDir(t *testing.T, path string) *ocidir.Dir {
	t.Helper()
	d, err := ocidir.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func copyTo(t *testing.T, v *vault.Vault, path string, o vault.RestoreOptions) vault.Restored {
	t.Helper()
	r, err := v.Copy(t.Context(), openDir(t, path), o, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// layoutNames is what index.json names, and wants all below it to be there. It is
// empty as long as nothing is named.
func layoutNames(t *testing.T, path string) map[string]digest.Digest {
	t.Helper()
	names := map[string]digest.Digest{}
	var idx ocispec.Index
	raw, err := os.ReadFile(filepath.Join(path, layout.KeyIndex))
	if errors.Is(err, os.ErrNotExist) {
		return names
	}
	if err == nil {
		err = json.Unmarshal(raw, &idx)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, desc := range idx.Manifests {
		name := desc.Annotations[ocispec.AnnotationRefName]
		if name == "" {
			name = desc.Digest.String()
		}
		names[name] = desc.Digest
		raw, err := os.ReadFile(filepath.Join(path, layout.BlobKey(desc.Digest)))
		if err != nil || desc.Digest.Algorithm().FromBytes(raw) != desc.Digest {
			t.Errorf("%s is named and not there: %v", name, err)
		}
	}
	return names
}

// wantLayout compares a layout with the images that are to be in it, bit for bit.
func wantLayout(t *testing.T, path string, list []listedImage) {
	t.Helper()
	names := map[string]digest.Digest{}
	for _, l := range list {
		name := l.repo + ":" + l.tag
		if l.tag == "" {
			name = l.root.desc.Digest.String()
		}
		names[name] = l.root.desc.Digest
	}
	if diff := cmp.Diff(names, layoutNames(t, path)); diff != "" {
		t.Error(diff)
	}
	_, contents := wanted(list)
	for d, want := range contents {
		if got, err := os.ReadFile(filepath.Join(path, layout.BlobKey(d))); err != nil || string(got) != string(want) {
			t.Errorf("%s: got %q, %v", d, got, err)
		}
	}
	if blobs := files(t, path, "blobs"); len(blobs) != len(contents) {
		t.Errorf("got %d contents, want %d", len(blobs), len(contents))
	}
}

func TestImagesAreCopiedIntoAnOCILayout(t *testing.T) {
	list := everySort()
	st, dir, c := filled(t, list)
	v := openVault(t, dir, c, nil)
	path := filepath.Join(t.TempDir(), "a", "layout")
	plan, err := v.PlanCopy(t.Context(), openDir(t, path), vault.RestoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a plan made the folder: %v", err)
	}
	r := copyTo(t, v, path, vault.RestoreOptions{})
	if r.Blobs != plan.Blobs || r.Bytes != plan.Bytes || r.Requests != plan.Requests || plan.Seconds <= 0 || len(plan.Images) != len(list) || r.Images != len(list)-2 || r.To != "oci:"+path || len(r.Failed) > 0 {
		t.Errorf("got %+v, planned %+v", r, plan)
	}
	wantLayout(t, path, list)

	t.Run("again, and nothing is fetched", func(t *testing.T) {
		plan, err := v.PlanCopy(t.Context(), openDir(t, path), vault.RestoreOptions{})
		r := copyTo(t, v, path, vault.RestoreOptions{})
		if err != nil || plan.Blobs != 0 || plan.Unchanged != 7 || r.Blobs != 0 || r.Bytes != 0 || len(r.Failed) > 0 {
			t.Errorf("got %+v, planned %+v, %v", r, plan, err)
		}
		wantLayout(t, path, list)
	})
	t.Run("what was damaged there is made good", func(t *testing.T) {
		spoil(t, filepath.Join(path, layout.BlobKey(list[0].blobs[1].desc.Digest)))
		if err := os.Truncate(filepath.Join(path, layout.BlobKey(list[1].root.desc.Digest)), 3); err != nil {
			t.Fatal(err)
		}
		if r := copyTo(t, v, path, vault.RestoreOptions{}); r.Blobs != 2 {
			t.Errorf("got %+v, want two contents fetched", r)
		}
		wantLayout(t, path, list)
	})
	t.Run("a tag that is something else there stays, until it is forced", func(t *testing.T) {
		publish(t, st, list[0].repo, list[0].tag, plain("moved"))
		backup(t, v, st)
		r := copyTo(t, v, path, vault.RestoreOptions{Patterns: []string{list[0].repo + ":" + list[0].tag}})
		if len(r.Failed) != 1 || !strings.Contains(r.Failed[0].Error, "force") || r.Failed[0].Tag != list[0].tag {
			t.Errorf("got %+v, want the tag named with the way out", r)
		}
		wantLayout(t, path, list)
		copyTo(t, v, path, vault.RestoreOptions{Patterns: []string{list[0].repo + ":" + list[0].tag}, Force: true})
		if got := layoutNames(t, path)[list[0].repo+":"+list[0].tag]; got != plain("moved").root.desc.Digest {
			t.Errorf("got %s", got)
		}
	})
}

func TestWhatIsInALayoutStays(t *testing.T) {
	list := everySort()
	_, dir, c := filled(t, list)
	v := openVault(t, dir, c, nil)
	path := t.TempDir()
	copyTo(t, v, path, vault.RestoreOptions{Patterns: []string{"ghcr.io/**"}})
	wantLayout(t, path, list[6:])
	copyTo(t, v, path, vault.RestoreOptions{Patterns: []string{"docker.io/library/a:2", "docker.io/library/a:gone"}})
	wantLayout(t, path, slices.Concat(list[1:3], list[6:]))
	copyTo(t, v, path, vault.RestoreOptions{Patterns: []string{"docker.io/library/b:multi"}})
	wantLayout(t, path, list[1:]) // with its signatures
}

func TestTwoFillOneLayoutAtOnce(t *testing.T) {
	list := everySort()
	_, dir, c := filled(t, list)
	path := t.TempDir()
	var wg sync.WaitGroup
	for _, repo := range []string{"docker.io/library/a", "docker.io/library/b", "ghcr.io/c"} {
		d := openDir(t, path)
		wg.Go(func() {
			r, err := openVault(t, dir, c, nil).Copy(t.Context(), d, vault.RestoreOptions{Patterns: []string{repo}}, nil)
			if err != nil || len(r.Failed) > 0 {
				t.Errorf("%s: %+v, %v", repo, r, err)
			}
		})
	}
	wg.Wait()
	wantLayout(t, path, list)
}

func TestWhatIsNotALayoutIsLeftAlone(t *testing.T) {
	_, dir, _ := filled(t, everySort()[:1])
	write := func(t *testing.T, files map[string]string) string {
		path := t.TempDir()
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(path, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return path
	}
	for _, x := range []struct {
		name string
		path string
		want string
	}{
		{"a vault", dir, "is a vault"},
		{"somebody's folder", write(t, map[string]string{"letter.txt": "dear"}), "not empty"},
		{"a layout of another time", write(t, map[string]string{"oci-layout": `{"imageLayoutVersion":"2.0.0"}`}), `version "2.0.0"`},
		{"a layout without sense", write(t, map[string]string{"oci-layout": `{"imageLayoutVersion":"1.0.0"}`, "index.json": "["}), "index.json"},
		{"a file", filepath.Join(write(t, map[string]string{"x": ""}), "x"), "not a directory"},
	} {
		t.Run(x.name, func(t *testing.T) {
			if _, err := ocidir.Open(t.Context(), x.path); err == nil || !strings.Contains(err.Error(), x.want) || !strings.Contains(err.Error(), x.path) {
				t.Errorf("got %v, want %q", err, x.want)
			}
		})
	}
}

// TestACopyThatIsStoppedAnywhereGoesOn ends the context at each read of the vault.
func TestACopyThatIsStoppedAnywhereGoesOn(t *testing.T) {
	list := everySort()
	_, dir, c := filled(t, list)
	for k, done := int64(1), false; !done; k++ {
		ctx, cancel := context.WithCancel(t.Context())
		var reads atomic.Int64
		v := openVault(t, dir, c, func(b bucket.Bucket) bucket.Bucket {
			return tellingBucket{b, func() {
				if reads.Add(1) == k {
					cancel()
				}
			}}
		})
		path := t.TempDir()
		_, err := v.Copy(ctx, openDir(t, path), vault.RestoreOptions{}, nil)
		done = err == nil && reads.Load() < k
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		cancel()
		layoutNames(t, path)
		copyTo(t, openVault(t, dir, c, nil), path, vault.RestoreOptions{})
		wantLayout(t, path, list)
		if t.Failed() {
			t.Fatalf("stopped at read %d", k)
		}
	}
}

// tellingBucket calls back before each content that is read.
type tellingBucket struct {
	bucket.Bucket
	before func()
}

func (b tellingBucket) Get(ctx context.Context, key string, offset int64) (io.ReadCloser, bucket.Info, error) {
	b.before()
	return b.Bucket.Get(ctx, key, offset)
}

func TestWhatIsWrongInTheVaultFailsItsImagesAlone(t *testing.T) {
	for _, x := range []struct {
		name  string
		wreck func(t *testing.T, path string)
	}{
		{"a blob with other bytes", spoil},
		{"a blob that is too short", func(t *testing.T, path string) {
			if err := os.Truncate(path, 5); err != nil {
				t.Fatal(err)
			}
		}},
		{"a blob that is gone", func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		for _, part := range []string{"layer", "manifest"} {
			t.Run(x.name+" is a "+part, func(t *testing.T) {
				list := everySort()
				_, dir, c := filled(t, list)
				bad := list[2].blobs[1]
				if part == "manifest" {
					bad = list[2].root
				}
				x.wreck(t, filepath.Join(dir, layout.BlobKey(bad.desc.Digest)))
				path := t.TempDir()
				r := copyTo(t, openVault(t, dir, c, nil), path, vault.RestoreOptions{})
				if len(r.Failed) != 1 || r.Failed[0].Tag != "gone" || !strings.Contains(r.Failed[0].Error, bad.desc.Digest.Encoded()) {
					t.Errorf("got %+v, want the image and the content named", r.Failed)
				}
				names := layoutNames(t, path)
				if _, there := names["docker.io/library/a:gone"]; there || len(names) != len(list)-1 {
					t.Errorf("got %v", names)
				}
			})
		}
	}
}

func TestAVaultThatGoesAwayEndsACopy(t *testing.T) {
	list := everySort()
	_, dir, c := filled(t, list)
	for reads := range int64(30) {
		var left atomic.Int64
		left.Store(reads)
		v := openVault(t, dir, c, func(b bucket.Bucket) bucket.Bucket { return unreachableBucket{b, &left} })
		path := t.TempDir()
		if _, err := v.Copy(t.Context(), openDir(t, path), vault.RestoreOptions{}, nil); !errors.Is(err, errCut) {
			t.Errorf("after %d reads: got %v, want that the vault is away", reads, err)
		}
		layoutNames(t, path)
	}
}
