package check

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"iter"
	"os"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	"lastro/store/layout"
	"lastro/store/storetest"
)

// upstream has one image, with the tag 1 in every repository.
type upstream struct{ *storetest.Image }

func (upstream) Repositories(context.Context) iter.Seq2[string, error] {
	return func(func(string, error) bool) {}
}

func (upstream) Tags(context.Context, string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) { yield("1", nil) }
}

func (u upstream) Head(ctx context.Context, repo, ref string) (ocispec.Descriptor, error) {
	desc, _, err := u.Manifest(ctx, repo, ref)
	return desc, err
}

func (u upstream) Manifest(_ context.Context, _, ref string) (ocispec.Descriptor, []byte, error) {
	for _, m := range u.Manifests {
		if d := m.Descriptor.Digest; d.String() == ref || d == u.Root.Digest && ref == "1" {
			return m.Descriptor, u.Content[d], nil
		}
	}
	return ocispec.Descriptor{}, nil, fs.ErrNotExist
}

func (u upstream) Blob(_ context.Context, _ string, desc ocispec.Descriptor, offset int64) (io.ReadCloser, int64, error) {
	return io.NopCloser(bytes.NewReader(u.Content[desc.Digest][offset:])), offset, nil
}

func (u upstream) Referrers(_ context.Context, _ string, d digest.Digest) (list []ocispec.Descriptor, err error) {
	for _, m := range u.Manifests {
		if m.Subject != nil && m.Subject.Digest == d {
			list = append(list, m.Descriptor)
		}
	}
	return list, nil
}

func (upstream) Requests() int64 { return 0 }

func (upstream) Budget() mirror.Budget { return mirror.Budget{} }

// mirrored is a store that a rule fills from an upstream, and what syncs it.
func mirrored(t *testing.T, u upstream) (s *site, sync func()) {
	t.Helper()
	s = &site{dir: t.TempDir(), all: shelf(u.Content)}
	s.open(t)
	e := &mirror.Engine{Dest: s.Store, Memory: s.Store, Now: time.Now, Source: func(string) (mirror.Source, error) { return u, nil }}
	sync = func() {
		t.Helper()
		plan, err := e.Plan(t.Context(), []mirror.Rule{{From: "up.test/a", To: "a", Referrers: true}})
		if err != nil {
			t.Fatal(err)
		}
		if r, err := e.Apply(t.Context(), plan); err != nil || r.Failed() > 0 {
			t.Fatal(r, err)
		}
	}
	sync()
	return s, sync
}

func TestWhatWasTakenOutComesWithTheNextSync(t *testing.T) {
	m := storetest.New("a")
	for name, d := range map[string]digest.Digest{
		"a layer":                        layer(m, 0, 2),
		"a config":                       layer(m, 1, 0),
		"a manifest":                     hex(m, 0),
		"the index":                      m.Root.Digest,
		"a layer of a referrer":          layer(m, 3, 2),
		"a referrer":                     hex(m, 3),
		"a layer of a referrer of that":  layer(m, 4, 2),
		"a referrer of a referrer":       hex(m, 4),
		"a layer that all of them share": layer(m, 0, 1),
	} {
		t.Run(name, func(t *testing.T) {
			s, sync := mirrored(t, upstream{m})
			write(t, s.path(layout.Data(d)), bytes.ToUpper(m.Content[d]))
			if r := s.check(t, Options{Part: 1, Parts: 1, Repair: true}); r.Left() == 0 {
				t.Fatal(words(r))
			}
			if _, err := os.Stat(s.path(layout.Data(d))); err == nil {
				t.Fatal("it is in service")
			}
			sync()
			s.clean(t)
		})
	}
}
