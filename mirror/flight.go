package mirror

import (
	"context"
	"sync"

	"github.com/opencontainers/go-digest"
)

// Traffic is what is on its way into one local registry. Engines that share it
// work on a digest one at a time. The zero value is ready.
type Traffic struct {
	mu      sync.Mutex
	now     map[digest.Digest]*flight
	watched map[digest.Digest]*watch
	pulls   *turnstile // of downloads for clients
}

// flight is somebody's work on a digest.
type flight struct {
	done chan struct{}
	rush func()          // lets it go before what waits for a download
	now  <-chan struct{} // closed by rush
}

// claim is a wish to work on a digest.
type claim struct {
	digest digest.Digest
	urgent bool // a client waits
}

// hurrying is a context of work that goes first at its upstream as well from when
// somebody rushes it on; work that a client waits for does already.
func (f *flight) hurrying(ctx context.Context) context.Context {
	if Rush(ctx) != nil {
		return ctx
	}
	return WithRush(ctx, f.now)
}

// do runs fn when nobody else works on the digest. Each caller runs its own,
// because where one was denied another may not be.
func (t *Traffic) do(ctx context.Context, c claim, fn func(*flight) error) error {
	for {
		f, mine := t.start(c.digest)
		if mine {
			defer t.end(c.digest, f)
			return fn(f)
		}
		if c.urgent {
			f.rush()
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// start takes d, or returns the flight of the one who has it.
func (t *Traffic) start(d digest.Digest) (f *flight, mine bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f := t.now[d]; f != nil {
		return f, false
	}
	if t.now == nil {
		t.now = map[digest.Digest]*flight{}
	}
	rush := make(chan struct{})
	t.now[d] = &flight{done: make(chan struct{}), rush: sync.OnceFunc(func() { close(rush) }), now: rush}
	return t.now[d], true
}

func (t *Traffic) end(d digest.Digest, f *flight) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.now, d)
	close(f.done)
	t.tell(d)
}

// hurry lets work on d go first, if somebody is at it.
func (t *Traffic) hurry(d digest.Digest) {
	t.mu.Lock()
	f := t.now[d]
	t.mu.Unlock()
	if f != nil {
		f.rush()
	}
}

// watch is what waits for news of a digest.
type watch struct {
	changed chan struct{}
	n       int // of those who wait
}

// Watch returns what closes when content begins to come, begins to come again,
// or ends to. The caller calls release when it listens no more.
func (t *Traffic) Watch(d digest.Digest) (changed <-chan struct{}, release func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.watched == nil {
		t.watched = map[digest.Digest]*watch{}
	}
	w := t.watched[d]
	if w == nil {
		w = &watch{changed: make(chan struct{})}
		t.watched[d] = w
	}
	w.n++
	return w.changed, sync.OnceFunc(func() { t.release(d, w) })
}

func (t *Traffic) release(d digest.Digest, w *watch) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if w.n--; w.n == 0 && t.watched[d] == w {
		delete(t.watched, d)
	}
}

// begins tells that content begins to come.
func (t *Traffic) begins(d digest.Digest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tell(d)
}

// tell wakes who watches. The caller holds mu.
func (t *Traffic) tell(d digest.Digest) {
	if w := t.watched[d]; w != nil {
		close(w.changed)
		delete(t.watched, d)
	}
}

// forPulls is where downloads for clients wait for their turn, over all images.
// Its places are those of the first call.
func (t *Traffic) forPulls(places int) *turnstile {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pulls == nil {
		t.pulls = newTurnstile(places)
	}
	return t.pulls
}
