package limit

import (
	"context"
	"io"
	"time"

	"golang.org/x/time/rate"
)

// Pace is how many requests and bytes a second may be. nil is as many as there
// are. It may be used from many goroutines.
type Pace struct {
	tokens *rate.Limiter
}

// burst is how much of a second's share may come at once.
const burst = 8

// Requests allows so many requests a second; 0: any number.
func Requests(perSecond int) *Pace {
	if perSecond <= 0 {
		return nil
	}
	return &Pace{rate.NewLimiter(rate.Limit(perSecond), max(1, perSecond/burst))}
}

const (
	leastRead = 4 << 10
	mostRead  = 1 << 20
)

// Bytes allows so many bytes a second; 0: any number.
func Bytes(perSecond int64) *Pace {
	if perSecond <= 0 {
		return nil
	}
	return &Pace{rate.NewLimiter(rate.Limit(perSecond), int(min(max(perSecond/burst, leastRead), mostRead)))}
}

// Wait waits for the turn of one request. The error is ctx's.
func (p *Pace) Wait(ctx context.Context) error { return p.wait(ctx, 1) }

// wait does not fail before ctx ends, even when it will end before the turn.
func (p *Pace) wait(ctx context.Context, n int) error {
	if p == nil {
		return ctx.Err()
	}
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

// Reader reads r at the pace of bytes, which all its readers share.
func (p *Pace) Reader(ctx context.Context, r io.Reader) io.Reader {
	if p == nil {
		return r
	}
	return &paced{ctx, p, r}
}

type paced struct {
	ctx  context.Context // of the request
	pace *Pace
	r    io.Reader
}

// Read waits for what it has read, so that the next read comes later.
func (p *paced) Read(b []byte) (int, error) {
	if most := p.pace.tokens.Burst(); len(b) > most {
		b = b[:most]
	}
	n, err := p.r.Read(b)
	if err != nil || n == 0 {
		return n, err
	}
	return n, p.pace.wait(p.ctx, n)
}
