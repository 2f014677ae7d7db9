package check

import (
	"context"
	"time"

	"golang.org/x/time/rate"
)

// Pace is how fast a check may read, over all its readers. Clients come first:
// while any is answered it goes at a quarter of that. It never stands still.
type Pace struct {
	tokens *rate.Limiter
	busy   func() bool
}

const (
	// yielding is how many times over it pays for what it reads beside clients.
	yielding = 4
	// page is what a look at a file costs that is not read.
	page = 4 << 10
)

// NewPace allows so many bytes a second; 0: as many as there are. busy tells
// whether clients are being answered; nil: they never are.
func NewPace(perSecond int64, busy func() bool) *Pace {
	if perSecond <= 0 {
		return nil
	}
	if busy == nil {
		busy = func() bool { return false }
	}
	burst := min(max(perSecond/8, page), int64(len(block{})))
	return &Pace{rate.NewLimiter(rate.Limit(perSecond), int(burst)), busy}
}

// most is how many of n bytes may be read before they are paid for.
func (p *Pace) most(n int) int {
	if p == nil {
		return n
	}
	return min(n, p.tokens.Burst())
}

// spend waits for what was read. Its error is ctx's.
func (p *Pace) spend(ctx context.Context, n int) error {
	if p == nil {
		return ctx.Err()
	}
	if p.busy() {
		n *= yielding
	}
	for n > 0 {
		part := min(n, p.tokens.Burst())
		if err := p.wait(ctx, part); err != nil {
			return err
		}
		n -= part
	}
	return ctx.Err()
}

// wait does not fail before ctx ends, even when it will end before the turn.
func (p *Pace) wait(ctx context.Context, n int) error {
	turn := p.tokens.ReserveN(time.Now(), n)
	t := time.NewTimer(turn.Delay())
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err()
	case <-ctx.Done():
		turn.Cancel()
		return ctx.Err()
	}
}

// glance pays for a look at a file that is not read.
func (c *check) glance(ctx context.Context) error { return c.o.Pace.spend(ctx, page) }
