// Package storetest has small images for tests of what stores and serves them, and
// what such tests ask of folders, of the time and of a registry.
package storetest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
)

// Image is an image in memory: what a publication of it needs. To the zero value
// its parts are added, children first.
type Image struct {
	Content   map[digest.Digest][]byte
	Manifests []mirror.Manifest // in the order of publication
	Absent    []digest.Digest
	Root      ocispec.Descriptor // the last manifest that names no subject
}

// New is an index of two platforms and two referrers, one of them of the other. It
// shares a layer with every other image.
func New(name string) *Image {
	m := &Image{}
	m.platforms(name)
	m.refer()
	return m
}

// Sparse is what [New] is, without the manifest of the second platform.
func Sparse(name string) *Image {
	m := &Image{}
	left := m.platforms(name)[1].Digest
	delete(m.Content, left)
	m.Manifests, m.Absent = append(m.Manifests[:1], m.Manifests[2:]...), []digest.Digest{left}
	m.refer()
	return m
}

func (m *Image) platforms(name string) []ocispec.Descriptor {
	children := []ocispec.Descriptor{m.Single(name+"-amd64", nil), m.Single(name+"-arm64", nil)}
	m.Index(children...)
	return children
}

func (m *Image) refer() {
	signature := m.Single("signature", &m.Root)
	m.Single("attestation", &signature)
}

// Blob adds content.
func (m *Image) Blob(kind string, data []byte) ocispec.Descriptor {
	if m.Content == nil {
		m.Content = map[digest.Digest][]byte{}
	}
	d := digest.FromBytes(data)
	m.Content[d] = data
	return ocispec.Descriptor{MediaType: kind, Digest: d, Size: int64(len(data))}
}

// Manifest adds a document as the next manifest to publish.
func (m *Image) Manifest(document any) ocispec.Descriptor {
	raw, err := json.Marshal(document)
	if err != nil {
		panic(err)
	}
	parsed, err := mirror.ParseManifest(m.Blob("", raw), raw)
	if err != nil {
		panic(err)
	}
	m.Manifests = append(m.Manifests, parsed)
	if parsed.Subject == nil {
		m.Root = parsed.Descriptor
	}
	return parsed.Descriptor
}

// Single adds the manifest of one platform, which is told from others by its name,
// or with a subject a referrer.
func (m *Image) Single(name string, subject *ocispec.Descriptor) ocispec.Descriptor {
	document := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Subject: subject,
		Config: m.Blob(ocispec.MediaTypeImageConfig, []byte(`{"name":"`+name+`"}`)),
		Layers: []ocispec.Descriptor{m.Blob(ocispec.MediaTypeImageLayerGzip, []byte("shared")), m.Blob(ocispec.MediaTypeImageLayerGzip, []byte("layer of "+name))},
	}
	if subject != nil {
		document.ArtifactType = "application/vnd.example." + name
		document.Annotations = map[string]string{"name": name}
	}
	return m.Manifest(document)
}

// Index adds an index of what was added before.
func (m *Image) Index(children ...ocispec.Descriptor) ocispec.Descriptor {
	return m.Manifest(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: children})
}

// Publication is the image without its content: Put and Ingest bring that.
func (m *Image) Publication(repo, tag string) mirror.Publication {
	return mirror.Publication{Repo: repo, Tag: tag, Root: m.Root, Manifests: m.Manifests, Absent: m.Absent, By: "test"}
}

// Ingest stores the content.
func (m *Image) Ingest(ctx context.Context, into mirror.Destination) error {
	for d, data := range m.Content {
		fetch := func(_ context.Context, offset int64) (io.ReadCloser, int64, error) {
			return io.NopCloser(bytes.NewReader(data[offset:])), offset, nil
		}
		if err := into.Ingest(ctx, ocispec.Descriptor{Digest: d, Size: int64(len(data))}, fetch); err != nil {
			return err
		}
	}
	return nil
}

// Put stores the content and publishes the image; the tag may be empty.
func (m *Image) Put(ctx context.Context, into mirror.Destination, repo, tag string) (mirror.Published, error) {
	if err := m.Ingest(ctx, into); err != nil {
		return mirror.Published{}, err
	}
	return into.Publish(ctx, m.Publication(repo, tag))
}

// MustPut is Put in a test that fails when that does.
func (m *Image) MustPut(t testing.TB, into mirror.Destination, repo, tag string) {
	t.Helper()
	if _, err := m.Put(t.Context(), into, repo, tag); err != nil {
		t.Fatal(err)
	}
}
