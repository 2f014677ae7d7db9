package collect

import (
	"context"
	"iter"
	"slices"
	"time"
)

// What others wait for goes in small pieces while somebody publishes: each takes some
// milliseconds, and then it rests for as long as it took. While nobody publishes the
// pieces grow, so that many share a transaction.
const (
	fewest = 16
	most   = 256
	// An answer takes less time than the removal of a digest.
	answersPerDigest = 4
)

// longestRest bounds how long a run waits for those who publish.
const longestRest = time.Second

// pace is how large the next piece is.
type pace struct {
	published func() uint64 // grows while somebody publishes
	size      int
}

// take does one piece, and rests after it if somebody publishes.
func (p *pace) take(ctx context.Context, piece func(size int) error) error {
	before, began := p.published(), time.Now()
	if err := piece(p.size); err != nil {
		return err
	}
	p.size = min(2*p.size, most)
	if p.published() != before {
		p.size = fewest
		rest(ctx, min(time.Since(began), longestRest))
	}
	return ctx.Err()
}

func rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// pieces yields all of them a piece at a time, until ctx ends.
func pieces[T any](ctx context.Context, p *pace, all []T) iter.Seq[[]T] {
	return func(yield func([]T) bool) {
		for goOn := true; goOn && len(all) > 0 && ctx.Err() == nil; {
			_ = p.take(ctx, func(size int) error { // it is that of ctx
				n := min(size, len(all))
				goOn = yield(slices.Clip(all[:n]))
				all = all[n:]
				return nil
			})
		}
	}
}
