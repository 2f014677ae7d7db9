package vault_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	"lastro/store"
	"lastro/store/vault"
	"lastro/store/vault/bucket"
	"lastro/store/vault/layout"
)

// countingBucket counts how often each content is opened.
type countingBucket struct {
	bucket.Bucket
	mu   *sync.Mutex
	gets map[string]int
}

func counting(b bucket.Bucket) countingBucket {
	return countingBucket{b, new(sync.Mutex), map[string]int{}}
}

func (b countingBucket) Get(ctx context.Context, key string, offset int64) (io.ReadCloser, bucket.Info, error) {
	b.mu.Lock()
	b.gets[key]++
	b.mu.Unlock()
	return b.Bucket.Get(ctx, key, offset)
}

// allocated is how many bytes fn takes from memory, given back or not.
func allocated(fn func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// nested is an index in an index in an index, so many times, around an image.
func nested(put func(any) ocispec.Descriptor, depth int, inner ocispec.Descriptor) ocispec.Descriptor {
	for range depth {
		inner = put(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{inner}})
		inner.MediaType = ocispec.MediaTypeImageIndex
	}
	return inner
}

// beside is a root over the good image and another one.
func beside(put func(any) ocispec.Descriptor, good, bad ocispec.Descriptor) ocispec.Descriptor {
	good.Annotations = map[string]string{ocispec.AnnotationRefName: "good"}
	bad.Annotations = map[string]string{ocispec.AnnotationRefName: "bad"}
	one := put(ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{bad, good}})
	one.MediaType, one.Annotations = ocispec.MediaTypeImageIndex, map[string]string{layout.AnnotationRepository: "r"}
	root := put(ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{one}})
	root.MediaType = ocispec.MediaTypeImageIndex
	return root
}

// TestWhatIsBeyondAllIsRefusedUnread puts an image into a snapshot that no backup
// would write. Only that image fails, by name, with the way out, after few reads.
func TestWhatIsBeyondAllIsRefusedUnread(t *testing.T) {
	good := plain("good").root.desc
	huge := func(t *testing.T, dir string, size int64) ocispec.Descriptor {
		d := digest.FromString("huge")
		path := filepath.Join(dir, layout.BlobKey(d))
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, size)); err != nil {
			t.Fatal(err)
		}
		return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: d, Size: size}
	}
	for _, c := range []struct {
		name  string
		bad   func(t *testing.T, dir string, put func(any) ocispec.Descriptor) ocispec.Descriptor
		wants []string
	}{
		{name: "indexes a thousand deep", wants: []string{"more than 16 deep", "older snapshot"}, bad: func(_ *testing.T, _ string, put func(any) ocispec.Descriptor) ocispec.Descriptor {
			return nested(put, 1000, good)
		}},
		{name: "a manifest of gigabytes", wants: []string{"4294967296 bytes", "at most 8388608", "older snapshot"}, bad: func(t *testing.T, dir string, _ func(any) ocispec.Descriptor) ocispec.Descriptor {
			return huge(t, dir, 4<<30)
		}},
		{name: "a manifest of one byte too many", wants: []string{"8388609 bytes", "at most 8388608"}, bad: func(t *testing.T, dir string, _ func(any) ocispec.Descriptor) ocispec.Descriptor {
			return huge(t, dir, mirror.MaxManifest+1)
		}},
		{name: "a manifest that is longer than it is said to be", wants: []string{"4294967296 bytes, not 500"}, bad: func(t *testing.T, dir string, _ func(any) ocispec.Descriptor) ocispec.Descriptor {
			desc := huge(t, dir, 4<<30)
			desc.Size = 500
			return desc
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			clk := &clock{}
			st, dir := newStore(t, clk), filepath.Join(t.TempDir(), "vault")
			publish(t, st, "r", "good", plain("good"))
			backup(t, openVault(t, dir, clk, nil), st)
			rewrite(t, dir, func(put func(any) ocispec.Descriptor) ocispec.Descriptor {
				return beside(put, good, c.bad(t, dir, put))
			})
			var opened countingBucket
			v := openVault(t, dir, clk, func(b bucket.Bucket) bucket.Bucket { opened = counting(b); return opened })
			back := newStore(t, clk)
			var r vault.Restored
			var found vault.Verified
			took := allocated(func() {
				r = restore(t, v, back, vault.RestoreOptions{})
				found = verified(t, v, "")
			})
			if tags := stateOf(t, back).Tags; len(tags) != 1 || tags["r:good"] != good.Digest {
				t.Errorf("got tags %v, want the good one", tags)
			}
			if len(r.Failed) != 1 || r.Failed[0].Tag != "bad" || len(found.Problems) == 0 {
				t.Fatalf("got %+v and %+v, want the bad one named", r.Failed, found.Problems)
			}
			for _, want := range append(c.wants, "vault file://"+dir, "manifest sha256:") {
				for _, got := range []string{r.Failed[0].Error, found.Problems[0].Error} {
					if !strings.Contains(got, want) {
						t.Errorf("got %q, want it to say %q", got, want)
					}
				}
			}
			if reads := len(opened.gets); reads > 30 || took > 64<<20 {
				t.Errorf("%d objects were opened and %d MiB allocated", reads, took>>20)
			}
			// The machine that has the good image saves it again, as if nothing had been.
			backup(t, v, st)
			wantSound(t, v, "")
		})
	}
}

