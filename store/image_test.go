package store

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func open(t testing.TB, dir string, o Options) *Store {
	t.Helper()
	if o.Now == nil {
		o.Now = func() time.Time { return epoch }
	}
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// image is an image in memory: what a publication of it needs.
type image struct {
	content   map[digest.Digest][]byte
	manifests []mirror.Manifest // in the order of publication
	absent    []digest.Digest
	root      ocispec.Descriptor
}

func (m *image) blob(kind string, data []byte) ocispec.Descriptor {
	d := digest.FromBytes(data)
	m.content[d] = data
	return ocispec.Descriptor{MediaType: kind, Digest: d, Size: int64(len(data))}
}

// manifest adds a document as the next manifest to publish.
func (m *image) manifest(kind string, document any) ocispec.Descriptor {
	raw, err := json.Marshal(document)
	if err != nil {
		panic(err)
	}
	desc := m.blob(kind, raw)
	parsed, err := mirror.ParseManifest(desc, raw)
	if err != nil {
		panic(err)
	}
	m.manifests = append(m.manifests, parsed)
	return desc
}

func (m *image) single(name string, subject *ocispec.Descriptor) ocispec.Descriptor {
	document := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Subject: subject,
		Config: m.blob(ocispec.MediaTypeImageConfig, []byte(`{"name":"`+name+`"}`)),
		Layers: []ocispec.Descriptor{m.blob(ocispec.MediaTypeImageLayerGzip, []byte("shared")), m.blob(ocispec.MediaTypeImageLayerGzip, []byte("layer of "+name))},
	}
	if subject != nil {
		document.ArtifactType = "application/vnd.example." + name
	}
	return m.manifest(ocispec.MediaTypeImageManifest, document)
}

// newImage is an index of two platforms, of which one may be left out, and two
// referrers, one of them of the other.
func newImage(name string, sparse bool) *image {
	m := &image{content: map[digest.Digest][]byte{}}
	amd64, arm64 := m.single(name+"-amd64", nil), m.single(name+"-arm64", nil)
	if sparse {
		m.manifests, m.absent = m.manifests[:1], []digest.Digest{arm64.Digest}
		delete(m.content, arm64.Digest)
	}
	m.root = m.manifest(ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{amd64, arm64},
	})
	signature := m.single("signature", &m.root)
	m.single("attestation", &signature)
	return m
}

// publication is the image without what its manifests hold: put brings that.
func (m *image) publication(repo, tag string) mirror.Publication {
	return mirror.Publication{Repo: repo, Tag: tag, Root: m.root, Manifests: m.manifests, Absent: m.absent, By: "test"}
}

// ingest stores the content.
func (m *image) ingest(ctx context.Context, s *Store) error {
	for d, data := range m.content {
		fetch := func(_ context.Context, offset int64) (io.ReadCloser, int64, error) {
			return io.NopCloser(bytes.NewReader(data[offset:])), offset, nil
		}
		if err := s.Ingest(ctx, ocispec.Descriptor{Digest: d, Size: int64(len(data))}, fetch); err != nil {
			return err
		}
	}
	return nil
}

// put stores the content and publishes the image.
func (m *image) put(ctx context.Context, s *Store, repo, tag string) (mirror.Published, error) {
	if err := m.ingest(ctx, s); err != nil {
		return mirror.Published{}, err
	}
	return s.Publish(ctx, m.publication(repo, tag))
}

func mustPut(t testing.TB, s *Store, m *image, repo, tag string) {
	t.Helper()
	if _, err := m.put(t.Context(), s, repo, tag); err != nil {
		t.Fatal(err)
	}
}

// checkWhole fails unless every visible tag's closure is here and verified, and
// of every manifest that is served the ledger knows the edges and the blobs are
// served. It returns the tags.
func checkWhole(t testing.TB, s *Store) map[string]digest.Digest {
	t.Helper()
	tags, err := wholeTags(t.Context(), s)
	if err != nil {
		t.Error(err)
	}
	return tags
}

func wholeTags(ctx context.Context, s *Store) (map[string]digest.Digest, error) {
	tags := map[string]digest.Digest{}
	for repo, err := range s.Repositories(ctx) {
		if err != nil {
			return nil, err
		}
		for d, err := range s.Revisions(ctx, repo) {
			if err != nil {
				return nil, err
			}
			if err := isKnownAndWhole(ctx, s, repo, d); err != nil {
				return nil, err
			}
		}
		for tag, err := range s.Tags(ctx, repo) {
			if err != nil {
				return nil, err
			}
			tags[repo+":"+tag.Name] = tag.Digest
			if err := verifyClosure(ctx, s, repo, tag.Digest); err != nil {
				return nil, fmt.Errorf("%s:%s: %w", repo, tag.Name, err)
			}
			known, err := s.Ledger().Tag(ctx, repo, tag.Name)
			if err != nil || known.Digest != tag.Digest {
				return nil, fmt.Errorf("%s:%s is at %s and the ledger says %s (%v)", repo, tag.Name, tag.Digest, known.Digest, err)
			}
		}
	}
	return tags, nil
}

func verifyClosure(ctx context.Context, s *Store, repo string, root digest.Digest) error {
	closure, err := s.Closure(ctx, repo, root)
	if err != nil {
		return err
	}
	for _, c := range closure {
		f, err := s.OpenContent(ctx, c.Digest)
		if err != nil {
			return err
		}
		got, err := c.Digest.Algorithm().FromReader(f)
		f.Close()
		if err != nil || got != c.Digest {
			return fmt.Errorf("content %s hashes to %s (%v)", c.Digest, got, err)
		}
	}
	return nil
}

func isKnownAndWhole(ctx context.Context, s *Store, repo string, d digest.Digest) error {
	desc, raw, err := s.Manifest(ctx, repo, d)
	if err != nil {
		return err
	}
	m, err := mirror.ParseManifest(desc, raw)
	if err != nil {
		return err
	}
	linked, err := s.Ledger().Linked(ctx, repo, d)
	if err != nil || !linked {
		return fmt.Errorf("%s@%s is served and the ledger does not know it (%v)", repo, d, err)
	}
	known, err := s.Ledger().Children(ctx, d)
	if err != nil || len(known) != len(m.Refs) {
		return fmt.Errorf("%s@%s has %d references and the ledger knows %d (%v)", repo, d, len(m.Refs), len(known), err)
	}
	for blob := range m.Blobs() {
		served, err := s.Linked(ctx, repo, blob.Descriptor, false)
		if err != nil || !served {
			return fmt.Errorf("%s@%s is served without its %s %s (%v)", repo, d, blob.Role, blob.Digest, err)
		}
	}
	return nil
}

// copyOf is a copy of a data folder, as another process would find it now.
func copyOf(t testing.TB, dir string) string {
	t.Helper()
	to := filepath.Join(memory(t), "copy")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

func clock() func() time.Time { return func() time.Time { return epoch } }

// memory is a new folder that needs no disk where there is such a thing: for
// tests that only end a process, and lose no power.
func memory(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "lastro-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
