package mirror

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
)

// Apply copies what a plan says. One image that fails is in the report and
// alone; the others go on. The error is ctx's: what was published by then is
// whole, and the rest is as it was.
func (e *Engine) Apply(ctx context.Context, p Plan) (Report, error) {
	started := e.Now()
	m := newMeter(e.Source)
	a := &applying{Engine: e, meter: m, downloads: semaphore.NewWeighted(int64(e.jobs() * blobsPerImage))}
	report := newReport(p)
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(e.jobs())
	e.progress().Plan(p.copies(), 0)
	for i, rp := range p.rules {
		for _, c := range rp.changes {
			g.Go(func() error {
				published, err := a.image(gctx, rp.rule, c)
				e.progress().Done(c.to+":"+c.tag, err)
				if interrupted(gctx, err) {
					return err
				}
				mu.Lock()
				defer mu.Unlock()
				report.Rules[i].note(c, published, err)
				return nil
			})
		}
	}
	err := g.Wait()
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
	downloads   *semaphore.Weighted // over all images
	transferred atomic.Int64
	noReferrers sync.Map // upstream repositories without the referrers API
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
		return published, fmt.Errorf("%s/%s:%s → %s:%s: %w", r.host, c.repository, c.tag, c.to, c.tag, err)
	}
	if published.Changed {
		a.log().Info("image mirrored", "repo", c.to, "tag", c.tag, "digest", c.desc.Digest, "upstream", r.host, "reason", c.reason)
	} else {
		a.log().Debug("image is as it was", "repo", c.to, "tag", c.tag, "digest", c.desc.Digest)
	}
	return published, nil
}
