package layout

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"lastro/store/storetest"
)

func TestWhatWasReadBesideAChangeIsNotRemembered(t *testing.T) {
	weight := func(string, int) int { return 1 }
	for name, end := range map[string]func(c *cache[int]) func(){
		"of its key":    func(c *cache[int]) func() { return c.change("a") },
		"of a folder":   func(c *cache[int]) func() { return c.changeAll(func(string) bool { return true }) },
		"of its shard":  func(c *cache[int]) func() { return c.changeAll(func(string) bool { return false }) },
		"and a change":  func(c *cache[int]) func() { first := c.change("a"); second := c.change("a"); first(); return second },
		"and one ended": func(c *cache[int]) func() { c.change("a")(); return c.change("a") },
	} {
		c := newCache(100*cacheShards, weight)
		_, before, _ := c.get("a")
		changed := end(c)
		_, during, _ := c.get("a")
		c.keep("a", 1, during)
		if _, _, ok := c.get("a"); ok {
			t.Errorf("%s: what was read during it is known during it", name)
		}
		changed()
		c.keep("a", 1, before)
		c.keep("a", 1, during)
		_, after, ok := c.get("a")
		if ok {
			t.Errorf("%s: what was read before its end is known", name)
		}
		c.keep("a", 2, after)
		if v, _, ok := c.get("a"); !ok || v != 2 {
			t.Errorf("%s: what was read after it is not known", name)
		}
	}
}

func TestACacheHoldsAsMuchAsItMay(t *testing.T) {
	const bound = 100 * cacheShards
	c := newCache(bound, func(_ string, weight int) int { return weight })
	sum := func() (bytes, weights, entries int) {
		for i := range c.shards {
			bytes += c.shards[i].bytes
			entries += len(c.shards[i].known)
			for _, w := range c.shards[i].known {
				weights += w
			}
		}
		return bytes, weights, entries
	}
	for i := range 10_000 {
		key := fmt.Sprint(i % 3000)
		_, mark, _ := c.get(key)
		c.keep(key, 1+i%40, mark)
		if bytes, weights, _ := sum(); i%100 == 0 && (bytes > bound || bytes != weights) {
			t.Fatalf("holds %d bytes, counted as %d, of %d", weights, bytes, bound)
		}
	}
	if _, weights, entries := sum(); weights < bound/2 || entries < 100 {
		t.Errorf("%d entries of %d bytes are left", entries, weights)
	}
	_, mark, _ := c.get("large")
	if c.keep("large", 101, mark); c.shard("large").bytes > 100 {
		t.Error("what is larger than a shard is remembered")
	}
}

func TestWhatAChangeReachesIsToldByItsName(t *testing.T) {
	const repo, hex = Repositories + "/a/b", "abcd"
	for name, want := range map[string]struct {
		reach reach
		key   string
	}{
		".":                                          {many, ""},
		"docker":                                     {many, ""},
		Base:                                         {many, ""},
		Blobs:                                        {many, ""},
		Repositories:                                 {many, ""},
		Repositories + "/a":                          {many, ""},
		repo:                                         {many, ""},
		repo + "/_layers":                            {many, ""},
		repo + "/_layers/sha256":                     {many, ""},
		repo + "/_manifests":                         {many, ""},
		repo + "/_manifests/tags":                    {many, ""},
		repo + "/_manifests/other":                   {nothing, ""},
		repo + "/_uploads":                           {nothing, ""},
		repo + "/_uploads/x/data":                    {nothing, ""},
		repo + "/_layers/sha256/ab":                  {oneLink, repo + "/_layers/sha256/ab/link"},
		repo + "/_layers/sha256/current":             {oneLink, repo + "/_layers/sha256/current/link"},
		repo + "/_layers/sha256/ab/link":             {oneLink, repo + "/_layers/sha256/ab/link"},
		repo + "/_layers/sha256/ab/other":            {nothing, ""},
		repo + "/_layers/sha256/ab/link/x":           {nothing, ""},
		repo + "/_manifests/revisions":               {many, ""},
		repo + "/_manifests/revisions/sha256":        {many, ""},
		repo + "/_manifests/revisions/sha256/ab":     {oneLink, repo + "/_manifests/revisions/sha256/ab/link"},
		repo + "/_manifests/tags/_v1":                {oneLink, repo + "/_manifests/tags/_v1/current/link"},
		repo + "/_manifests/tags/v1/current":         {oneLink, repo + "/_manifests/tags/v1/current/link"},
		repo + "/_manifests/tags/v1/current/link":    {oneLink, repo + "/_manifests/tags/v1/current/link"},
		repo + "/_manifests/tags/v1/index":           {nothing, ""},
		repo + "/_manifests/tags/v1/index/sha256/ab": {nothing, ""},
		repo + "/_layers/x/_manifests/tags/v1/link":  {nothing, ""},
		Blobs + "/sha256":                            {many, ""},
		Blobs + "/sha256/ab":                         {many, ""},
		Blobs + "/sha256/ab/" + hex:                  {oneContent, "sha256:" + hex},
		Blobs + "/sha256/ab/" + hex + "/data":        {oneContent, "sha256:" + hex},
		Blobs + "/sha256/ab/" + hex + "/other":       {nothing, ""},
		"elsewhere/_layers/sha256/ab/link":           {nothing, ""},
	} {
		if reach, key := reachOf(name); reach != want.reach || key != want.key {
			t.Errorf("%s: reaches %d %q, want %d %q", name, reach, key, want.reach, want.key)
		}
	}
}

