package prune

import (
	"context"
	"time"

	"lastro/mirror"
	"lastro/store/vault/bucket"
	"lastro/store/vault/catalog"
	"lastro/store/vault/layout"
)

const (
	// Lease is for how long a sweeper may stand still before another takes over. A
	// request that it had sent before is not carried out any more by then.
	Lease = 30 * time.Minute
	// FencedLease is the same where the place itself sees to that.
	FencedLease = 3 * time.Minute

	longDead = 24 * time.Hour // by the clock of who waits, if he comes later
	poll     = 5 * time.Second
)

// Await returns when nobody removes from the vault. It takes over from who stood still
// for a Lease. near may be nil.
func Await(ctx context.Context, c *catalog.Catalog, near mirror.Destination) error {
	return newPruner(c, Options{Near: near}).await(ctx)
}

func (p *pruner) await(ctx context.Context) error {
	last := sighting{lease: p.lease()}
	for told := false; ; told = true {
		h, err := p.Heads(ctx)
		if err != nil || !h.Sweeping() {
			return err
		}
		if last.dead(*h.Prune, p.Now()) {
			if err := p.takeOver(ctx, *h.Prune); err != nil {
				return err
			}
			continue
		}
		if !told {
			p.Log.Info("a prune of the vault goes on; waiting until it is done", "job", "prune "+p.Name, "since", h.Prune.Beat)
		}
		if err := pause(ctx, poll); err != nil {
			return err
		}
	}
}

func (p *pruner) lease() time.Duration {
	if _, fenced := p.Bucket.(bucket.Fenced); fenced {
		return FencedLease
	}
	return Lease
}

func (p *pruner) takeOver(ctx context.Context, mark layout.Prune) error {
	p.Log.Warn("a prune of the vault was cut short; it is ended now", "job", "prune "+p.Name, "last", mark.Beat)
	return p.sweep(ctx, mark)
}

// sighting is when a sweeper was first seen in a state.
type sighting struct {
	lease   time.Duration
	sweeper string
	beat    time.Time
	since   time.Time
}

// dead reports whether a sweeper gave up, or has not moved for long. How long is told
// by one clock alone, unless it is very long.
func (s *sighting) dead(mark layout.Prune, now time.Time) bool {
	if s.since.IsZero() || mark.Sweeper != s.sweeper || !mark.Beat.Equal(s.beat) {
		*s = sighting{s.lease, mark.Sweeper, mark.Beat, now}
	}
	return mark.Beat.IsZero() || now.Sub(s.since) >= s.lease || now.Sub(mark.Beat) >= longDead
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