// TestAManifestOfEightMiBIsSavedAndRestored is as large as one may be.
func TestAManifestOfEightMiBIsSavedAndRestored(t *testing.T) {
	c := &clock{}
	st, v := newStore(t, c), openVault(t, filepath.Join(t.TempDir(), "vault"), c, nil)
	img := plain("large")
	raw := append(bytes.TrimSuffix(img.root.raw, []byte("}")), bytes.Repeat([]byte(" "), mirror.MaxManifest-len(img.root.raw))...)
	img.root = newContent(ocispec.MediaTypeImageManifest, append(raw, '}'))
	img.manifests = []content{img.root}
	publish(t, st, "r", "large", img)
	first := backup(t, v, st)
	wantSound(t, v, "")
	restoresTo(t, v, c, first.Snapshot, stateOf(t, st))
}

// TestAnImageThatNoRestoreWouldFollowIsNotSaved nests as deep as a sync goes, and
// one deeper.
func TestAnImageThatNoRestoreWouldFollowIsNotSaved(t *testing.T) {
	c := &clock{}
	st, v := newStore(t, c), openVault(t, filepath.Join(t.TempDir(), "vault"), c, nil)
	img := plain("inner")
	for depth := 1; depth <= 17; depth++ {
		img = index("", img)
		if depth >= 16 {
			publish(t, st, fmt.Sprint("deep/", depth), "1", img)
		}
	}
	r := backup(t, v, st)
	if len(r.Failed) != 1 || r.Failed[0].Repo != "deep/17" || !strings.Contains(r.Failed[0].Error, "more than 16 deep") {
		t.Errorf("got %+v, want the one that is too deep", r.Failed)
	}
	wantSound(t, v, "")
	back := newStore(t, c)
	restore(t, v, back, vault.RestoreOptions{})
	if tags := stateOf(t, back).Tags; len(tags) != 1 || tags["deep/16:1"] == "" {
		t.Errorf("got %v, want the one that is not too deep", tags)
	}
}

// TestRecordsOfGigabytesAreNotRead makes each record of a vault too large.
func TestRecordsOfGigabytesAreNotRead(t *testing.T) {
	for _, key := range []string{layout.KeyIndex, layout.KeyLayout, layout.KeyConfig, layout.KeyHead} {
		t.Run(key, func(t *testing.T) {
			c := &clock{}
			st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
			publish(t, st, "r", "1", plain("one"))
			first := backup(t, openVault(t, dir, c, nil), st)
			size := int64(8 << 30)
			if strings.HasPrefix(key, "vault/") { // read up to the limit, and named by a hash
				size = bucket.MaxRecord + 1
			}
			if err := os.Truncate(filepath.Join(dir, key), size); err != nil {
				t.Fatal(err)
			}
			v := openVault(t, dir, c, nil)
			took := allocated(func() {
				restoresTo(t, v, c, first.Snapshot, stateOf(t, st))
				backup(t, v, st)
			})
			wantSound(t, v, "")
			if list, err := v.List(t.Context()); err != nil || len(list.Snapshots) != 2 {
				t.Errorf("got %+v, %v; want both snapshots", list, err)
			}
			if info, err := os.Stat(filepath.Join(dir, key)); err != nil || info.Size() > 1<<20 || took > 2<<30 {
				t.Errorf("%d bytes remain (%v), %d MiB were allocated", info.Size(), err, took>>20)
			}
		})
	}
}

// TestACommitRecordOfGigabytesIsNamed has two snapshots, and a head that is lost too.
func TestACommitRecordOfGigabytesIsNamed(t *testing.T) {
	c := &clock{}
	st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
	publish(t, st, "r", "1", plain("one"))
	v := openVault(t, dir, c, nil)
	backup(t, v, st)
	publish(t, st, "r", "2", plain("two"))
	second := backup(t, v, st)
	record := files(t, dir, layout.DirSnapshots)[1]
	if err := os.Truncate(filepath.Join(dir, record), bucket.MaxRecord+1); err != nil {
		t.Fatal(err)
	}
	_, err := v.Restore(t.Context(), newStore(t, c), vault.RestoreOptions{}, nil)
	if !errors.Is(err, vault.ErrDamaged) || !strings.Contains(err.Error(), record) || !strings.Contains(err.Error(), "64 MiB") {
		t.Errorf("got %v, want the record named", err)
	}
	if p := verified(t, v, "").Problems; len(p) != 1 || p[0].Kind != "corrupt" {
		t.Errorf("got %+v, want the record", p)
	}
	if err := os.Remove(filepath.Join(dir, layout.KeyHead)); err != nil {
		t.Fatal(err)
	}
	if list, err := v.List(t.Context()); err != nil || len(list.Snapshots) != 1 || list.Snapshots[0].ID == second.Snapshot {
		t.Errorf("got %+v, %v; want the other snapshot", list, err)
	}
}

// fullStore has no room left.
type fullStore struct{ *store.Store }

func (fullStore) Ingest(_ context.Context, desc ocispec.Descriptor, _ mirror.Fetch) error {
	return &os.PathError{Op: "write", Path: desc.Digest.String(), Err: syscall.ENOSPC}
}

func TestAStoreThatIsFullIsAnErrorAndNotABadImage(t *testing.T) {
	c := &clock{}
	st := newStore(t, c)
	sample(t, st)
	v := openVault(t, filepath.Join(t.TempDir(), "vault"), c, nil)
	backup(t, v, st)
	back := newStore(t, c)
	r, err := v.Restore(t.Context(), fullStore{back}, vault.RestoreOptions{}, nil)
	if !errors.Is(err, syscall.ENOSPC) || len(r.Failed) > 0 || !strings.Contains(err.Error(), "local registry") {
		t.Errorf("got %v and failures %+v, want that the store is full", err, r.Failed)
	}
}
