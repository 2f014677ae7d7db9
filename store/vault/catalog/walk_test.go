package catalog

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"pgregory.net/rapid"

	"lastro/mirror"
	"lastro/store/vault/bucket"
	"lastro/store/vault/layout"
)

// memory is a bucket of contents in memory.
type memory struct {
	bucket.Bucket
	mu    sync.Mutex
	blobs map[string][]byte
	gets  map[string]int
}

func newMemory() *memory { return &memory{blobs: map[string][]byte{}, gets: map[string]int{}} }

func (m *memory) String() string { return "memory" }

func (m *memory) Get(_ context.Context, key string, _ int64) (io.ReadCloser, bucket.Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gets[key]++
	raw, ok := m.blobs[key]
	if !ok {
		return nil, bucket.Info{}, fs.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(raw)), bucket.Info{Size: int64(len(raw))}, nil
}

func (m *memory) put(raw []byte, mediaType string) ocispec.Descriptor {
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	m.blobs[layout.BlobKey(desc.Digest)] = raw
	return desc
}

// manifest puts an index of the children, or an image of the layers.
func (m *memory) manifest(name string, children, layers []ocispec.Descriptor) ocispec.Descriptor {
	var doc any
	mediaType := ocispec.MediaTypeImageManifest
	if children != nil {
		mediaType = ocispec.MediaTypeImageIndex
		doc = ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: mediaType, Manifests: children, Annotations: map[string]string{"name": name}}
	} else {
		config := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromString(name), Size: 1}
		doc = ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: mediaType, Config: config, Layers: layers}
	}
	raw, _ := json.Marshal(doc) // of plain values
	return m.put(raw, mediaType)
}

func walkerOf(m *memory) *Walker {
	c := &Catalog{Bucket: m}
	return c.Walker(func(ctx context.Context, desc ocispec.Descriptor) (mirror.Manifest, error) {
		got, _, err := c.Manifest(ctx, desc)
		return got, err
	})
}

func manifestsOf(t Tree) (ds []digest.Digest) {
	for _, m := range t.Manifests {
		ds = append(ds, m.Descriptor.Digest)
	}
	slices.Sort(ds)
	return ds
}

// graph is manifests of which each may list those before it.
type graph struct {
	descs    []ocispec.Descriptor
	children map[digest.Digest][]digest.Digest
}

func drawGraph(t *rapid.T, m *memory) graph {
	g := graph{children: map[digest.Digest][]digest.Digest{}}
	for i := range rapid.IntRange(1, 14).Draw(t, "manifests") {
		var list []ocispec.Descriptor
		var ds []digest.Digest
		for _, desc := range g.descs {
			if rapid.Bool().Draw(t, "lists") {
				list, ds = append(list, desc), append(ds, desc.Digest)
			}
		}
		desc := m.manifest(fmt.Sprint(i), list, nil)
		g.children[desc.Digest] = ds
		g.descs = append(g.descs, desc)
	}
	return g
}

func (g graph) reach(d digest.Digest, absent map[digest.Digest]bool, into map[digest.Digest]bool) {
	if into[d] {
		return
	}
	into[d] = true
	for _, child := range g.children[d] {
		if !absent[child] {
			g.reach(child, absent, into)
		}
	}
}

// TestATreeIsWhatANaiveWalkReaches has images that leave out what others contain.
func TestATreeIsWhatANaiveWalkReaches(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMemory()
		g := drawGraph(t, m)
		var images []ocispec.Descriptor
		for _, desc := range g.descs {
			var absent []digest.Digest
			for _, out := range g.descs {
				if out.Digest != desc.Digest && rapid.IntRange(0, 4).Draw(t, "out") == 0 {
					absent = append(absent, out.Digest)
				}
			}
			images = append(images, layout.NewImage(desc, "", absent))
		}
		images = rapid.Permutation(images).Draw(t, "order")[:rapid.IntRange(1, len(images)).Draw(t, "images")]
		w := walkerOf(m)
		if err := w.Load(t.Context(), images); err != nil {
			t.Fatal(err)
		}
		for _, img := range images {
			want := map[digest.Digest]bool{}
			g.reach(img.Digest, setOf(layout.AbsentOf(img)), want)
			tree := w.Tree(img, nil)
			if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), manifestsOf(tree)); diff != "" || len(tree.Faults) > 0 {
				t.Fatalf("%s %v", diff, tree.Faults)
			}
		}
		for key, n := range m.gets {
			if n > 1 {
				t.Fatalf("%s was read %d times", key, n)
			}
		}
	})
}

