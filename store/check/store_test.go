package check

import (
	"bytes"
	"context"
	"flag"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"lastro/store"
	"lastro/store/storetest"
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

// image is an index of two platforms with a referrer. Everybody finds its content
// on the shelf.
func image(name string, all shelf) *storetest.Image {
	m := &storetest.Image{}
	m.Index(m.Single(name+"-amd64", nil), m.Single(name+"-arm64", nil))
	m.Single(name+"-signature", &m.Root)
	maps.Copy(all, m.Content)
	return m
}

// site is a store with two images in two repositories, which share one of them.
type site struct {
	*store.Store
	dir        string
	all        shelf
	web, tools *storetest.Image
}

func newSite(t testing.TB) *site {
	t.Helper()
	all := shelf{}
	s := &site{dir: t.TempDir(), all: all, web: image("web", all), tools: image("tools", all)}
	s.open(t)
	s.web.MustPut(t, s.Store, "apps/web", "1")
	s.web.MustPut(t, s.Store, "apps/web", "latest")
	s.tools.MustPut(t, s.Store, "tools", "2")
	s.web.MustPut(t, s.Store, "copy", "1")
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

func hex(m *storetest.Image, i int) digest.Digest { return m.Manifests[i].Descriptor.Digest }

func layer(m *storetest.Image, manifest, n int) digest.Digest {
	return m.Manifests[manifest].Refs[n].Digest
}
