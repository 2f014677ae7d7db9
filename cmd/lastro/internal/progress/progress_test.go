package progress

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// transcript is a terminal that writes down, with the time, what it is told.
// The codes that terminals obey are made visible.
type transcript struct {
	start time.Time
	b     strings.Builder
}

func (t *transcript) Write(p []byte) (int, error) {
	shown := strings.NewReplacer("\r", "<return>", "\x1b[K", "<erase>", "\n", "<line>").Replace(string(p))
	fmt.Fprintf(&t.b, "%6.1fs %s\n", time.Since(t.start).Seconds(), shown)
	return len(p), nil
}

const mib = 1 << 20

// run is a small sync: planned in two steps, one image broken.
func run(b *Bars, log io.Writer, long time.Duration) {
	b.Plan(3, 100*mib)
	time.Sleep(150 * time.Millisecond)
	b.Bytes(30 * mib)
	time.Sleep(time.Second)
	b.Done("docker.io/library/alpine:3.20", nil)
	b.Bytes(30 * mib)
	time.Sleep(200 * time.Millisecond)
	b.Plan(2, 20*mib)
	fmt.Fprintln(log, "level=WARN msg=\"slow upstream\"")
	b.Done("docker.io/library/busybox:1", errors.New("upstream docker.io:\n404 \x1b[2JNot Found"))
	time.Sleep(100 * time.Millisecond)
	fmt.Fprint(log, "half a line, ")
	time.Sleep(300 * time.Millisecond)
	fmt.Fprint(log, "the rest\n")
	fmt.Fprint(log, "half a line")
	b.Done("ghcr.io/a/b:1", errors.New("unreachable"))
	time.Sleep(long)
	b.Bytes(60 * mib)
	b.Done("docker.io/library/debian:12", nil)
	time.Sleep(200 * time.Millisecond)
	b.Done("docker.io/library/debian:13", nil)
	time.Sleep(200 * time.Millisecond)
	b.Close()
	b.Close()
	b.Done("too late", errors.New("too late"))
	fmt.Fprintln(log, "3 copied, 1 failed")
}

func TestHowItLooks(t *testing.T) {
	for _, c := range []struct {
		name string
		o    Options
		long time.Duration
	}{
		{"a wide terminal", Options{Columns: 120}, time.Second},
		{"an ordinary terminal", Options{Columns: 80}, time.Second},
		{"a narrow terminal", Options{Columns: 30}, time.Second},
		{"a log", Options{}, 12 * time.Second},
		{"a log of blobs", Options{Items: "blobs"}, 12 * time.Second},
		{"quiet", Options{Columns: 80, Quiet: true}, time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				out := &transcript{start: time.Now()}
				c.o.Out, c.o.Now = out, time.Now
				b := New(c.o)
				run(b, b.Over(out), c.long)
				golden(t, strings.ReplaceAll(c.name, " ", "-"), out.b.String())
			})
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("differs from %s (rewrite it with -update):\n%s", path, d)
	}
}

func TestNothingIsDrawnBeforeThereIsSomethingToSay(t *testing.T) {
	for _, columns := range []int{0, 80} {
		synctest.Test(t, func(t *testing.T) {
			out := &transcript{start: time.Now()}
			b := New(Options{Out: out, Columns: columns, Now: time.Now})
			time.Sleep(time.Hour)
			b.Close()
			if got := out.b.String(); got != "" {
				t.Errorf("%d columns: got %q", columns, got)
			}
		})
	}
}

func TestManyMayReportAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &transcript{start: time.Now()}
		b := New(Options{Out: out, Now: time.Now})
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				b.Plan(1, 1024)
				b.Bytes(1024)
				b.Done("x", nil)
			})
		}
		wg.Wait()
		b.Close()
		if got, want := out.b.String(), "10 of 10 images, 10 KiB of 10 KiB<line>\n"; !strings.HasSuffix(got, want) {
			t.Errorf("got %q, want %q at its end", got, want)
		}
	})
}

// screen is a terminal that shows what it is told, and minds its width.
type screen struct {
	columns int
	lines   []string
	draws   map[time.Time]int // redraws in each tenth of a second
	wide    []string
}

func (s *screen) Write(p []byte) (int, error) {
	text := string(p)
	if len(s.lines) == 0 {
		s.lines = []string{""}
	}
	last := &s.lines[len(s.lines)-1]
	if rest, ok := strings.CutPrefix(text, "\r"); ok {
		text = strings.TrimSuffix(rest, "\x1b[K")
		*last = ""
		if text != "" {
			s.draws[time.Now().Truncate(redraw)]++
			if len(text) >= s.columns {
				s.wide = append(s.wide, text)
			}
		}
	}
	parts := strings.Split(text, "\n")
	*last += parts[0]
	s.lines = append(s.lines, parts[1:]...)
	return len(p), nil
}

func TestWhateverHappensTheLineFitsIsRarelyDrawnAndGoesAway(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		columns := rapid.IntRange(1, 130).Draw(r, "columns")
		steps := rapid.SliceOfN(rapid.IntRange(0, 5), 0, 40).Draw(r, "steps")
		synctest.Test(t, func(t *testing.T) {
			s := &screen{columns: columns, draws: map[time.Time]int{}}
			b := New(Options{Out: s, Columns: columns, Now: time.Now})
			log := b.Over(s)
			var want []string
			for i, step := range steps {
				switch step {
				case 0:
					b.Plan(i, int64(i)<<(i%50))
				case 1:
					b.Bytes(int64(i) << (i % 50))
				case 2:
					b.Done(fmt.Sprint(i), nil)
				case 3:
					b.Done(fmt.Sprint(i), errors.New("no"))
					want = append(want, fmt.Sprintf("failed %d: no", i))
				case 4:
					fmt.Fprintf(log, "line %d\n", i)
					want = append(want, fmt.Sprintf("line %d", i))
				case 5:
					time.Sleep(time.Duration(i) * 70 * time.Millisecond)
				}
			}
			b.Close()
			if got := strings.Join(s.lines, "\n"); strings.TrimSuffix(got, "\n") != strings.Join(want, "\n") {
				t.Errorf("left on the screen: %q, want %q", s.lines, want)
			}
			for at, n := range s.draws {
				if n > 1 {
					t.Errorf("%d redraws in the tenth of a second at %v", n, at)
				}
			}
			if s.wide != nil {
				t.Errorf("wider than %d columns: %q", columns, s.wide)
			}
		})
	})
}

func TestTheSpeedIsThatOfTheLastTenSeconds(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var s speed
	moved := int64(0)
	for i := range 60 {
		s.add(start.Add(time.Duration(i)*time.Second), moved)
		if i < 30 {
			moved += 1000
		}
	}
	if got := s.perSecond(); got != 0 {
		t.Errorf("half a minute after the last byte: got %v, want 0", got)
	}
	if len(s.samples) > 12 {
		t.Errorf("%d samples are kept", len(s.samples))
	}
	s.add(start, moved)
	s.add(start.Add(2*time.Second), moved+500)
	if got, want := s.perSecond(), 250.0; got != want {
		t.Errorf("after the clock was set back: got %v, want %v", got, want)
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain, größer":       "plain, größer",
		"two\nlines\tand tab": "two lines and tab",
		"\x1b]0;title\a":      "?]0;title?",
		"\u202ereversed":      "?reversed",
		"\xff":                "?",
	} {
		if got := printable(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
