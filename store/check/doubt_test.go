package check

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"lastro/store"
	"lastro/store/layout"
)

// lyingSource gives bytes that are not what was asked for.
type lyingSource struct{}

func (lyingSource) String() string { return "liar" }

func (lyingSource) Fetch(_ context.Context, _ []string, c store.Content) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(make([]byte, c.Size))), nil
}

func TestASourceThatLiesHealsNothing(t *testing.T) {
	for _, c := range []struct {
		name string
		lost func(s *site) string
	}{
		{name: "a blob", lost: func(s *site) string { return layout.Data(layer(s.tools, 0, 2)) }},
		{name: "a manifest", lost: func(s *site) string { return layout.Data(hex(s.tools, 0)) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t)
			s.remove(t, c.lost(s), "")
			if r := s.check(t, Options{Repair: true, Sources: []Source{lyingSource{}}}); r.Left() != 1 {
				t.Error(words(r))
			}
			if _, err := os.Stat(s.path(c.lost(s))); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("what the source said is there: %v", err)
			}
			if r := s.check(t, Options{Repair: true, Sources: []Source{lyingSource{}, s.all}}); r.Left() != 0 || r.Problems[0].Source != "shelf" {
				t.Error(words(r))
			}
			s.clean(t)
		})
	}
}

// A folder where a file should be is a read error that needs no broken disk.
func TestAReadErrorIsAProblemAndNotTheEnd(t *testing.T) {
	for _, c := range []struct {
		name string
		file func(s *site) string
	}{
		{name: "of a blob", file: func(s *site) string { return layout.Data(layer(s.web, 0, 2)) }},
		{name: "of a manifest", file: func(s *site) string { return layout.Data(hex(s.web, 0)) }},
		{name: "of a tag", file: func(s *site) string { return layout.Tag("apps/web", "1") }},
		{name: "of a manifest's link", file: func(s *site) string { return layout.Revision("apps/web", hex(s.web, 0)) }},
		{name: "of a blob's link", file: func(s *site) string { return layout.Layer("apps/web", layer(s.web, 0, 2)) }},
		{name: "of the list of tags", file: func(s *site) string { return layout.Tags("apps/web") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t)
			s.remove(t, layout.Data(layer(s.tools, 0, 2)), "")
			name := s.path(c.file(s))
			info, err := os.Stat(name)
			if err == nil && info.IsDir() {
				err = errors.Join(os.RemoveAll(name), os.WriteFile(name, nil, 0o600))
			} else {
				err = errors.Join(err, os.Remove(name), os.MkdirAll(filepath.Join(name, "x"), 0o700))
			}
			if err != nil {
				t.Fatal(err)
			}
			r := s.check(t, Options{Part: 1, Parts: 1})
			for _, want := range []Kind{Unreadable, Missing} {
				if !slices.ContainsFunc(r.Problems, func(p Problem) bool { return p.Kind == want }) {
					t.Errorf("nothing is %s:\n%s", want, words(r))
				}
			}
			repaired := s.check(t, Options{Part: 1, Parts: 1, Repair: true, Sources: []Source{s.all}})
			if i := slices.IndexFunc(repaired.Problems, func(p Problem) bool { return p.Kind == Missing }); i < 0 || !repaired.Problems[i].Repaired {
				t.Error(words(repaired))
			}
		})
	}
}

func TestContentThatCameAgainAfterItWasReadStays(t *testing.T) {
	s := newSite(t)
	d := layer(s.tools, 0, 2)
	name := s.path(layout.Data(d))
	bad, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	write(t, name+".new", s.all[d])
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
	if _, taken, err := s.TakeOut(t.Context(), d, bad); err != nil || taken {
		t.Errorf("taken %v, %v", taken, err)
	}
	s.clean(t)
}
