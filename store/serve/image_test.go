package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	"lastro/store"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// opened is a new store in dir.
func opened(t testing.TB, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(dir, store.Options{Now: func() time.Time { return epoch }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// folder is a new folder that needs no disk where there is such a thing.
func folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "lastro-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// image is an image in memory: what a publication of it needs.
type image struct {
	content   map[digest.Digest][]byte
	manifests []mirror.Manifest // in the order of publication
	absent    []digest.Digest
	root      ocispec.Descriptor
}

func (m *image) blob(kind string, data []byte) ocispec.Descriptor {
	if m.content == nil {
		m.content = map[digest.Digest][]byte{}
	}
	d := digest.FromBytes(data)
	m.content[d] = data
	return ocispec.Descriptor{MediaType: kind, Digest: d, Size: int64(len(data))}
}

// manifest adds a document as the next manifest to publish, and as the root.
func (m *image) manifest(document any) ocispec.Descriptor {
	raw, err := json.Marshal(document)
	if err != nil {
		panic(err)
	}
	parsed, err := mirror.ParseManifest(m.blob("", raw), raw)
	if err != nil {
		panic(err)
	}
	m.manifests = append(m.manifests, parsed)
	m.root = parsed.Descriptor
	return parsed.Descriptor
}

func (m *image) single(name string, subject *ocispec.Descriptor) ocispec.Descriptor {
	document := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Subject: subject,
		Config: m.blob(ocispec.MediaTypeImageConfig, []byte(`{"name":"`+name+`"}`)),
		Layers: []ocispec.Descriptor{m.blob(ocispec.MediaTypeImageLayerGzip, []byte("shared")), m.blob(ocispec.MediaTypeImageLayerGzip, []byte("layer of "+name))},
	}
	if subject != nil {
		document.ArtifactType = "application/vnd.example." + name
		document.Annotations = map[string]string{"name": name}
	}
	return m.manifest(document)
}

func (m *image) index(children ...ocispec.Descriptor) ocispec.Descriptor {
	return m.manifest(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: children})
}

// newImage is an index of two platforms, of which one may be left out, and two
// referrers, one of them of the other.
func newImage(name string, sparse bool) *image {
	m := &image{}
	amd64, arm64 := m.single(name+"-amd64", nil), m.single(name+"-arm64", nil)
	if sparse {
		m.manifests, m.absent = m.manifests[:1], []digest.Digest{arm64.Digest}
		delete(m.content, arm64.Digest)
	}
	root := m.index(amd64, arm64)
	signature := m.single("signature", &root)
	m.single("attestation", &signature)
	m.root = root
	return m
}

// put stores the content and publishes the image; tag may be empty.
func (m *image) put(t testing.TB, s *store.Store, repo, tag string) {
	t.Helper()
	for d, data := range m.content {
		fetch := func(_ context.Context, offset int64) (io.ReadCloser, int64, error) {
			return io.NopCloser(bytes.NewReader(data[offset:])), offset, nil
		}
		if err := s.Ingest(t.Context(), ocispec.Descriptor{Digest: d, Size: int64(len(data))}, fetch); err != nil {
			t.Fatal(err)
		}
	}
	p := mirror.Publication{Repo: repo, Tag: tag, Root: m.root, Manifests: m.manifests, Absent: m.absent, By: "test"}
	if _, err := s.Publish(t.Context(), p); err != nil {
		t.Fatal(err)
	}
}
