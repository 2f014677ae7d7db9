package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	smallRepositories = 20
	smallLayer        = 2048 // bytes
)

// makeSmall writes a layout of n images, each of a base layer that all have
// and two of its own.
func makeSmall(layout string, n int) error {
	m := maker{layout: layout, random: rand.NewChaCha8([32]byte{1})}
	if err := os.MkdirAll(filepath.Join(layout, "blobs", "sha256"), 0o700); err != nil {
		return err
	}
	base, err := m.layer()
	if err != nil {
		return err
	}
	for i := range n {
		tag := fmt.Sprintf("v1.%d.%d", i/smallRepositories/10, i/smallRepositories%10)
		if err := m.image(fmt.Sprintf("small/app-%03d:%s", i%smallRepositories, tag), base); err != nil {
			return err
		}
	}
	raw, err := json.Marshal(m.index)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(layout, "index.json"), raw, 0o600)
}

// maker writes a layout.
type maker struct {
	layout string
	random *rand.ChaCha8
	index  ocispec.Index
}

func (m *maker) put(kind string, raw []byte) (ocispec.Descriptor, error) {
	d := digest.FromBytes(raw)
	err := os.WriteFile(filepath.Join(m.layout, "blobs", "sha256", d.Encoded()), raw, 0o600)
	return ocispec.Descriptor{MediaType: kind, Digest: d, Size: int64(len(raw))}, err
}

// layer is noise in a gzip stream: skopeo would compress anything else.
func (m *maker) layer() (ocispec.Descriptor, error) {
	noise := make([]byte, smallLayer)
	_, _ = m.random.Read(noise)
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(noise); err != nil {
		return ocispec.Descriptor{}, err
	}
	if err := z.Close(); err != nil {
		return ocispec.Descriptor{}, err
	}
	return m.put(ocispec.MediaTypeImageLayerGzip, b.Bytes())
}

func (m *maker) image(name string, base ocispec.Descriptor) error {
	layers := []ocispec.Descriptor{base}
	for range 2 {
		l, err := m.layer()
		if err != nil {
			return err
		}
		layers = append(layers, l)
	}
	config, err := m.json(ocispec.MediaTypeImageConfig, ocispec.Image{
		Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"},
		Config:   ocispec.ImageConfig{Cmd: []string{name}},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{layers[0].Digest, layers[1].Digest, layers[2].Digest}},
	})
	if err != nil {
		return err
	}
	desc, err := m.json(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: layers,
	})
	desc.Annotations = map[string]string{ocispec.AnnotationRefName: name}
	m.index.Manifests = append(m.index.Manifests, desc)
	return err
}

func (m *maker) json(kind string, value any) (ocispec.Descriptor, error) {
	raw, err := json.Marshal(value)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return m.put(kind, raw)
}
