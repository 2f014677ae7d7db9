package pull

import (
	"context"
	"errors"
	"sync"
)

var errClosed = errors.New("the registry is being stopped")

// task is work that several clients wait for.
type task struct {
	begun  chan struct{} // closed when content begins to come, or at the end
	done   chan struct{}
	result any
	err    error
}

// share starts work, or joins who started the same. It goes on when clients leave.
func (s *Snapshot) share(key string, work func(ctx context.Context, begun func()) (any, error)) (*task, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.tasks[key]; t != nil {
		return t, nil
	}
	if s.closed {
		return nil, errClosed
	}
	t := &task{begun: make(chan struct{}), done: make(chan struct{})}
	begun := sync.OnceFunc(func() { close(t.begun) })
	s.tasks[key] = t
	s.work.Go(func() {
		t.result, t.err = work(s.ctx, begun)
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.tasks, key)
		begun()
		close(t.done)
	})
	return t, nil
}

func (t *task) wait(ctx context.Context) error {
	select {
	case <-t.done:
		return t.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// place waits for one of the places for fetching.
func (s *Snapshot) place(ctx context.Context) (leave func(), err error) {
	select {
	case s.places <- struct{}{}:
		return func() { <-s.places }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
