package mirror

import (
	"context"
	"sync"

	"github.com/opencontainers/go-digest"
)

// flights let one caller at a time work on a digest. The zero value is ready.
type flights struct {
	mu  sync.Mutex
	now map[digest.Digest]chan struct{}
}

// do runs fn when nobody else works on d. Each caller runs its own, because
// where one was denied another may not be.
func (f *flights) do(ctx context.Context, d digest.Digest, fn func() error) error {
	for {
		running, mine := f.start(d)
		if !running {
			defer f.end(d, mine)
			return fn()
		}
		select {
		case <-mine:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// start takes d, or returns what closes when the one who has it ends.
func (f *flights) start(d digest.Digest) (running bool, done chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if done, running = f.now[d]; running {
		return true, done
	}
	if f.now == nil {
		f.now = map[digest.Digest]chan struct{}{}
	}
	f.now[d] = make(chan struct{})
	return false, f.now[d]
}

func (f *flights) end(d digest.Digest, done chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.now, d)
	close(done)
}
