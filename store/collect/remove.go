package collect

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"

	"lastro/store"
	"lastro/store/ledger"
)

// remove takes away what is condemned and due: links first, then content. due is how
// much that was.
func (r *run) remove(ctx context.Context, condemned []ledger.Review) (due, removed int, err error) {
	if r.o.Observe || !r.report.PausedUntil.IsZero() {
		return 0, 0, nil
	}
	all := r.due(ctx, condemned)
	var links []ledger.Held
	for _, repo := range slices.Sorted(maps.Keys(all)) {
		due += len(all[repo])
		if repo != "" {
			links = append(links, r.untagged(ctx, repo, all[repo])...)
		}
	}
	asked := r.now.Add(-r.o.Grace)
	for page := range pieces(ctx, &r.pace, links) {
		gone, err := r.RemoveLinks(ctx, page, r.now, asked)
		removed += r.removed(page, gone, err)
	}
	for page := range pieces(ctx, &r.pace, heldOf("", all[""])) {
		gone, err := r.RemoveContents(ctx, page, r.now, asked)
		removed += r.removed(page, gone, err)
	}
	return due, removed, ctx.Err()
}

func heldOf(repo string, ds []digest.Digest) []ledger.Held {
	hs := make([]ledger.Held, len(ds))
	for i, d := range ds {
		hs[i] = ledger.Held{Repo: repo, Digest: d}
	}
	return hs
}

// due is what of the condemned may go, by repository.
func (r *run) due(ctx context.Context, condemned []ledger.Review) map[string][]digest.Digest {
	all := map[string][]digest.Digest{}
	for _, v := range condemned {
		if !r.doubtful[v.Repo] && !r.left[v.Held] && r.mayGo(ctx, v) {
			all[v.Repo] = append(all[v.Repo], v.Digest)
		}
	}
	return all
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

// removed notes what became of a page that was to go, and counts what is gone. What
// an error kept is for the next run.
func (r *run) removed(page []ledger.Held, gone []store.Removed, err error) (n int) {
	stay := map[ledger.Held]bool{}
	for _, h := range page {
		stay[h] = err != nil
	}
	for _, g := range gone {
		if stay[g.Held] = g.Err != nil; g.Err != nil {
			r.doubt(g.Repo, g.Err)
			continue
		}
		n++
		r.note(r.deleted, Item{Held: g.Held, State: StateDeleted, Part: g.Part, Size: g.Size, Why: g.Why})
		r.report.FreedBytes += g.Size
	}
	if err != nil {
		r.doubt(page[0].Repo, err)
	}
	for h, stays := range stay {
		if stays {
			r.left[h] = true
		}
	}
	r.report.Deleted = len(r.deleted)
	return n
}

// untagged leaves out what a tag on disk is at that the ledger does not know of, and
// all where tags cannot be read. The last look is at the tags that it knows.
func (r *run) untagged(ctx context.Context, repo string, ds []digest.Digest) (free []ledger.Held) {
	for _, h := range heldOf(repo, ds) {
		err := r.known(ctx, ledger.Review{Held: h})
		if err == nil {
			free = append(free, h)
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
