package mirror

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"lastro/mirror/version"
)

// Apply copies what a plan says. One image that fails is in the report and
// alone; the others go on. The error is ctx's, or that of a ledger that cannot be
// written: what was published by then is whole, and the rest is as it was.
func (e *Engine) Apply(ctx context.Context, p Plan) (Report, error) {
	started := e.Now()
	m := newMeter(e.Source)
	a := &applying{Engine: e, meter: m, downloads: newTurnstile(e.jobs())}
	report := newReport(p)
	err := a.remembered(ctx, p)
	if err == nil {
		err = a.images(ctx, p, report)
	}
	report.sort()
	report.TransferredBytes = a.transferred.Load()
	report.UpstreamRequests = p.requests + m.requests()
	report.TookSeconds = (p.took + e.Now().Sub(started)).Seconds()
	return report, errors.Join(err, ctx.Err())
}

// applying is one run of Apply.
type applying struct {
	*Engine
	meter       *meter
	downloads   *turnstile // over all images
	room        room
	spreading   sync.Mutex // held by the one blob that is read over several streams
	transferred atomic.Int64
	referrersOf sync.Map // upstream repository → *knowledge
}

func (a *applying) remembered(ctx context.Context, p Plan) error {
	for _, rp := range p.rules {
		if err := a.remember(ctx, rp); err != nil {
			return err
		}
	}
	return nil
}

// images copies what is planned, beside each other.
func (a *applying) images(ctx context.Context, p Plan, report Report) error {
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(a.jobs())
	a.progress().Plan(p.copies(), 0)
	for _, t := range p.tasks() {
		g.Go(func() error {
			published, err := a.image(gctx, t.rule, t.change)
			a.progress().Done(t.to+":"+t.tag, err)
			if interrupted(gctx, err) {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			report.Rules[t.at].note(t.change, published, err)
			return nil
		})
	}
	return g.Wait()
}

// task is one change of a plan, and whose.
type task struct {
	change
	rule    *rule
	at      int // of the rule
	version version.Version
}

// tasks are the changes of a plan in the order in which people wait for them:
// images that are not here at all before those that moved, and the newest
// versions before older ones.
func (p Plan) tasks() []task {
	var tasks []task
	for i, rp := range p.rules {
		for _, c := range rp.changes {
			tasks = append(tasks, task{c, rp.rule, i, version.Parse(c.tag)})
		}
	}
	slices.SortStableFunc(tasks, func(a, b task) int {
		if n := a.urgency() - b.urgency(); n != 0 {
			return n
		}
		return b.version.Compare(a.version)
	})
	return tasks
}

// urgency is less for what comes first.
func (c change) urgency() int {
	switch {
	case c.recheck:
		return 2
	case c.previous != "":
		return 1
	}
	return 0
}

// image copies one tag's image: its content, what is attached to it, and the
// tag last.
func (a *applying) image(ctx context.Context, r *rule, c change) (Published, error) {
	src, err := a.meter.source(r.host)
	if err != nil {
		return Published{}, err
	}
	if c.unfiltered {
		r = r.unfiltered()
	}
	published, err := a.graph(src, r, c).copy(ctx)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = errors.Join(err, a.noteVanished(ctx, c))
		}
		return published, fmt.Errorf("%s/%s:%s → %s:%s: %w", r.host, c.repository, c.tag, c.to, c.tag, err)
	}
	if published.Changed {
		a.log().Info("image mirrored", "repo", c.to, "tag", c.tag, "digest", c.desc.Digest, "upstream", r.host, "reason", c.reason)
	} else {
		a.log().Debug("image is as it was", "repo", c.to, "tag", c.tag, "digest", c.desc.Digest)
	}
	return published, nil
}

// noteVanished records that an upstream names a digest that it does not have.
func (a *applying) noteVanished(ctx context.Context, c change) error {
	if a.Memory == nil {
		return nil
	}
	return a.Memory.Note(ctx, c.to, c.tag, EventVanished, fmt.Sprintf("the upstream names %s and does not have all of it", c.desc.Digest))
}