func TestWhatAWalkReadsIsBounded(t *testing.T) {
	m := newMemory()
	layers := []ocispec.Descriptor{}
	for i := range 100 {
		layers = append(layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromString(fmt.Sprint(i)), Size: 1})
	}
	shared := m.manifest("shared", nil, layers)
	var images []ocispec.Descriptor
	for i := range 50 {
		images = append(images, m.manifest(fmt.Sprint("image ", i), []ocispec.Descriptor{shared}, nil))
	}
	for _, c := range []struct {
		name  string
		limit func(*Walker)
		want  string
	}{
		{name: "a repository within the limits is read", limit: func(*Walker) {}},
		{name: "too many references are refused", limit: func(w *Walker) { w.limit = 2000 }, want: "more than 2000 references"},
		{name: "too few are left to load all", limit: func(w *Walker) { w.limit = 10 }, want: "more than 10 references"},
		{name: "too many bytes of manifests are refused", limit: func(w *Walker) { w.bytes.Store(5000) }, want: "more than 4 GiB"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := walkerOf(m)
			c.limit(w)
			if err := w.Load(t.Context(), images); err != nil {
				t.Fatal(err)
			}
			var faults []Fault
			for _, img := range images {
				tree := w.Tree(img, nil)
				if faults = append(faults, tree.Faults...); len(tree.Faults) == 0 && len(tree.Blobs) != 101 {
					t.Errorf("got %d blobs and no fault", len(tree.Blobs))
				}
			}
			if c.want == "" && len(faults) > 0 || c.want != "" && len(faults) == 0 {
				t.Fatalf("got %v", faults)
			}
			for _, f := range faults {
				if got := f.Err.Error(); !errors.Is(f.Err, layout.ErrDamaged) || !strings.Contains(got, c.want) || !strings.Contains(got, "vault memory") {
					t.Fatalf("got %q, want %q of the vault", got, c.want)
				}
			}
		})
	}
}

func TestAnImageThatLeavesOutItselfIsThereAllTheSame(t *testing.T) {
	m := newMemory()
	desc := m.manifest("image", nil, []ocispec.Descriptor{})
	img := layout.NewImage(desc, "1", []digest.Digest{desc.Digest})
	w := walkerOf(m)
	if err := w.Load(t.Context(), []ocispec.Descriptor{img}); err != nil {
		t.Fatal(err)
	}
	if tree := w.Tree(img, nil); len(tree.Manifests) != 1 || len(tree.Faults) > 0 {
		t.Errorf("got %+v, want the image", tree)
	}
}

func TestAWalkThatIsRefusedReadsNoFurther(t *testing.T) {
	m := newMemory()
	var children []ocispec.Descriptor
	for i := range 300 {
		children = append(children, m.manifest(fmt.Sprint(i), nil, []ocispec.Descriptor{}))
	}
	top := m.manifest("top", children, nil)
	w := walkerOf(m)
	w.limit = 100
	if err := w.Load(t.Context(), []ocispec.Descriptor{top}); err != nil {
		t.Fatal(err)
	}
	if tree := w.Tree(top, nil); len(m.gets) != 101 || len(tree.Faults) == 0 {
		t.Errorf("%d manifests were read, and %d faults found", len(m.gets), len(tree.Faults))
	}
}

// FuzzManifest puts any bytes where a manifest lies.
func FuzzManifest(f *testing.F) {
	m := newMemory()
	img := m.manifest("image", nil, nil)
	idx := m.manifest("index", []ocispec.Descriptor{img}, nil)
	for _, raw := range m.blobs {
		f.Add(raw, img.MediaType)
		f.Add(raw, idx.MediaType)
	}
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"digest":"md5:d41d8cd98f00b204e9800998ecf8427e","size":1}]}`), "")
	f.Add([]byte(`{"schemaVersion":2,"layers":[],"subject":{"digest":"sha256:../../x","size":-1}}`), "")
	f.Fuzz(func(t *testing.T, raw []byte, mediaType string) {
		m := newMemory()
		c := &Catalog{Bucket: m}
		desc := m.put(raw, mediaType)
		got, _, err := c.Manifest(t.Context(), desc)
		if err != nil && (!errors.Is(err, layout.ErrDamaged) || !strings.Contains(err.Error(), "vault memory: manifest "+desc.Digest.String())) {
			t.Errorf("got %v, want the damage named", err)
		}
		for _, r := range got.Refs {
			if err := layout.CheckDigest(r.Digest); err != nil || r.Size < 0 {
				t.Errorf("got a reference to %d bytes of %q", r.Size, r.Digest)
			}
		}
		// Whatever it is, a walk over it ends.
		w := walkerOf(m)
		if err := w.Load(t.Context(), []ocispec.Descriptor{desc}); err != nil {
			t.Error(err)
		}
		if tree := w.Tree(desc, nil); len(tree.Faults) == 0 && len(tree.Manifests) != 1 {
			t.Errorf("got %+v", tree)
		}
	})
}

func TestAQuietCatalogIsTheSameInAllElse(t *testing.T) {
	loud := &Catalog{Name: "n", Bucket: nil, Log: slog.Default(), Now: time.Now, Version: "v", Trust: []ed25519.PublicKey{{1}}, Sealed: &Sealed{Keys: "k"}}
	quiet := loud.Quiet()
	for i := range reflect.TypeFor[Catalog]().NumField() {
		f := reflect.TypeFor[Catalog]().Field(i)
		if f.Name == "Log" || f.Name == "Now" || !f.IsExported() {
			continue
		}
		if reflect.ValueOf(loud).Elem().Field(i).IsZero() && f.Name != "Bucket" && f.Name != "Server" {
			t.Errorf("%s is not tried", f.Name)
		}
		if f.Name == "Sealed" {
			if quiet.Sealed != loud.Sealed {
				t.Error("Sealed: another one")
			}
			continue
		}
		if d := cmp.Diff(reflect.ValueOf(loud).Elem().Field(i).Interface(), reflect.ValueOf(quiet).Elem().Field(i).Interface()); d != "" {
			t.Errorf("%s: %s", f.Name, d)
		}
	}
}
