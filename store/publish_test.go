package store

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	"pgregory.net/rapid"

	"lastro/mirror"
	"lastro/store/layout"
	"lastro/store/ledger"
	"lastro/store/storetest"
)

var long = flag.Bool("long", false, "run the long variants too")

func TestAPublishedImageIsWhole(t *testing.T) {
	for _, m := range []*storetest.Image{storetest.New("a"), storetest.Sparse("a")} {
		s := open(t, storetest.Folder(t), Options{})
		got, err := m.Put(t.Context(), s, "lib/a", "v1")
		if err != nil || !got.Changed || got.Previous != "" {
			t.Fatalf("%+v, %v", got, err)
		}
		closure, err := s.Closure(t.Context(), "lib/a", m.Root.Digest)
		if err != nil {
			t.Fatal(err)
		}
		// The content of a child that is left out was never asked for by name.
		want := len(m.Content)
		if len(m.Absent) > 0 {
			want -= 2
		}
		if len(closure) != want {
			t.Errorf("without %v: a closure of %d, want %d", m.Absent, len(closure), want)
		}
		checkWhole(t, s)
		again, err := m.Put(t.Context(), s, "lib/a", "v1")
		if err != nil || again.Changed || again.Previous != m.Root.Digest {
			t.Errorf("again: %+v, %v", again, err)
		}
		events, err := s.Ledger().History(t.Context(), "lib/a", "v1")
		if err != nil || len(events) != 1 || events[0].Event != ledger.Seen {
			t.Errorf("history %+v, %v", events, err)
		}
	}
}

func TestPublishRefusesWhatWouldNotBeWhole(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(s *Store, p *mirror.Publication)
		want   string
	}{
		{"a root that is not among the manifests", func(_ *Store, p *mirror.Publication) { p.Manifests = p.Manifests[:2] }, "is not among those to publish"},
		{"an index without a child", func(_ *Store, p *mirror.Publication) { p.Manifests = p.Manifests[1:] }, "not published, nor left out on purpose"},
		{"an index before its children", func(_ *Store, p *mirror.Publication) { slices.Reverse(p.Manifests) }, "not published, nor left out on purpose"},
		{"a layer that is not stored", func(s *Store, p *mirror.Publication) {
			if err := s.tree.Remove(layout.Data(digest.FromString("shared"))); err != nil {
				panic(err)
			}
		}, "is not stored"},
		{"a manifest that is not stored", func(s *Store, p *mirror.Publication) {
			if err := s.tree.Remove(layout.Data(p.Root.Digest)); err != nil {
				panic(err)
			}
		}, "is not stored"},
		{"a repository that is none", func(_ *Store, p *mirror.Publication) { p.Repo = "../a" }, "not a repository name"},
		{"a tag that is none", func(_ *Store, p *mirror.Publication) { p.Tag = "../a" }, "not a tag"},
		{"a digest of a kind that is not kept", func(_ *Store, p *mirror.Publication) {
			p.Absent = []digest.Digest{digest.SHA384.FromString("x")}
		}, "unsupported digest algorithm"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t, storetest.Folder(t), Options{})
			m := storetest.New("a")
			if err := errors.Join(m.Ingest(t.Context(), s), s.tree.Barrier()); err != nil {
				t.Fatal(err)
			}
			p := m.Publication("a", "v1")
			p.Manifests = slices.Clone(p.Manifests)
			c.change(s, &p)
			if _, err := s.Publish(t.Context(), p); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "local registry") {
				t.Errorf("got %v", err)
			}
			if tags := checkWhole(t, s); len(tags) > 0 {
				t.Errorf("visible: %v", tags)
			}
		})
	}
}

func TestASHA512ImageIsPublished(t *testing.T) {
	s := open(t, storetest.Folder(t), Options{})
	m := &storetest.Image{}
	m.Single("a", nil)
	raw := m.Content[m.Root.Digest]
	d := digest.SHA512.FromBytes(raw)
	m.Content[d] = raw
	m.Root.Digest = d
	m.Manifests[0].Descriptor.Digest = d
	m.MustPut(t, s, "a", "v1")
	if tags := checkWhole(t, s); tags["a:v1"] != d {
		t.Errorf("tags %v", tags)
	}
}

