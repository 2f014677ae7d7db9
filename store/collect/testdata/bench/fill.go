package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"lastro/mirror"
	"lastro/store"
	"lastro/store/ledger"
)

func repoName(i int) string { return fmt.Sprintf("bench/%04d", i) }

func tagName(i int) string { return fmt.Sprintf("v%d", i) }

// withStore opens a data folder for what f does.
func withStore(dir string, f func(*store.Store) error) error {
	s, err := store.Open(dir, store.Options{Now: time.Now})
	if err != nil {
		return err
	}
	return errors.Join(f(s), s.Close())
}

// fill makes a data folder with images, unless it is there from before.
func fill(dir string, repos, tags int) error {
	return withStore(dir, func(s *store.Store) error {
		var g errgroup.Group
		g.SetLimit(64) // who waits for the disk waits together
		for i := range repos * tags {
			g.Go(func() error {
				image := newImage(repoName(i/tags), tagName(i%tags))
				return image.publish(s, repoName(i/tags), tagName(i%tags))
			})
		}
		return g.Wait()
	})
}

// image is an image of six layers, three of them of its repository.
type image struct {
	manifest []byte
	blobs    [][]byte
}

func newImage(repo, tag string) image {
	var m image
	document := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest}
	document.SchemaVersion = 2
	document.Config = m.add(ocispec.MediaTypeImageConfig, `{"architecture":"amd64","os":"linux","name":"`+repo+":"+tag+`"}`)
	for i := range 3 {
		document.Layers = append(document.Layers, m.add(ocispec.MediaTypeImageLayerGzip, fmt.Sprint("base ", i, " of ", repo)))
	}
	for i := range 3 {
		document.Layers = append(document.Layers, m.add(ocispec.MediaTypeImageLayerGzip, fmt.Sprint("layer ", i, " of ", repo, ":", tag)))
	}
	m.manifest, _ = json.Marshal(document) // it does not fail
	return m
}

func (m *image) add(kind, data string) ocispec.Descriptor {
	m.blobs = append(m.blobs, []byte(data))
	return ocispec.Descriptor{MediaType: kind, Digest: digest.FromString(data), Size: int64(len(data))}
}

func (m image) publish(s *store.Store, repo, tag string) error {
	for _, blob := range m.blobs {
		if _, err := ingest(s, "", blob); err != nil {
			return err
		}
	}
	desc, err := ingest(s, ocispec.MediaTypeImageManifest, m.manifest)
	if err != nil {
		return err
	}
	parsed, err := mirror.ParseManifest(desc, m.manifest)
	if err != nil {
		return err
	}
	_, err = s.Publish(context.Background(), mirror.Publication{Repo: repo, Tag: tag, Root: desc, Manifests: []mirror.Manifest{parsed}, By: "bench"})
	return err
}

func ingest(s *store.Store, kind string, data []byte) (ocispec.Descriptor, error) {
	desc := ocispec.Descriptor{MediaType: kind, Digest: digest.FromBytes(data), Size: int64(len(data))}
	fetch := func(_ context.Context, offset int64) (io.ReadCloser, int64, error) {
		return io.NopCloser(bytes.NewReader(data[offset:])), offset, nil
	}
	return desc, s.Ingest(context.Background(), desc, fetch)
}

// untag removes one tag of so many.
func untag(dir string, s scenario) error {
	return withStore(dir, func(st *store.Store) error {
		for i := 0; i < s.repos*s.tags; i += s.every {
			if err := st.Untag(context.Background(), repoName(i/s.tags), tagName(i%s.tags), ledger.Event{By: "bench"}); err != nil {
				return err
			}
		}
		return nil
	})
}
