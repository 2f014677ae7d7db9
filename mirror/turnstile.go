package mirror

import (
	"container/heap"
	"context"
	"sync"
)

// turnstile lets so many downloads run at once. Of those that wait, those of
// the image that has the least to fetch go first, so that small images do not
// wait for large ones, and before them what a client waits for.
type turnstile struct {
	mu      sync.Mutex
	free    int
	waiting queue
	arrived uint64
}

func newTurnstile(places int) *turnstile { return &turnstile{free: places} }

// urgent is the size of what goes before all that waits: a client waits for it.
const urgent = -1

// enter waits for a place. size is what the image has to fetch; it is urgent
// from when rush closes on.
func (t *turnstile) enter(ctx context.Context, size int64, rush <-chan struct{}) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	t.mu.Lock()
	if t.free > 0 {
		t.free--
		t.mu.Unlock()
		return nil
	}
	t.arrived++
	w := &waiter{size: size, order: t.arrived, ready: make(chan struct{})}
	heap.Push(&t.waiting, w)
	t.mu.Unlock()
	for {
		select {
		case <-w.ready:
			return nil
		case <-rush:
			rush = nil
			t.hurry(w)
			continue
		case <-ctx.Done():
		}
		return t.giveUp(ctx, w)
	}
}

// hurry puts one that waits before the others.
func (t *turnstile) hurry(w *waiter) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w.size = urgent
	if w.place >= 0 {
		heap.Fix(&t.waiting, w.place)
	}
}

func (t *turnstile) giveUp(ctx context.Context, w *waiter) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if w.place >= 0 {
		heap.Remove(&t.waiting, w.place)
	} else {
		t.pass() // it was let in meanwhile
	}
	return ctx.Err()
}

// leave gives the place to the next.
func (t *turnstile) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pass()
}

func (t *turnstile) pass() {
	if len(t.waiting) == 0 {
		t.free++
		return
	}
	close(heap.Pop(&t.waiting).(*waiter).ready)
}

type waiter struct {
	size  int64
	order uint64
	ready chan struct{}
	place int // in the queue; -1: it was let in
}

// queue is a heap of those that wait.
type queue []*waiter

func (q queue) Len() int { return len(q) }

func (q queue) Less(i, j int) bool {
	if q[i].size != q[j].size {
		return q[i].size < q[j].size
	}
	return q[i].order < q[j].order
}

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}

func (q *queue) Push(x any) {
	w := x.(*waiter)
	w.place = len(*q)
	*q = append(*q, w)
}

func (q *queue) Pop() any {
	old := *q
	w := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	w.place = -1
	return w
}
