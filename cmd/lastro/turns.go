package main

import (
	"context"
	"sync"
)

// turns lets one run of each named job go on at a time; others wait. The zero
// value is ready.
type turns struct {
	mu   sync.Mutex
	jobs map[string]chan struct{}
}

// take waits for the job's turn. The caller calls done when it has finished.
func (t *turns) take(ctx context.Context, job string) (done func(), err error) {
	t.mu.Lock()
	if t.jobs == nil {
		t.jobs = map[string]chan struct{}{}
	}
	turn, ok := t.jobs[job]
	if !ok {
		turn = make(chan struct{}, 1)
		t.jobs[job] = turn
	}
	t.mu.Unlock()
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
