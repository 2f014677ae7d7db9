package check

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"lastro/store"
	"lastro/store/layout"
)

// askedSource has nothing, and notes what it was asked for.
type askedSource struct{ asked []digest.Digest }

func (*askedSource) String() string { return "asked" }

func (s *askedSource) Fetch(_ context.Context, _ []string, c store.Content) (io.ReadCloser, error) {
	s.asked = append(s.asked, c.Digest)
	return nil, fs.ErrNotExist
}

// What cannot be read may be right: nobody is asked for another, and it stays.
func TestContentThatCannotBeReadIsNeitherFetchedNorTakenOut(t *testing.T) {
	for _, c := range []struct {
		name string
		of   func(s *site) digest.Digest
	}{
		{name: "a blob", of: func(s *site) digest.Digest { return layer(s.tools, 0, 2) }},
		{name: "a manifest", of: func(s *site) digest.Digest { return hex(s.tools, 0) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t)
			d := c.of(s)
			s.remove(t, layout.Data(d), d)
			write(t, s.path(layout.Data(d)+"/x"), nil) // a folder, which no file can be read from
			source := &askedSource{}
			r := s.check(t, Options{Part: 1, Parts: 1, Repair: true, Sources: []Source{source}})
			if i := slices.IndexFunc(r.Problems, func(p Problem) bool { return p.Kind == Unreadable && p.Digest == d }); i < 0 || r.Problems[i].Repaired {
				t.Error(words(r))
			}
			if slices.Contains(source.asked, d) {
				t.Error("a source was asked for it")
			}
			if _, err := os.Stat(s.path(layout.Data(d) + "/x")); err != nil {
				t.Errorf("it was moved: %v", err)
			}
		})
	}
}

// snapshot is every file with its text; a check may not change one.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && e.Name() != "ledger.db" {
			var raw []byte
			raw, err = os.ReadFile(name)
			all[name] = string(raw)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestALookChangesNothing(t *testing.T) {
	s := newSite(t)
	write(t, s.path(layout.Data(layer(s.tools, 0, 2))), []byte("bad"))
	s.remove(t, layout.Data(layer(s.web, 0, 2)), "")
	s.remove(t, layout.Tag("copy", "1"), "")
	before := snapshot(t, s.dir)
	if r := s.check(t, Options{Part: 1, Parts: 1}); len(r.Problems) == 0 {
		t.Fatal("nothing is wrong")
	}
	after := snapshot(t, s.dir)
	for name, text := range before {
		if after[name] != text {
			t.Errorf("%s changed", name)
		}
	}
	if len(after) != len(before) {
		t.Errorf("%d files, %d before", len(after), len(before))
	}
}

