package ledger

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/opencontainers/go-digest"

	"lastro/mirror"
)

func many[T any](n int, of func(i int) T) (list []T) {
	for i := range n {
		list = append(list, of(i))
	}
	return list
}

// largeIndexes refer to as much as one transaction records, each.
func largeIndexes(n int) []mirror.Manifest {
	return many(n, func(i int) mirror.Manifest {
		return index(fmt.Sprint("index ", i), many(closureRefs, func(c int) mirror.Manifest { return image(fmt.Sprint(i, " of ", c)) })...)
	})
}

func TestATransactionRecordsOnlySoMuch(t *testing.T) {
	ds := many(factPage+1, func(i int) digest.Digest { return dig(fmt.Sprint(i)) })
	tags := many(factPage+1, func(i int) string { return fmt.Sprint(i) })
	found := func(ms []mirror.Manifest) []RepoManifest {
		return many(len(ms), func(i int) RepoManifest { return RepoManifest{Repo: "r", Manifest: ms[i]} })
	}
	small := many(closurePage+1, func(i int) mirror.Manifest { return image(fmt.Sprint(i)) })
	for _, c := range []struct {
		name   string
		record func(context.Context, *Ledger) error
		want   int
	}{
		{"nothing", func(ctx context.Context, l *Ledger) error { return l.RecordGraph(ctx, "r", nil, nil) }, 0},
		{"one manifest", func(ctx context.Context, l *Ledger) error { return l.RecordGraph(ctx, "r", small[:1], nil) }, 1},
		{"one manifest and what it leaves out", func(ctx context.Context, l *Ledger) error { return l.RecordGraph(ctx, "r", small[:1], ds[:1]) }, 2},
		{"a page of manifests", func(ctx context.Context, l *Ledger) error { return l.RecordGraph(ctx, "r", small[1:], nil) }, 1},
		{"a page of manifests and one", func(ctx context.Context, l *Ledger) error { return l.RecordGraph(ctx, "r", small, nil) }, 2},
		{"manifests with many references, and with few", func(ctx context.Context, l *Ledger) error {
			return l.RecordGraph(ctx, "r", append(largeIndexes(2), small[:2]...), nil)
		}, 3},
		{"much that is left out", func(ctx context.Context, l *Ledger) error { return l.RecordGraph(ctx, "r", nil, ds) }, 2},
		{"much that is served", func(ctx context.Context, l *Ledger) error {
			return errors.Join(l.RecordGraph(ctx, "r", nil, ds), l.RecordServed(ctx, "r", ds...))
		}, 4},
		{"much that is checked", func(ctx context.Context, l *Ledger) error { return l.RecordReferrersChecked(ctx, "r", at(1), ds...) }, 2},
		{"much that an upstream has", func(ctx context.Context, l *Ledger) error { return l.RecordUpstream(ctx, "r", at(1), tags, ds) }, 4},
		{"much that a vault holds", func(ctx context.Context, l *Ledger) error { return l.RecordHeld(ctx, "main", ds) }, 2},
		{"a rebuild of a page", func(ctx context.Context, l *Ledger) error {
			return l.RebuildGraph(ctx, every(nil, found(small[1:])...))
		}, 3},
		{"a rebuild of many references, and of few", func(ctx context.Context, l *Ledger) error {
			return l.RebuildGraph(ctx, every(nil, found(append(largeIndexes(2), small[:2]...))...))
		}, 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			commits := 0
			l := mustOpen(t, ledgerPath(t), Options{committed: func() { commits++ }})
			must(t, c.record(t.Context(), l))
			if commits != c.want {
				t.Errorf("%d transactions, want %d", commits, c.want)
			}
		})
	}
}
