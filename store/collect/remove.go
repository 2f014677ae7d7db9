package collect

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"

	"lastro/store/ledger"
)

// remove takes away what is condemned and due: links first, then content. due is how
// much that was.
func (r *run) remove(ctx context.Context) (due, removed int, err error) {
	if r.o.Observe || !r.report.PausedUntil.IsZero() {
		return 0, 0, nil
	}
	all, err := r.due(ctx)
	if err != nil {
		return 0, 0, err
	}
	repos := append(slices.DeleteFunc(slices.Sorted(maps.Keys(all)), func(repo string) bool { return repo == "" }), "")
	for _, repo := range repos {
		n, err := r.removeFrom(ctx, repo, all[repo])
		due += len(all[repo])
		if removed += n; err != nil {
			return due, removed, err
		}
	}
	return due, removed, nil
}

// due is what is condemned and due, by repository.
func (r *run) due(ctx context.Context) (map[string][]digest.Digest, error) {
	all := map[string][]digest.Digest{}
	var from []byte
	for {
		page, next, err := r.Ledger().DueReviews(ctx, r.now, from, pageSize)
		if err != nil {
			return nil, err
		}
		for _, v := range page {
			if v.State != ledger.Waiting && !r.doubtful[v.Repo] && !r.left[v.Held] && r.mayGo(ctx, v) {
				all[v.Repo] = append(all[v.Repo], v.Digest)
			}
		}
		if from = next; from == nil {
			return all, ctx.Err()
		}
	}
}

// mayGo asks policy again: it may have changed since. What it keeps now is condemned
// no more.
func (r *run) mayGo(ctx context.Context, v ledger.Review) bool {
	if v.State == ledger.Deleting || r.final[v.Held] {
		return true
	}
	answer, err := r.policy(ctx, v)
	if err == nil && answer.Keep {
		err = r.Spare(ctx, v.Held)
	}
	if err != nil {
		r.left[v.Held] = true
		r.doubt(v.Repo, fmt.Errorf("%s: %w", v.Held, err))
		return false
	}
	r.final[v.Held] = !answer.Keep
	return !answer.Keep
}

// batch is how many digests go while others wait for them: some milliseconds.
const batch = 32

func (r *run) removeFrom(ctx context.Context, repo string, ds []digest.Digest) (removed int, err error) {
	if repo != "" {
		ds = r.untagged(ctx, repo, ds)
	}
	for page := range slices.Chunk(ds, batch) {
		if err := ctx.Err(); err != nil {
			return removed, err
		}
		gone, err := r.Remove(ctx, repo, page, r.now, r.now.Add(-r.o.Grace))
		for _, g := range gone {
			r.note(r.deleted, Item{Held: g.Held, State: StateDeleted, Part: g.Part, Size: g.Size, Why: g.Why})
			r.report.FreedBytes += g.Size
		}
		r.report.Deleted = len(r.deleted)
		removed += len(gone)
		if err != nil {
			r.doubt(repo, err)
			r.leave(repo, page)
		}
	}
	return removed, nil
}

// leave lets the next run try again.
func (r *run) leave(repo string, ds []digest.Digest) {
	for _, d := range ds {
		r.left[ledger.Held{Repo: repo, Digest: d}] = true
	}
}

// untagged leaves out what a tag on disk is at that the ledger does not know of, and
// all where tags cannot be read. The last look is at the tags that it knows.
func (r *run) untagged(ctx context.Context, repo string, ds []digest.Digest) (free []digest.Digest) {
	for _, d := range ds {
		h := ledger.Held{Repo: repo, Digest: d}
		err := r.known(ctx, ledger.Review{Held: h})
		if err == nil {
			free = append(free, d)
			continue
		}
		r.left[h] = true
		r.doubt(repo, fmt.Errorf("%s: %w", h, err))
		if !errors.Is(err, errUnknownTag) {
			return nil
		}
	}
	return free
}