func TestQuarantineTakesBadContentOutAndMendsNothing(t *testing.T) {
	for _, c := range []struct {
		name string
		bad  func(s *site) (digest.Digest, []byte)
		kind Kind
		part int // 0: nothing is read
	}{
		{name: "a blob that is corrupt and read", kind: Corrupt, part: 1, bad: func(s *site) (digest.Digest, []byte) {
			d := layer(s.tools, 0, 2)
			return d, bytes.ToUpper(s.all[d])
		}},
		{name: "a blob that is cut and read", kind: Truncated, part: 1, bad: func(s *site) (digest.Digest, []byte) {
			return layer(s.tools, 0, 2), []byte("lay")
		}},
		{name: "a blob that is cut and only looked at", kind: Truncated, bad: func(s *site) (digest.Digest, []byte) {
			return layer(s.tools, 0, 2), []byte("lay")
		}},
		{name: "a manifest, without any reading", kind: Corrupt, bad: func(s *site) (digest.Digest, []byte) {
			return hex(s.tools, 0), append(slices.Clone(s.all[hex(s.tools, 0)]), ' ')
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t)
			s.remove(t, layout.Tag("copy", "1"), "")
			d, raw := c.bad(s)
			write(t, s.path(layout.Data(d)), raw)
			o := Options{Quarantine: true, Part: c.part, Parts: c.part, Sources: []Source{s.all}}
			r := s.check(t, o)
			i := slices.IndexFunc(r.Problems, func(p Problem) bool { return p.Digest == d && p.Repo == "" })
			if i < 0 || r.Problems[i].Kind != c.kind || r.Problems[i].Repaired || !slices.Equal(r.Problems[i].Images, []string{"tools:2"}) {
				t.Fatal(words(r))
			}
			if r.Repaired != 0 || r.Left() != 2 {
				t.Errorf("the tag too:\n%s", words(r))
			}
			if got, err := os.ReadFile(s.path(r.Problems[i].Quarantined)); err != nil || !bytes.Equal(got, raw) {
				t.Errorf("%q holds %q, %v", r.Problems[i].Quarantined, got, err)
			}
			if _, err := os.Stat(s.path(layout.Data(d))); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("it is in service: %v", err)
			}
			if again := s.check(t, o); !slices.ContainsFunc(again.Problems, func(p Problem) bool { return p.Digest == d && p.Kind == Missing }) {
				t.Errorf("the next check:\n%s", words(again))
			}
			s.check(t, Options{Repair: true, Sources: []Source{s.all}})
			s.clean(t)
		})
	}
}

func TestBadContentThatNobodyNeedsIsMendedByTakingItOut(t *testing.T) {
	s := newSite(t)
	d := digest.FromString("nobody's")
	write(t, s.path(layout.Data(d)), []byte("bad"))
	if r := s.check(t, Options{Quarantine: true, Part: 1, Parts: 1}); len(r.Problems) != 1 || !r.Problems[0].Repaired || r.Problems[0].Quarantined == "" {
		t.Error(words(r))
	}
	s.clean(t)
}

// takenLog tells when something is taken out of service.
type takenLog struct{ taken chan string }

func (l takenLog) Write(p []byte) (int, error) {
	l.taken <- string(p)
	return len(p), nil
}

// Under a budget the reading takes long: nobody is sent meanwhile what was found bad.
func TestBadContentGoesAtOnceAndNotWhenTheCheckEnds(t *testing.T) {
	s := newSite(t)
	d := layer(s.tools, 0, 2)
	write(t, s.path(layout.Data(d)), bytes.ToUpper(s.all[d]))
	ctx, cancel := context.WithCancel(t.Context())
	l := takenLog{make(chan string)}
	done := make(chan error)
	go func() {
		_, err := Run(ctx, s.Store, Options{Quarantine: true, Part: 1, Parts: 1, Log: slog.New(slog.NewTextHandler(l, nil))})
		done <- err
	}()
	if line := <-l.taken; !strings.Contains(line, d.String()) {
		t.Error(line)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("it ended before: %v", err)
	}
	if _, err := s.OpenBlob("tools", d); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is served: %v", err)
	}
}

func TestContentIsReadAgainBesidesThePart(t *testing.T) {
	s := newSite(t)
	d := layer(s.tools, 0, 2)
	part := int(number(d)%2) + 1
	write(t, s.path(layout.Data(d)), bytes.ToUpper(s.all[d]))
	other := Options{Part: 3 - part, Parts: 2}
	if r := s.check(t, other); len(r.Problems) != 0 {
		t.Fatal(words(r))
	}
	other.Again = []digest.Digest{d}
	if r := s.check(t, other); len(r.Problems) != 1 || r.Problems[0].Digest != d {
		t.Error(words(r))
	}
}

