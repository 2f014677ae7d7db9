package restore

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"lastro/store/ledger"
	"lastro/store/vault/catalog"
)

// name is a tag with its repository.
type name struct{ repo, tag string }

// history brings back the events of what was meant to be restored.
func (r *restore) history(ctx context.Context, choose selection) error {
	planned := map[name]bool{}
	for _, img := range r.plan.Images {
		planned[name{img.Repo, img.Tag}] = true
	}
	named := map[name]bool{}
	for _, g := range r.plan.record.History.Segments {
		events, err := r.Events(ctx, g)
		if _, bad := catalog.Damage(err); bad {
			r.report.Failed = append(r.report.Failed, catalog.Failure{Digest: g.Digest, Error: "history: " + err.Error()})
			continue
		}
		if err != nil {
			return err
		}
		events = slices.DeleteFunc(events, func(e ledger.Event) bool {
			return !choose.tag(e.Repo, e.Tag) && !planned[name{e.Repo, e.Tag}]
		})
		if err := r.st.Ledger().ImportEvents(ctx, events); err != nil {
			return err
		}
		for _, e := range events {
			named[name{e.Repo, e.Tag}] = true
		}
	}
	for n := range named {
		if err := r.end(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// end ends the history of a tag that did not come back with it: it could not be
// restored, or it went while the snapshot was taken. The event has the time of the
// snapshot, so that whatever happens to the tag here counts more.
func (r *restore) end(ctx context.Context, n name) error {
	l := r.st.Ledger()
	known, err := l.Tag(ctx, n.repo, n.tag)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := r.st.Resolve(ctx, n.repo, n.tag); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	events, err := l.History(ctx, n.repo, n.tag)
	if err != nil || len(events) == 0 {
		return err
	}
	at := r.plan.Time
	if newest := events[len(events)-1].Time; newest.After(at) {
		at = newest
	}
	return l.ImportEvents(ctx, []ledger.Event{{
		Time: at, Repo: n.repo, Tag: n.tag, Previous: known.Digest,
		Event: ledger.Removed, By: r.o.By, Reason: "not restored from snapshot " + r.plan.Snapshot,
	}})
}

// moment is an event as far as it says where a tag is.
type moment struct {
	at     time.Time
	digest digest.Digest
}

// tagSince is since when a tag had been where the snapshot has it, by the history in the vault.
func (p *planner) tagSince(ctx context.Context, n name, d digest.Digest) (time.Time, error) {
	if err := p.readMoments(ctx); err != nil {
		return time.Time{}, err
	}
	list := p.moments[n]
	slices.SortStableFunc(list, func(a, b moment) int { return a.at.Compare(b.at) })
	var since time.Time
	var at digest.Digest
	for _, m := range list {
		if m.digest == d && at != d {
			since = m.at
		}
		at = m.digest
	}
	return since, nil
}

func (p *planner) readMoments(ctx context.Context) error {
	if p.moments != nil {
		return nil
	}
	moments := map[name][]moment{}
	for _, g := range p.plan.record.History.Segments {
		events, err := p.Events(ctx, g)
		if _, bad := catalog.Damage(err); bad {
			continue // a tag of which nothing is known is not moved
		}
		if err != nil {
			return err
		}
		for _, e := range events {
			if n := (name{e.Repo, e.Tag}); e.Digest != "" || e.Event == ledger.Removed {
				moments[n] = append(moments[n], moment{e.Time, e.Digest})
			}
		}
	}
	p.moments = moments
	return nil
}