func TestATagThatWasReadBeforeItWasTakenBackIsReadAgain(t *testing.T) {
	old, wrong := digest.FromString("old"), digest.FromString("new")
	name := Tag("a", "v1")
	for had, want := range map[bool]error{true: nil, false: fs.ErrNotExist} {
		f := &failing{op: secondBarrier, err: syscall.EIO}
		var tree *Tree
		seen := false
		tree = open(t, storetest.Folder(t), Options{Fault: afterRename(f), Step: func(op, _ string) {
			if op == "syncfs" && f.count > 0 {
				d, _ := tree.ReadLink(name)
				seen = seen || d == wrong
			}
		}})
		if had {
			if err := tree.LinkDurably(name, old); err != nil {
				t.Fatal(err)
			}
		}
		f.count = 1
		if err := tree.LinkDurably(name, wrong); !errors.Is(err, syscall.EIO) || !seen {
			t.Fatalf("got %v, the new tag was read: %v", err, seen)
		}
		if d, err := tree.ReadLink(name); !errors.Is(err, want) || had && d != old {
			t.Errorf("a tag before: %v; then %q, %v", had, d, err)
		}
	}
}

func TestALinkIsRememberedByOneNameOnly(t *testing.T) {
	tree := open(t, storetest.Folder(t), Options{})
	d := digest.FromString("x")
	name := Layer("a", d)
	for _, alias := range []string{name, "./" + name, strings.Replace(name, "/a/", "/a//", 1), strings.Replace(name, "/a/", "/a/../a/", 1)} {
		if err := tree.Link(name, d); err != nil {
			t.Fatal(err)
		}
		for _, twice := range []string{name, alias, name, alias} {
			if got, err := tree.ReadLink(twice); got != d || err != nil {
				t.Errorf("%s: got %q, %v", twice, got, err)
			}
		}
		if err := tree.Remove(strings.TrimSuffix(alias, "/link")); err != nil {
			t.Fatal(err)
		}
		for _, again := range []string{name, alias} {
			if got, err := tree.ReadLink(again); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s, after %s was removed: %q, %v", again, alias, got, err)
			}
		}
	}
}

// BenchmarkReadLink reads from 8 goroutines what is known.
func BenchmarkReadLink(b *testing.B) {
	tree := open(b, storetest.Folder(b), Options{})
	names := make([]string, 1000)
	for i := range names {
		d := digest.FromString(fmt.Sprint(i))
		names[i] = Layer("docker.io/library/alpine", d)
		if err := tree.Link(names[i], d); err != nil {
			b.Fatal(err)
		}
	}
	for name, some := range map[string][]string{"one link": names[:1], "1000 links": names} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var wg sync.WaitGroup
			for g := range 8 {
				wg.Go(func() {
					for i := range b.N / 8 {
						if _, err := tree.ReadLink(some[(i+g*100)%len(some)]); err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
		})
	}
	b.Run("from the disk", func(b *testing.B) {
		for i := range b.N {
			if _, err := tree.root.readLink(names[i%len(names)]); err != nil {
				b.Error(err)
			}
		}
	})
}

func TestALinkThatOthersEmptiedIsMadeAgainThoughItIsKnown(t *testing.T) {
	dir := storetest.Folder(t)
	tree := open(t, dir, Options{})
	d := digest.FromString("x")
	name := Layer("a", d)
	if err := tree.Link(name, d); err != nil {
		t.Fatal(err)
	}
	if _, err := tree.ReadLink(name); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Truncate(filepath.Join(dir, "registry", name), 0), tree.Link(name, d)); err != nil {
		t.Fatal(err)
	}
	if got, err := tree.root.readLink(name); got != d || err != nil {
		t.Errorf("the link is %q, %v", got, err)
	}
}
