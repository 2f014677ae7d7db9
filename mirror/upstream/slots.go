package upstream

import (
	"container/list"
	"context"
	"sync"

	"lastro/mirror"
)

// fair is how many go first in a row before one of the others goes: a sync
// becomes slow beside clients, and does not stop.
const fair = 8

// slots are the requests to an upstream that may go on at once. Of those that
// wait for one, what a client waits for goes first, see [mirror.WithRush].
type slots struct {
	mu     sync.Mutex
	free   int
	first  list.List // of *waiter
	others list.List
	passed int // the others, since the last of them went
}

type waiter struct {
	ready chan struct{}
	in    *list.List // nil: it was let in
	at    *list.Element
}

// acquire waits for a slot.
func (s *slots) acquire(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	if s.free > 0 {
		s.free--
		s.mu.Unlock()
		return nil
	}
	rush := mirror.Rush(ctx)
	w := &waiter{ready: make(chan struct{})}
	w.join(&s.others)
	s.mu.Unlock()
	for {
		select {
		case <-w.ready:
			return nil
		case <-rush:
			rush = nil
			s.hurry(w)
		case <-ctx.Done():
			return s.giveUp(ctx, w)
		}
	}
}

func (w *waiter) join(l *list.List) { w.in, w.at = l, l.PushBack(w) }

func (w *waiter) leave() {
	w.in.Remove(w.at)
	w.in = nil
}

// hurry lets one that waits go before the others.
func (s *slots) hurry(w *waiter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.in != nil {
		w.leave()
		w.join(&s.first)
	}
}

func (s *slots) giveUp(ctx context.Context, w *waiter) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.in != nil {
		w.leave()
	} else {
		s.pass() // it was let in meanwhile
	}
	return ctx.Err()
}

// release gives a slot to the next.
func (s *slots) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pass()
}

func (s *slots) pass() {
	w := s.next()
	if w == nil {
		s.free++
		return
	}
	w.leave()
	close(w.ready)
}

func (s *slots) next() *waiter {
	first, other := s.first.Front(), s.others.Front()
	if first != nil && (other == nil || s.passed < fair) {
		s.passed++
		return first.Value.(*waiter)
	}
	s.passed = 0
	if other == nil {
		return nil
	}
	return other.Value.(*waiter)
}
