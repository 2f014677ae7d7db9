package check

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	"lastro/store"
)

var long = flag.Bool("long", false, "make ten thousand corruptions")

// shelf has all content that the tests make, and is a source.
type shelf map[digest.Digest][]byte

func (s shelf) String() string { return "shelf" }

func (s shelf) Fetch(_ context.Context, _ []string, c store.Content) (io.ReadCloser, error) {
	raw, ok := s[c.Digest]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(raw)), nil
}

// picture is an image to publish.
type picture struct {
	shelf     shelf
	manifests []mirror.Manifest
	root      ocispec.Descriptor
}

func (p *picture) blob(kind string, raw []byte) ocispec.Descriptor {
	d := digest.FromBytes(raw)
	p.shelf[d] = raw
	return ocispec.Descriptor{MediaType: kind, Digest: d, Size: int64(len(raw))}
}

func (p *picture) manifest(kind string, document any) ocispec.Descriptor {
	raw, err := json.Marshal(document)
	if err != nil {
		panic(err)
	}
	desc := p.blob(kind, raw)
	m, err := mirror.ParseManifest(desc, raw)
	if err != nil {
		panic(err)
	}
	p.manifests = append(p.manifests, m)
	return desc
}

func (p *picture) single(name string, subject *ocispec.Descriptor) ocispec.Descriptor {
	return p.manifest(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Subject: subject,
		Config: p.blob(ocispec.MediaTypeImageConfig, []byte(`{"name":"`+name+`"}`)),
		Layers: []ocispec.Descriptor{p.blob(ocispec.MediaTypeImageLayerGzip, []byte("a layer that all share")), p.blob(ocispec.MediaTypeImageLayerGzip, []byte("the layer of "+name))},
	})
}

// newPicture is an index of two platforms with a referrer.
func newPicture(name string, all shelf) *picture {
	p := &picture{shelf: all}
	a, b := p.single(name+"-amd64", nil), p.single(name+"-arm64", nil)
	p.root = p.manifest(ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{a, b},
	})
	p.single(name+"-signature", &p.root)
	return p
}

func (p *picture) put(ctx context.Context, s *store.Store, repo, tag string) error {
	for _, m := range p.manifests {
		descs := []ocispec.Descriptor{m.Descriptor}
		for r := range m.Blobs() {
			descs = append(descs, r.Descriptor)
		}
		for _, desc := range descs {
			raw := p.shelf[desc.Digest]
			fetch := func(_ context.Context, offset int64) (io.ReadCloser, int64, error) {
				return io.NopCloser(bytes.NewReader(raw[offset:])), offset, nil
			}
			if err := s.Ingest(ctx, desc, fetch); err != nil {
				return err
			}
		}
	}
	_, err := s.Publish(ctx, mirror.Publication{Repo: repo, Tag: tag, Root: p.root, Manifests: p.manifests, By: "test"})
	return err
}

// site is a store with two images in two repositories, which share one of them.
type site struct {
	*store.Store
	dir        string
	all        shelf
	web, tools *picture
}

func newSite(t testing.TB) *site {
	t.Helper()
	all := shelf{}
	s := &site{dir: t.TempDir(), all: all, web: newPicture("web", all), tools: newPicture("tools", all)}
	s.open(t)
	for _, to := range []struct {
		p         *picture
		repo, tag string
	}{{s.web, "apps/web", "1"}, {s.web, "apps/web", "latest"}, {s.tools, "tools", "2"}, {s.web, "copy", "1"}} {
		if err := to.p.put(t.Context(), s.Store, to.repo, to.tag); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s *site) open(t testing.TB) {
	t.Helper()
	var err error
	if s.Store, err = store.Open(s.dir, store.Options{Now: time.Now}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Store.Close() })
}

// path is where a name of the layout lies.
func (s *site) path(name string) string { return filepath.Join(s.dir, "registry", name) }

func (s *site) check(t testing.TB, o Options) Report {
	t.Helper()
	r, err := Run(t.Context(), s.Store, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (s *site) clean(t testing.TB) {
	t.Helper()
	if r := s.check(t, Options{Part: 1, Parts: 1}); len(r.Problems) > 0 {
		t.Errorf("problems remain:\n%s", words(r))
	}
}

func words(r Report) string {
	var b bytes.Buffer
	_ = r.Print(&b)
	return b.String()
}

func write(t testing.TB, name string, raw []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

func hex(p *picture, i int) digest.Digest { return p.manifests[i].Descriptor.Digest }

func layer(p *picture, manifest, n int) digest.Digest { return p.manifests[manifest].Refs[n].Digest }