func TestARepairWaitsForItsShareAndGivesItBack(t *testing.T) {
	s := newSite(t)
	d := layer(s.tools, 0, 2)
	s.remove(t, layout.Data(d), d)
	held := 0
	share := func(context.Context) (func(), error) {
		held++
		return func() { held-- }, nil
	}
	source := sharedSource{s.all, func() bool { return held == 1 }}
	if r := s.check(t, Options{Repair: true, Share: share, Sources: []Source{source}}); r.Left() != 0 || held != 0 {
		t.Errorf("held %d\n%s", held, words(r))
	}
	s.remove(t, layout.Data(d), d)
	refused := errors.New("refused")
	_, err := Run(t.Context(), s.Store, Options{Repair: true, Sources: []Source{s.all}, Share: func(context.Context) (func(), error) { return nil, refused }})
	if !errors.Is(err, refused) {
		t.Errorf("got %v", err)
	}
}

// sharedSource has things only while a share is held.
type sharedSource struct {
	shelf
	held func() bool
}

func (s sharedSource) Fetch(ctx context.Context, repos []string, c store.Content) (io.ReadCloser, error) {
	if !s.held() {
		return nil, fs.ErrNotExist
	}
	return s.shelf.Fetch(ctx, repos, c)
}

func TestAPaceIsKeptAndClientsComeFirst(t *testing.T) {
	const mebibyte = 1 << 20
	for _, c := range []struct {
		name      string
		perSecond int64
		busy      func() bool
		bytes     int
		want      time.Duration // less what may come at once
	}{
		{name: "without a bandwidth nothing waits", bytes: 1 << 30},
		{name: "ten mebibytes of one a second", perSecond: mebibyte, bytes: 10 * mebibyte, want: 10 * time.Second},
		{name: "at a quarter beside clients", perSecond: mebibyte, busy: func() bool { return true }, bytes: 10 * mebibyte, want: 40 * time.Second},
		{name: "in full beside none", perSecond: mebibyte, busy: func() bool { return false }, bytes: 10 * mebibyte, want: 10 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, began := NewPace(c.perSecond, c.busy), time.Now()
				for left := c.bytes; left > 0; {
					n := p.most(min(left, mebibyte))
					if err := p.spend(t.Context(), n); err != nil {
						t.Fatal(err)
					}
					left -= n
				}
				if got := time.Since(began); got > c.want || got < c.want-time.Second {
					t.Errorf("took %s, want %s", got, c.want)
				}
			})
		})
	}
}

func TestACheckKeepsItsPace(t *testing.T) {
	s := newSite(t)
	large := make([]byte, 1<<20)
	write(t, s.path(layout.Data(digest.FromBytes(large))), large)
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		r, err := Run(t.Context(), s.Store, Options{Part: 1, Parts: 1, Pace: NewPace(slowest, nil)})
		if err != nil || len(r.Problems) > 0 {
			t.Fatal(words(r), err)
		}
		// Every look at a file counts, and so does every byte.
		looks := time.Duration(r.Blobs*page+int(r.ReadBytes)) * time.Second / slowest
		if got := time.Since(began); got < looks-time.Second || got > 10*looks {
			t.Errorf("took %s, want at least %s", got, looks)
		}
	})
}

// A part that was not read to its end is not read.
func TestACheckThatEndsBetweenTwoReadsSaysSo(t *testing.T) {
	s := newSite(t)
	looks, last := 0, 0
	ctx, cancel := context.WithCancel(t.Context())
	busy := func() bool {
		if looks++; looks == last {
			cancel()
		}
		return false
	}
	s.check(t, Options{Pace: NewPace(1<<40, busy)})
	looks, last = 0, looks
	if _, err := Run(ctx, s.Store, Options{Pace: NewPace(1<<40, busy)}); !errors.Is(err, context.Canceled) || looks != last {
		t.Errorf("after %d of %d looks: %v", looks, last, err)
	}
}

func TestAWaitForThePaceEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p := NewPace(slowest, nil)
	cancel()
	if err := p.spend(ctx, 100*slowest); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestABandwidthWithWhichNothingEndsIsRefused(t *testing.T) {
	for n, good := range map[int64]bool{0: true, 1: false, slowest - 1: false, slowest: true} {
		if err := (Settings{Bandwidth: n}).Validate(); (err == nil) != good {
			t.Errorf("%d: %v", n, err)
		}
	}
}