func TestUntagEndsATagAndKeepsItsHistory(t *testing.T) {
	dir := storetest.Folder(t)
	s := open(t, dir, Options{})
	storetest.New("a").MustPut(t, s, "a", "v1")
	if err := s.Untag(t.Context(), "a", "v1", ledger.Event{By: "test"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Untag(t.Context(), "a", "v1", ledger.Event{By: "test"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("again: %v", err)
	}
	events, err := s.Ledger().History(t.Context(), "a", "v1")
	if err != nil || len(events) != 2 || events[1].Event != ledger.Removed {
		t.Errorf("history %+v, %v", events, err)
	}
}

func TestAnUntagThatCouldNotBeMadeDurableIsDoneByTheNext(t *testing.T) {
	fail := false
	s := open(t, storetest.Folder(t), Options{Fault: func(op, _ string) error {
		if fail && op == "fsync" {
			fail = false
			return syscall.EIO
		}
		return nil
	}})
	storetest.New("a").MustPut(t, s, "a", "v1")
	fail = true
	if err := s.Untag(t.Context(), "a", "v1", ledger.Event{By: "test"}); !errors.Is(err, syscall.EIO) {
		t.Fatalf("got %v", err)
	}
	if err := s.Untag(t.Context(), "a", "v1", ledger.Event{By: "test"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Ledger().Tag(t.Context(), "a", "v1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the ledger says %v", err)
	}
}

// died is what a step of a test panics with.
type died struct{ step int }

// TestAfterAnEndAtAnyStepTheStoreIsWholeAndTheNextPublishCompletes ends a
// publication that moves a tag, adds referrers and another repository at each of
// its writes, and looks at what another process finds then.
func TestAfterAnEndAtAnyStepTheStoreIsWholeAndTheNextPublishCompletes(t *testing.T) {
	t.Parallel()
	older, newer := storetest.New("older"), storetest.Sparse("newer")
	for k := 1; ; k += stride() {
		dir := storetest.Folder(t)
		steps := -1 // not counted while the first image comes
		s := open(t, dir, Options{Step: func(string, string) {
			if steps < 0 {
				return
			}
			if steps++; steps == k {
				panic(died{k})
			}
		}})
		older.MustPut(t, s, "a", "v1")
		steps = 0
		ended := func() (ended bool) {
			defer func() {
				if p := recover(); p != nil {
					ended = p.(died).step == k
				}
			}()
			newer.MustPut(t, s, "a", "v1")
			newer.MustPut(t, s, "b/c", "v2")
			if err := s.Untag(t.Context(), "a", "v1", ledger.Event{By: "test"}); err != nil {
				t.Fatal(err)
			}
			return false
		}()
		found := copyOf(t, dir)
		s.Close()
		after := open(t, found, Options{})
		tags := checkWhole(t, after)
		if d, ok := tags["a:v1"]; ok && d != older.Root.Digest && d != newer.Root.Digest {
			t.Errorf("step %d: the tag is at %s", k, d)
		}
		newer.MustPut(t, after, "a", "v1")
		newer.MustPut(t, after, "b/c", "v2")
		if tags := checkWhole(t, after); tags["a:v1"] != newer.Root.Digest || tags["b/c:v2"] != newer.Root.Digest {
			t.Errorf("step %d: the next run left %v", k, tags)
		}
		after.Close()
		if t.Failed() {
			t.Fatalf("at step %d", k)
		}
		if !ended {
			if k < 50 {
				t.Errorf("only %d steps", k)
			}
			return
		}
	}
}

// stride is how many steps a test goes on: all are visited in the long run.
func stride() int {
	if *long {
		return 1
	}
	return 3
}

func TestAFaultAtAnyStepLeavesTheImageAsItWas(t *testing.T) {
	t.Parallel()
	for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
		older, newer := storetest.New("older"), storetest.New("newer")
		for k := 1; ; k += stride() {
			steps := -1
			dir := storetest.Folder(t)
			s := open(t, dir, Options{Fault: func(string, string) error {
				if steps >= 0 {
					steps++
				}
				if steps == k {
					return cause
				}
				return nil
			}})
			older.MustPut(t, s, "a", "v1")
			steps = 0
			_, err := newer.Put(t.Context(), s, "a", "v1")
			if err == nil {
				break
			}
			if !errors.Is(err, cause) || !strings.Contains(err.Error(), "local registry") || strings.Contains(err.Error(), "disk is full") != (cause == syscall.ENOSPC) {
				t.Errorf("step %d: %v", k, err)
			}
			if tags := checkWhole(t, s); tags["a:v1"] != older.Root.Digest {
				t.Errorf("step %d: the tag is at %s", k, tags["a:v1"])
			}
			s.Close()
			s = open(t, dir, Options{})
			newer.MustPut(t, s, "a", "v1")
			checkWhole(t, s)
			s.Close()
		}
	}
}

// TestTheStoreIsWhatAMapSays drives a store beside a map of tags.
func TestTheStoreIsWhatAMapSays(t *testing.T) {
	images := []*storetest.Image{storetest.New("a"), storetest.Sparse("b"), storetest.New("c")}
	if !*long {
		if err := flag.Set("rapid.checks", "8"); err != nil {
			t.Fatal(err)
		}
	}
	t.Parallel()
	models := storetest.Folder(t)
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(models, "model")
		if err != nil {
			rt.Fatal(err)
		}
		s, err := Open(dir, Options{Now: storetest.Now})
		if err != nil {
			rt.Fatal(err)
		}
		defer func() { s.Close() }()
		want := map[string]digest.Digest{}
		place := rapid.SampledFrom([]string{"r:x", "r:y", "r/s:x"})
		must := func(err error) {
			if err != nil {
				rt.Fatal(err)
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"publish": func(rt *rapid.T) {
				at, m := place.Draw(rt, "at"), rapid.SampledFrom(images).Draw(rt, "image")
				repo, tag, _ := strings.Cut(at, ":")
				got, err := m.Put(context.Background(), s, repo, tag)
				must(err)
				if got.Previous != want[at] || got.Changed != (want[at] != m.Root.Digest) {
					rt.Fatalf("%s was %s: published %+v", at, want[at], got)
				}
				want[at] = m.Root.Digest
			},
			"untag": func(rt *rapid.T) {
				at := place.Draw(rt, "at")
				repo, tag, _ := strings.Cut(at, ":")
				err := s.Untag(context.Background(), repo, tag, ledger.Event{By: "test"})
				if _, ok := want[at]; ok != (err == nil) || !ok && !errors.Is(err, fs.ErrNotExist) {
					rt.Fatalf("untag %s: %v", at, err)
				}
				delete(want, at)
			},
			"open again": func(rt *rapid.T) {
				must(s.Close())
				s, err = Open(dir, Options{Now: storetest.Now})
				must(err)
			},
			"lose the ledger": func(rt *rapid.T) {
				must(errors.Join(s.Close(), os.Remove(filepath.Join(dir, "ledger.db"))))
				s, err = Open(dir, Options{Now: storetest.Now})
				must(err)
				_, err = s.Rebuild(context.Background())
				must(err)
			},
			"rebuild": func(rt *rapid.T) {
				out, err := s.Rebuild(context.Background())
				must(err)
				if len(out.Problems) > 0 || out.Tags != len(want) {
					rt.Fatalf("%d tags: %+v", len(want), out)
				}
			},
			"": func(rt *rapid.T) {
				got, err := wholeTags(context.Background(), s)
				must(err)
				if !maps.Equal(got, want) {
					rt.Fatalf("tags %v, want %v", got, want)
				}
			},
		})
	})
}

func TestPublishNamesWhatItPublishes(t *testing.T) {
	s := open(t, storetest.Folder(t), Options{})
	m := storetest.New("a")
	if _, err := m.Put(t.Context(), s, "a", ""); err != nil {
		t.Fatal(err)
	}
	if tags := checkWhole(t, s); len(tags) > 0 {
		t.Errorf("tags %v", tags)
	}
	p := m.Publication("a", "")
	p.Manifests = nil
	if _, err := s.Publish(t.Context(), p); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("publish a@%s: local registry: ", m.Root.Digest)) {
		t.Errorf("got %v", err)
	}
}
