package collect

import (
	"context"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"

	"lastro/store/ledger"
)

// remove takes away what is condemned and due: links first, then content.
func (r *run) remove(ctx context.Context) (removed int, err error) {
	if r.o.Observe || !r.report.PausedUntil.IsZero() {
		return 0, nil
	}
	due, err := r.due(ctx)
	if err != nil {
		return 0, err
	}
	contents := due[""]
	delete(due, "")
	for _, repo := range slices.Sorted(maps.Keys(due)) {
		n, err := r.removeFrom(ctx, repo, due[repo])
		if removed += n; err != nil {
			return removed, err
		}
	}
	n, err := r.removeFrom(ctx, "", contents)
	return removed + n, err
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
			if v.State != ledger.Waiting && !r.doubtful[v.Repo] && !r.left[v.Held] {
				all[v.Repo] = append(all[v.Repo], v.Digest)
			}
		}
		if from = next; from == nil {
			return all, nil
		}
	}
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

// untagged leaves out what a tag on disk is at, and all where tags cannot be read.
func (r *run) untagged(ctx context.Context, repo string, ds []digest.Digest) []digest.Digest {
	tagged, err := r.tagsOnDisk(ctx, repo)
	if err != nil {
		r.doubt(repo, err)
		return nil
	}
	return slices.DeleteFunc(ds, func(d digest.Digest) bool { return tagged[d] })
}
