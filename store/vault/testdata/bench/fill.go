package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	"lastro/store"
)

// filling is what a registry is filled with.
type filling struct {
	corpus                string
	images, layers, bytes int
}

func (f filling) into(ctx context.Context, dir string) error {
	st, err := store.Open(dir, store.Options{Now: time.Now})
	if err != nil {
		return err
	}
	defer st.Close()
	if f.corpus != "" {
		return fillFrom(ctx, st, f.corpus)
	}
	for i := range f.images {
		if err := f.image(ctx, st, i); err != nil {
			return err
		}
	}
	return nil
}

func ingest(ctx context.Context, st *store.Store, desc ocispec.Descriptor, raw []byte) error {
	return st.Ingest(ctx, desc, func(context.Context, int64) (io.ReadCloser, int64, error) {
		return io.NopCloser(bytes.NewReader(raw)), 0, nil
	})
}

func described(mediaType string, raw []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
}

// image makes one of random bytes.
func (f filling) image(ctx context.Context, st *store.Store, n int) error {
	random := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)})
	config := fmt.Appendf(nil, `{"os":"linux","config":{"Labels":{"n":"%d"}}}`, n)
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: described(ocispec.MediaTypeImageConfig, config)}
	if err := ingest(ctx, st, m.Config, config); err != nil {
		return err
	}
	for range f.layers {
		raw := make([]byte, f.bytes)
		_, _ = random.Read(raw) // which never fails
		desc := described(ocispec.MediaTypeImageLayerGzip, raw)
		if err := ingest(ctx, st, desc, raw); err != nil {
			return err
		}
		m.Layers = append(m.Layers, desc)
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	desc := described(m.MediaType, raw)
	parsed, err := mirror.ParseManifest(desc, raw)
	if err == nil {
		err = ingest(ctx, st, desc, raw)
	}
	if err == nil {
		_, err = st.Publish(ctx, mirror.Publication{Repo: fmt.Sprintf("made/%d", n/50), Tag: fmt.Sprint(n), Root: desc, Manifests: []mirror.Manifest{parsed}, By: "bench"})
	}
	return err
}

// fillFrom takes the images of an OCI layout.
func fillFrom(ctx context.Context, st *store.Store, layout string) error {
	raw, err := os.ReadFile(filepath.Join(layout, "index.json"))
	if err != nil {
		return err
	}
	var index ocispec.Index
	if err := json.Unmarshal(raw, &index); err != nil {
		return err
	}
	for _, desc := range index.Manifests {
		repo, tag, ok := strings.Cut(desc.Annotations[ocispec.AnnotationRefName], ":")
		if !ok {
			continue
		}
		c := copied{st: st, layout: layout}
		desc.Annotations = nil
		if err := c.take(ctx, desc, true); err != nil {
			return fmt.Errorf("%s:%s: %w", repo, tag, err)
		}
		if _, err := st.Publish(ctx, mirror.Publication{Repo: repo, Tag: tag, Root: desc, Manifests: c.manifests, By: "bench"}); err != nil {
			return fmt.Errorf("%s:%s: %w", repo, tag, err)
		}
	}
	return nil
}

// copied is an image on its way out of a layout.
type copied struct {
	st        *store.Store
	layout    string
	manifests []mirror.Manifest
}

func (c *copied) take(ctx context.Context, desc ocispec.Descriptor, manifest bool) error {
	name := filepath.Join(c.layout, "blobs", desc.Digest.Algorithm().String(), desc.Digest.Encoded())
	err := c.st.Ingest(ctx, desc, func(context.Context, int64) (io.ReadCloser, int64, error) {
		f, err := os.Open(name)
		return f, 0, err
	})
	if err != nil || !manifest {
		return err
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	m, err := mirror.ParseManifest(desc, raw)
	if err != nil {
		return err
	}
	for _, r := range m.Refs {
		if r.Role == mirror.RoleForeign {
			continue
		}
		if err := c.take(ctx, r.Descriptor, r.Role == mirror.RoleChild); err != nil {
			return err
		}
	}
	c.manifests = append(c.manifests, m)
	return nil
}

// stock is what a registry folder has.
type stock struct {
	blobs int
	bytes int64
}

func registryOf(data string) string { return filepath.Join(data, "registry") }

func stockOf(data string) (s stock, err error) {
	err = filepath.WalkDir(registryOf(data), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.Name() != "data" || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			s.blobs++
			s.bytes += info.Size()
		}
		return err
	})
	return s, err
}
