package ledger_test

import (
	"context"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	"lastro/store/ledger"
)

// The ledger that benchmarks ask: one repository with very many tags, each an
// image of its own, among others with few.
const (
	benchTags   = 50_000
	benchOthers = 1000 // repositories
)

var benchStart = time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)

func benchDigest(i int) digest.Digest { return dig(fmt.Sprint("image ", i)) }

func benchImage(i int) mirror.Manifest {
	m := mirror.Manifest{Descriptor: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: benchDigest(i), Size: 1500}}
	for l := range 8 {
		// Half of the layers are shared with neighbours.
		name := fmt.Sprint("layer ", i/(1+l%2*19), l)
		m.Refs = append(m.Refs, mirror.Ref{Role: mirror.RoleLayer, Descriptor: descriptor(ocispec.MediaTypeImageLayerGzip, name, 1000)})
	}
	return m
}

func benchTag(i int) string { return fmt.Sprintf("v1.%d.%d", i/100, i%100) }

// benchFile makes the ledger once, and tells where it is.
var benchFile = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "lastro-bench-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "ledger.db")
	l, err := ledger.Open(path, ledger.Options{})
	if err != nil {
		return path, err
	}
	defer l.Close()
	var events []ledger.Event
	var ms []mirror.Manifest
	for i := range benchTags {
		m := benchImage(i)
		ms = append(ms, m)
		for move := range 2 {
			events = append(events, ledger.Event{Time: benchStart.Add(time.Duration(i)*time.Second).AddDate(0, 0, move), Repo: "big", Tag: benchTag(i),
				Digest: benchDigest(i + 1 - move), Event: ledger.Moved, By: "sync", Reason: "rule big"})
		}
	}
	for i := range benchOthers {
		events = append(events, ledger.Event{Time: benchStart, Repo: fmt.Sprintf("other/%04d", i), Tag: "latest", Digest: benchDigest(i), Event: ledger.Seen})
	}
	if err := l.ImportEvents(context.Background(), events); err != nil {
		return path, err
	}
	return path, l.RecordGraph(context.Background(), "big", ms, nil)
})

// benchLedger is a copy of the ledger that benchmarks ask.
func benchLedger(b *testing.B) *ledger.Ledger {
	b.Helper()
	path, err := benchFile()
	if err != nil {
		b.Fatal(err)
	}
	own := filepath.Join(b.TempDir(), "ledger.db")
	if err := copySparse(path, own); err != nil {
		b.Fatal(err)
	}
	l, err := ledger.Open(own, ledger.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	return l
}

func drain[T any](b *testing.B, seq iter.Seq2[T, error], limit int) (n int) {
	for _, err := range seq {
		if err != nil {
			b.Fatal(err)
		}
		if n++; n == limit {
			break
		}
	}
	return n
}

// BenchmarkFiftyThousandTags asks and records where a repository has them.
func BenchmarkFiftyThousandTags(b *testing.B) {
	l, i := benchLedger(b), 0
	step := func() int { i++; return i * 7919 % benchTags }
	for _, c := range []struct {
		name string
		do   func(ctx context.Context) error
	}{
		{"list", func(ctx context.Context) error { drain(b, l.Tags(ctx, "big"), 0); return nil }},
		{"page", func(ctx context.Context) error { drain(b, l.Tags(ctx, "big"), 100); return nil }},
		{"repositories", func(ctx context.Context) error { drain(b, l.Repositories(ctx), 0); return nil }},
		{"links", func(ctx context.Context) error { drain(b, l.Links(ctx, "big"), 0); return nil }},
		{"resolve", func(ctx context.Context) error { _, err := l.Tag(ctx, "big", benchTag(step())); return err }},
		{"resolve at", func(ctx context.Context) error {
			_, err := l.At(ctx, "big", benchTag(step()), benchStart.AddDate(0, 0, 1))
			return err
		}},
		{"history", func(ctx context.Context) error { _, err := l.History(ctx, "big", benchTag(step())); return err }},
		{"manifest", func(ctx context.Context) error {
			_, err := l.Manifest(ctx, benchDigest(step()))
			return err
		}},
		{"linked", func(ctx context.Context) error {
			_, err := l.Linked(ctx, "big", benchDigest(step()))
			return err
		}},
		{"absent", func(ctx context.Context) error {
			_, err := l.Absent(ctx, "big", benchDigest(step()))
			return err
		}},
		{"record event", func(ctx context.Context) error {
			return l.RecordEvent(ctx, ledger.Event{Repo: "big", Tag: benchTag(step()), Digest: benchDigest(i), Event: ledger.Moved})
		}},
		{"record a manifest", func(ctx context.Context) error {
			return l.RecordGraph(ctx, "big", []mirror.Manifest{benchImage(benchTags + step())}, nil)
		}},
		{"record 256 manifests", func(ctx context.Context) error {
			ms := make([]mirror.Manifest, 256)
			for n := range ms {
				ms[n] = benchImage(benchTags + step()*256 + n)
			}
			return l.RecordGraph(ctx, "big", ms, nil)
		}},
		{"record 50 000 of an upstream", func(ctx context.Context) error {
			var names []string
			var ds []digest.Digest
			for n := range benchTags {
				names, ds = append(names, benchTag(n)), append(ds, benchDigest(n))
			}
			return l.RecordUpstream(ctx, "big", time.Now(), names, ds)
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				if err := c.do(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkOpenFiftyThousandTags reads the whole file, as every Open does.
func BenchmarkOpenFiftyThousandTags(b *testing.B) {
	path, err := benchFile()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		l, err := ledger.Open(path, ledger.Options{})
		if err != nil {
			b.Fatal(err)
		}
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRebuildFiftyThousandTags tells, beside the time of the whole, the
// longest that another writer waited meanwhile.
func BenchmarkRebuildFiftyThousandTags(b *testing.B) {
	l := benchLedger(b)
	longest := time.Duration(0)
	for b.Loop() {
		done := make(chan error)
		go func() {
			done <- l.RebuildGraph(b.Context(), func(yield func(ledger.RepoManifest, error) bool) {
				for i := range benchTags {
					if !yield(ledger.RepoManifest{Repo: "big", Manifest: benchImage(i)}, nil) {
						return
					}
				}
			})
		}()
		for waiting := true; waiting; {
			start := time.Now()
			if err := l.RecordJob(b.Context(), ledger.Job{Name: "meanwhile", Started: start}); err != nil {
				b.Fatal(err)
			}
			longest = max(longest, time.Since(start))
			select {
			case err := <-done:
				if waiting = false; err != nil {
					b.Fatal(err)
				}
			default:
			}
		}
	}
	b.ReportMetric(float64(longest.Milliseconds()), "ms-longest-wait")
}
