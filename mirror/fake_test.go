package mirror_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
)

// shelf is an upstream in memory. It counts what is asked of it.
type shelf struct {
	mu        sync.Mutex
	blobs     map[digest.Digest][]byte
	manifests map[string]map[digest.Digest]ocispec.Descriptor // by repository
	tags      map[string]map[string]digest.Digest
	referrers bool // has the API

	asked    map[string]int // "HEAD library/base:1", "GET sha256:…"
	requests atomic.Int64
}

var _ mirror.Source = (*shelf)(nil)

func newShelf() *shelf {
	return &shelf{
		blobs:     map[digest.Digest][]byte{},
		manifests: map[string]map[digest.Digest]ocispec.Descriptor{},
		tags:      map[string]map[string]digest.Digest{},
		referrers: true,
		asked:     map[string]int{},
	}
}

func (s *shelf) note(ctx context.Context, format string, args ...any) error {
	s.requests.Add(1)
	s.asked[fmt.Sprintf(format, args...)]++
	return ctx.Err()
}

// count is how many requests began with prefix.
func (s *shelf) count(prefix string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for what, times := range s.asked {
		if strings.HasPrefix(what, prefix) {
			n += times
		}
	}
	return n
}

func (s *shelf) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.asked)
}

func (s *shelf) Requests() int64 { return s.requests.Load() }

func (s *shelf) Budget() mirror.Budget { return mirror.Budget{} }

func (s *shelf) Repositories(ctx context.Context) iter.Seq2[string, error] {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.note(ctx, "CATALOG")
	return each(slices.Sorted(maps.Keys(s.manifests)), err)
}

func (s *shelf) Tags(ctx context.Context, repo string) iter.Seq2[string, error] {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.note(ctx, "TAGS %s", repo)
	if err == nil && s.manifests[repo] == nil {
		err = fs.ErrNotExist
	}
	return each(slices.Sorted(maps.Keys(s.tags[repo])), err)
}

func each(names []string, err error) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err != nil {
			yield("", err)
			return
		}
		for _, name := range names {
			if !yield(name, nil) {
				return
			}
		}
	}
}

func (s *shelf) Head(ctx context.Context, repo, ref string) (ocispec.Descriptor, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.note(ctx, "HEAD %s:%s", repo, ref); err != nil {
		return ocispec.Descriptor{}, err
	}
	return s.find(repo, ref)
}

func (s *shelf) find(repo, ref string) (ocispec.Descriptor, error) {
	d := digest.Digest(ref)
	if !strings.Contains(ref, ":") {
		d = s.tags[repo][ref]
	}
	desc, ok := s.manifests[repo][d]
	if !ok {
		return desc, fmt.Errorf("%s:%s: %w", repo, ref, fs.ErrNotExist)
	}
	return desc, nil
}

func (s *shelf) Manifest(ctx context.Context, repo, ref string) (ocispec.Descriptor, []byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.note(ctx, "GET %s", ref); err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	desc, err := s.find(repo, ref)
	return desc, s.blobs[desc.Digest], err
}

func (s *shelf) Blob(ctx context.Context, _ string, desc ocispec.Descriptor, offset int64) (io.ReadCloser, int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.note(ctx, "BLOB %s", desc.Digest); err != nil {
		return nil, 0, err
	}
	data, ok := s.blobs[desc.Digest]
	if !ok {
		return nil, 0, fs.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(data[offset:])), offset, nil
}

func (s *shelf) Referrers(ctx context.Context, repo string, subject digest.Digest) ([]ocispec.Descriptor, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.note(ctx, "REFERRERS %s", subject); err != nil {
		return nil, err
	}
	if !s.referrers {
		return nil, fmt.Errorf("referrers: %w", errors.ErrUnsupported)
	}
	var found []ocispec.Descriptor
	for _, d := range slices.Sorted(maps.Keys(s.manifests[repo])) {
		m, err := mirror.ParseManifest(s.manifests[repo][d], s.blobs[d])
		if err == nil && m.Subject != nil && m.Subject.Digest == subject {
			desc := m.Descriptor
			desc.Annotations = map[string]string{"listed": "yes"}
			found = append(found, desc)
		}
	}
	return found, nil
}

// The rest fills the shelf.

func (s *shelf) blob(mediaType string, data []byte) ocispec.Descriptor {
	d := digest.FromBytes(data)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blobs[d] = data
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(data))}
}

// layer is size bytes that begin with text and compress badly.
func (s *shelf) layer(text string, size int) ocispec.Descriptor {
	data := make([]byte, 0, size+32)
	for d := digest.FromString(text); len(data) < size; d = digest.FromString(d.String()) {
		data = append(data, d.Encoded()...)
	}
	copy(data, text)
	return s.blob(ocispec.MediaTypeImageLayerGzip, data[:max(size, len(text))])
}

// put stores raw as a manifest of repo.
func (s *shelf) put(repo, mediaType string, raw []byte) ocispec.Descriptor {
	desc := s.blob(mediaType, raw)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.manifests[repo] == nil {
		s.manifests[repo] = map[digest.Digest]ocispec.Descriptor{}
	}
	s.manifests[repo][desc.Digest] = desc
	return desc
}

func (s *shelf) tag(repo, tag string, d digest.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tags[repo] == nil {
		s.tags[repo] = map[string]digest.Digest{}
	}
	s.tags[repo][tag] = d
}

func (s *shelf) untag(repo, tag string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tags[repo], tag)
}

// image puts a manifest with a config of its own and the layers.
func (s *shelf) image(repo, name string, layers ...ocispec.Descriptor) ocispec.Descriptor {
	config := s.blob(ocispec.MediaTypeImageConfig, []byte(`{"architecture":"amd64","os":"linux","name":"`+name+`"}`))
	return s.document(repo, ocispec.MediaTypeImageManifest, ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: layers})
}

func (s *shelf) index(repo string, children ...ocispec.Descriptor) ocispec.Descriptor {
	return s.document(repo, ocispec.MediaTypeImageIndex, ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: children})
}

// about puts a manifest that refers to a subject.
func (s *shelf) about(repo, name string, subject ocispec.Descriptor) ocispec.Descriptor {
	return s.document(repo, ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: "application/vnd.example." + name,
		Config: s.blob(ocispec.DescriptorEmptyJSON.MediaType, ocispec.DescriptorEmptyJSON.Data), Layers: []ocispec.Descriptor{s.layer(name+subject.Digest.String(), 100)},
		Subject: &ocispec.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size},
	})
}

func (s *shelf) document(repo, mediaType string, doc any) ocispec.Descriptor {
	raw, err := json.Marshal(doc)
	if err != nil {
		panic(err)
	}
	return s.put(repo, mediaType, raw)
}

// on says that an index's child is for a platform.
func on(platform string, desc ocispec.Descriptor) ocispec.Descriptor {
	p, err := mirror.ParsePlatform(platform)
	if err != nil {
		panic(err)
	}
	desc.Platform = &ocispec.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}
	return desc
}

// attestation says that an index's child is BuildKit's, about another child.
func attestation(about, desc ocispec.Descriptor) ocispec.Descriptor {
	desc.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	desc.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": about.Digest.String()}
	return desc
}

func attachedTag(d digest.Digest, suffix string) string {
	return strings.Replace(d.String(), ":", "-", 1) + suffix
}
