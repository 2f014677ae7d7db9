package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	"lastro/store"
)

// content is what the folder has.
type content struct {
	manifest, config digest.Digest
	layers, large    []digest.Digest
}

// fill makes a data folder with one image of small and large blobs.
func fill(dir string) (c content, err error) {
	s, err := store.Open(dir, store.Options{Now: time.Now})
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	random := rand.NewChaCha8([32]byte{})
	image := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest}
	image.SchemaVersion = 2
	add := func(kind string, size int) (ocispec.Descriptor, error) {
		data := make([]byte, size)
		_, _ = random.Read(data) // never fails
		return ingest(s, kind, data)
	}
	if image.Config, err = add(ocispec.MediaTypeImageConfig, 3000); err != nil {
		return c, err
	}
	c.config = image.Config.Digest
	for i := range 10 {
		size, list := 3_000_000, &c.layers
		if i >= 8 {
			size, list = 60_000_000, &c.large
		}
		layer, err := add(ocispec.MediaTypeImageLayerGzip, size)
		if err != nil {
			return c, err
		}
		image.Layers, *list = append(image.Layers, layer), append(*list, layer.Digest)
	}
	c.manifest, err = publish(s, image)
	return c, err
}

func publish(s *store.Store, image ocispec.Manifest) (digest.Digest, error) {
	raw, err := json.Marshal(image)
	if err != nil {
		return "", err
	}
	desc, err := ingest(s, image.MediaType, raw)
	if err != nil {
		return "", err
	}
	m, err := mirror.ParseManifest(desc, raw)
	if err != nil {
		return "", err
	}
	_, err = s.Publish(context.Background(), mirror.Publication{Repo: "bench", Tag: "v1", Root: desc, Manifests: []mirror.Manifest{m}, By: "bench"})
	return desc.Digest, err
}

func ingest(s *store.Store, kind string, data []byte) (ocispec.Descriptor, error) {
	desc := ocispec.Descriptor{MediaType: kind, Digest: digest.FromBytes(data), Size: int64(len(data))}
	fetch := func(_ context.Context, offset int64) (io.ReadCloser, int64, error) {
		return io.NopCloser(bytes.NewReader(data[offset:])), offset, nil
	}
	return desc, s.Ingest(context.Background(), desc, fetch)
}
