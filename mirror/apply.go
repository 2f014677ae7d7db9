package mirror

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
)

// Apply copies what a plan says. One image that fails is in the report and
// alone; the others go on. The error is ctx's: what was published by then is
// whole, and the rest is as it was.
func (e *Engine) Apply(ctx context.Context, p Plan) (Report, error) {
	started := e.Now()
	m := newMeter(e.Source)
	a := &applying{Engine: e, meter: m, blobs: semaphore.NewWeighted(int64(e.jobs() * blobsPerImage))}
	report := newReport(p)
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(e.jobs())
	for i, rp := range p.rules {
		e.progress().Plan(len(rp.changes), 0)
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
	blobs       *semaphore.Weighted // downloads at once, over all images
	transferred atomic.Int64
	noReferrers sync.Map // hosts without the referrers API
}

// image copies one tag's image: its content, what is attached to it, and the
// tag last.
func (a *applying) image(ctx context.Context, r *rule, c change) (Published, error) {
	src, err := a.meter.source(r.host)
	if err != nil {
		return Published{}, err
	}
	g := &graph{applying: a, src: src, rule: r, change: c, seen: map[digest.Digest]bool{}, content: map[digest.Digest]bool{}}
	published, err := g.copy(ctx)
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
