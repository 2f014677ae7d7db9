package collect

import (
	"context"
	"fmt"

	"github.com/opencontainers/go-digest"

	"lastro/store"
	"lastro/store/ledger"
)

// Plan says what a run would do now, and writes nothing. What only a survey would
// ask about is not in it.
func Plan(ctx context.Context, s *store.Store, o Options) (Report, error) {
	r := newRun(s, o)
	p := plan{r, map[ledger.Held]bool{}}
	r.except = func(h ledger.Held) bool { return p.would[h] }
	if err := p.make(ctx); err != nil {
		return r.report, fmt.Errorf("plan collect: %w", err)
	}
	r.report.TakenBack = s.TakenBack()
	return r.report, nil
}

// pageSize is how many questions are read at once.
const pageSize = 1000

type plan struct {
	*run
	would map[ledger.Held]bool // be condemned
}

func (p plan) make(ctx context.Context) error {
	if err := p.pause(ctx); err != nil {
		return err
	}
	due, err := p.collectDue(ctx)
	if err != nil {
		return err
	}
	var asked []ledger.Review
	for _, v := range due {
		if v.State == ledger.Waiting {
			asked = append(asked, v)
		} else if err := p.wouldGo(v); err != nil {
			return err
		}
	}
	for len(asked) > 0 {
		if asked, err = p.round(ctx, asked); err != nil {
			return err
		}
	}
	p.report.Condemned, p.report.Deleted = len(p.condemned), len(p.deleted)
	return p.waiting(ctx)
}

// waiting adds what is condemned and stays for now.
func (p plan) waiting(ctx context.Context) error {
	waiting := map[digest.Digest]bool{}
	for v, err := range p.Ledger().Reviews(ctx) {
		if err != nil {
			return err
		}
		if v.State != ledger.Waiting && !p.deleted[v.Digest] {
			p.note(waiting, item(v, StateCondemned))
		}
	}
	p.report.Waiting = len(waiting)
	return nil
}

func (p plan) collectDue(ctx context.Context) (all []ledger.Review, err error) {
	var from []byte
	for {
		page, next, err := p.Ledger().DueReviews(ctx, p.now, from, pageSize)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if from = next; from == nil {
			break
		}
	}
	kept, err := p.kept(ctx)
	return append(all, kept...), err
}

func (p plan) wouldGo(v ledger.Review) error {
	if p.o.Observe || !p.report.PausedUntil.IsZero() {
		return nil
	}
	size, err := p.size(v.Held)
	if err != nil {
		p.doubt(v.Repo, err)
		return nil
	}
	i := item(v, StateToDelete)
	i.Size = size
	p.note(p.deleted, i)
	p.report.FreedBytes += size
	return nil
}

// round judges questions, and asks those that follow.
func (p plan) round(ctx context.Context, asked []ledger.Review) (next []ledger.Review, err error) {
	answers, err := p.judge(ctx, asked)
	if err != nil {
		return nil, err
	}
	for _, a := range answers {
		if a.State != ledger.Condemned || p.would[a.Held] {
			continue
		}
		p.would[a.Held] = true
		p.note(p.condemned, item(a, StateToCondemn))
		parts, err := p.Ledger().Parts(ctx, a.Held)
		if err != nil {
			return nil, err
		}
		for _, part := range parts {
			v, known, err := p.Ledger().Review(ctx, part)
			if err != nil {
				return nil, err
			}
			if known && v.State != ledger.Waiting {
				continue // it is condemned already
			}
			v.Held, v.State, v.Since = part, ledger.Waiting, p.now
			if v.Why == "" {
				v.Why = "it is part of " + a.Digest.String()
			}
			next = append(next, v)
		}
	}
	return next, nil
}
