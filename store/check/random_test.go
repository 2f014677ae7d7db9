package check

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"pgregory.net/rapid"

	"lastro/store"
	"lastro/store/layout"
	"lastro/store/storetest"
)

// damage is what may happen to a file.
var damage = map[string]func(raw, other []byte) []byte{
	"bit flip":   func(raw, _ []byte) []byte { raw[len(raw)/2] ^= 4; return raw },
	"truncation": func(raw, _ []byte) []byte { return raw[:len(raw)-1] },
	"zero page":  func(raw, _ []byte) []byte { clear(raw); return raw },
	"swapped":    func(_, other []byte) []byte { return other },
	"lost":       func(_, _ []byte) []byte { return nil },
}

// files are the links and the content of a store, ordered.
func (s *site) files(t *testing.T) (names []string) {
	root := s.path(layout.Base)
	err := filepath.WalkDir(root, func(name string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() && (e.Name() == "link" || e.Name() == "data") {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// corrupt does damage to a file, and reports whether that made a difference.
func corrupt(t *testing.T, name, other, how string) bool {
	raw, err := os.ReadFile(name)
	if err != nil || len(raw) == 0 {
		return false
	}
	foreign, err := os.ReadFile(other)
	if err != nil {
		return false
	}
	bad := damage[how](slices.Clone(raw), foreign)
	if string(bad) == string(raw) {
		return false
	}
	if how == "lost" {
		err = os.Remove(name)
	} else {
		err = os.WriteFile(name, bad, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return true
}

// Whatever happens to the files, a check finds it, and heals all that any source has.
func TestRandomCorruptionsAreFoundAndHealed(t *testing.T) {
	model := newSite(t)
	if err := model.Close(); err != nil {
		t.Fatal(err)
	}
	stores := &copies{of: model}
	defer stores.drop()
	want, done := 60, 0
	if *long {
		want = 10_000
	}
	for done < want && !t.Failed() {
		rapid.Check(t, func(r *rapid.T) {
			if done < want {
				done += corruptSome(t, r, stores)
			}
		})
		t.Logf("%d corruptions", done)
	}
}

// copies gives out copies of a store. One that came back whole is used some times:
// what heals is as good as new.
type copies struct {
	of   *site
	dir  string
	last *site
	uses int
}

func (c *copies) take(t *testing.T) *site {
	if c.last != nil && c.uses < 25 {
		s := c.last
		c.last, c.uses = nil, c.uses+1 // it is back when it is whole
		return s
	}
	c.drop()
	c.dir, c.uses = storetest.Folder(t), 1
	s := &site{dir: filepath.Join(c.dir, "copy"), all: c.of.all}
	if err := os.CopyFS(s.dir, os.DirFS(c.of.dir)); err != nil {
		t.Fatal(err)
	}
	var err error
	if s.Store, err = store.Open(s.dir, store.Options{Now: time.Now}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func (c *copies) giveBack(t *testing.T, s *site) {
	if err := os.RemoveAll(s.path(store.Quarantine)); err != nil {
		t.Fatal(err)
	}
	c.last = s
}

// drop removes the last copy.
func (c *copies) drop() {
	if c.last != nil {
		c.last.Close()
		c.last = nil
	}
	if c.dir != "" {
		os.RemoveAll(c.dir)
	}
}

// corruptSome does some damage to a copy of a store, and says how often.
func corruptSome(t *testing.T, r *rapid.T, stores *copies) int {
	s := stores.take(t)
	files, hit := s.files(t), []string{}
	for range rapid.IntRange(1, 8).Draw(r, "corruptions") {
		name := rapid.SampledFrom(files).Draw(r, "file")
		other := rapid.SampledFrom(files).Draw(r, "other")
		how := rapid.SampledFrom(slices.Sorted(maps.Keys(damage))).Draw(r, "how")
		if !slices.Contains(hit, name) && corrupt(t, name, other, how) {
			hit = append(hit, name)
		}
	}
	found := s.check(t, Options{Part: 1, Parts: 1, Quarantine: rapid.Bool().Draw(r, "quarantine")})
	for _, name := range hit {
		if !isFound(s, found, name) {
			r.Errorf("what happened to %s is not found:\n%s", name, words(found))
		}
	}
	repaired := s.check(t, Options{Part: 1, Parts: 1, Repair: true, Sources: []Source{s.all}})
	if repaired.Left() > 0 {
		r.Errorf("not repaired:\n%s", words(repaired))
	}
	if again := s.check(t, Options{Part: 1, Parts: 1}); len(again.Problems) > 0 {
		r.Fatalf("problems remain after %v:\n%s\nrepaired:\n%s", hit, words(again), words(repaired))
	}
	if !r.Failed() {
		stores.giveBack(t, s)
	}
	return len(hit)
}

// isFound reports whether a problem is of the file, or of what it belongs to.
func isFound(s *site, r Report, name string) bool {
	rel := strings.TrimPrefix(name, s.path("")+"/")
	return slices.ContainsFunc(r.Problems, func(p Problem) bool {
		return p.Path == rel || p.Digest != "" && p.Digest == digestOf(rel)
	})
}

// digestOf is the digest that a file of the layout is named for.
func digestOf(rel string) digest.Digest {
	return digest.NewDigestFromEncoded(digest.SHA256, filepath.Base(filepath.Dir(rel)))
}
