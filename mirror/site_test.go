package mirror_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"lastro/mirror"
	"lastro/store"
	"lastro/store/layout"
)

// site is a real store, and an engine that fills it from one upstream.
type site struct {
	dir    string
	store  *store.Store
	engine *mirror.Engine
	clock  *clock
}

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func newSite(t testing.TB, up mirror.Source) *site {
	t.Helper()
	return openSite(t, t.TempDir(), up, store.Options{})
}

func openSite(t testing.TB, dir string, up mirror.Source, o store.Options) *site {
	t.Helper()
	c := &clock{now: time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)}
	o.Now = c.Now
	s, err := store.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return &site{dir, s, &mirror.Engine{Dest: s, Memory: s, Source: from(up), Now: c.Now}, c}
}

// from is every host's upstream.
func from(up mirror.Source) func(string) (mirror.Source, error) {
	return func(string) (mirror.Source, error) { return up, nil }
}

func (s *site) sync(ctx context.Context, rules ...mirror.Rule) (mirror.Report, error) {
	p, err := s.engine.Plan(ctx, rules)
	if err != nil {
		return mirror.Report{}, err
	}
	return s.engine.Apply(ctx, p)
}

func (s *site) mustSync(t *testing.T, rules ...mirror.Rule) mirror.RuleReport {
	t.Helper()
	r, err := s.sync(t.Context(), rules...)
	if err != nil {
		t.Fatal(err)
	}
	return r.Rules[0]
}

// cleanSync is a sync in which nothing may fail.
func (s *site) cleanSync(t *testing.T, rules ...mirror.Rule) mirror.RuleReport {
	t.Helper()
	r := s.mustSync(t, rules...)
	for _, f := range r.Failed {
		t.Fatalf("%s:%s failed: %s", f.Repo, f.Tag, f.Error)
	}
	return r
}

// checkWhole fails when something visible is not whole: every tag's closure is
// here, and every byte of it hashes to its digest.
func (s *site) checkWhole(t fataler) {
	t.Helper()
	checked := map[digest.Digest]bool{}
	for repo, err := range s.store.Repositories(context.Background()) {
		if err != nil {
			t.Fatal(err)
		}
		for tag, err := range s.store.Tags(context.Background(), repo) {
			if err != nil {
				t.Fatal(err)
			}
			contents, err := s.store.Closure(context.Background(), repo, tag.Digest)
			if err != nil {
				t.Fatalf("%s:%s is visible and not whole: %v", repo, tag.Name, err)
			}
			for _, c := range contents {
				if !checked[c.Digest] && c.Digest.Algorithm().FromBytes(s.bytes(t, c.Digest)) != c.Digest {
					t.Fatalf("%s:%s: %s is not what it should be", repo, tag.Name, c.Digest)
				}
				checked[c.Digest] = true
			}
		}
	}
}

// fataler is what tests and models have in common.
type fataler interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

func (s *site) bytes(t fataler, d digest.Digest) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(s.dir, "registry", layout.Data(d)))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// at is where a local tag is, empty when it is nowhere.
func (s *site) at(repo, tag string) digest.Digest {
	d, err := s.store.Resolve(context.Background(), repo, tag)
	if err != nil {
		return ""
	}
	return d
}

func (s *site) serves(t *testing.T, repo string, d digest.Digest) bool {
	t.Helper()
	_, _, err := s.store.Manifest(t.Context(), repo, d)
	return err == nil
}

func (s *site) checkTag(t *testing.T, repo, tag string, want digest.Digest) {
	t.Helper()
	if got := s.at(repo, tag); got != want {
		t.Errorf("%s:%s is at %q, want %q", repo, tag, got, want)
	}
}

func tagsOf(copied []mirror.Copied) []string {
	var tags []string
	for _, c := range copied {
		tags = append(tags, c.Tag)
	}
	slices.Sort(tags)
	return tags
}

func failedTags(failed []mirror.Failed) []string {
	var tags []string
	for _, f := range failed {
		tags = append(tags, f.Tag)
	}
	return tags
}

// everything is the rule that most tests use.
var everything = mirror.Rule{From: "reg.test/app", Referrers: true}

var errFault = errors.New("a fault")
