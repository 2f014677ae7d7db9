package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// maxBatch bounds how many callers share one transaction.
const maxBatch = 4096

// change is what one caller wants committed.
type change struct {
	ctx    context.Context
	apply  func(*bolt.Tx) error
	taken  atomic.Bool // by the writer, or by a caller that gave up
	answer chan error  // holds one
}

// writer commits the changes of many callers in few transactions. One
// goroutine takes whatever waits and commits it together: a lone caller waits
// for one sync and no timer, and many share one.
type writer struct {
	db        *bolt.DB
	committed func()
	wake      chan struct{}
	done      chan struct{}

	mu     sync.Mutex
	queue  []*change
	closed bool

	broken error // only the goroutine uses it
}

func startWriter(db *bolt.DB, committed func()) *writer {
	if committed == nil {
		committed = func() {}
	}
	w := &writer{db: db, committed: committed, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go w.run()
	return w
}

// update commits fn's changes. When ctx ends before their transaction starts,
// nothing is changed and ctx's error returns; after that the outcome is what
// the transaction's is.
func (w *writer) update(ctx context.Context, fn func(*bolt.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c := &change{ctx: ctx, apply: fn, answer: make(chan error, 1)}
	if !w.enqueue(c) {
		return ErrClosed
	}
	select {
	case err := <-c.answer:
		return err
	case <-ctx.Done():
		if c.taken.CompareAndSwap(false, true) {
			return ctx.Err()
		}
		return <-c.answer
	}
}

func (w *writer) enqueue(c *change) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	w.queue = append(w.queue, c)
	w.ring()
	return true
}

// ring wakes the goroutine, or leaves the bell rung.
func (w *writer) ring() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// close commits what waits and then last, and ends the goroutine. It is called
// once.
func (w *writer) close(last func(*bolt.Tx) error) error {
	c := &change{ctx: context.Background(), apply: last, answer: make(chan error, 1)}
	w.mu.Lock()
	w.closed = true
	w.queue = append(w.queue, c)
	w.ring()
	w.mu.Unlock()
	<-w.done
	return <-c.answer
}

func (w *writer) run() {
	defer close(w.done)
	for range w.wake {
		for {
			batch, more := w.take()
			if len(batch) > 0 {
				w.commit(batch)
			}
			if !more {
				break
			}
		}
		if w.finished() {
			return
		}
	}
}

// take claims the changes that wait. Those whose caller has gone are dropped.
func (w *writer) take() (batch []*change, more bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := min(len(w.queue), maxBatch)
	for _, c := range w.queue[:n] {
		switch {
		case !c.taken.CompareAndSwap(false, true):
		case c.ctx.Err() != nil:
			c.answer <- c.ctx.Err()
		default:
			batch = append(batch, c)
		}
	}
	w.queue = slices.Clone(w.queue[n:])
	return batch, len(w.queue) > 0
}

func (w *writer) finished() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closed && len(w.queue) == 0
}

// commit answers every change of the batch. When one of them cannot be applied
// each is committed alone, so that one caller's fault is that caller's.
func (w *writer) commit(batch []*change) {
	applied, err := w.try(batch)
	if !applied && len(batch) > 1 {
		for i := range batch {
			w.commit(batch[i : i+1])
		}
		return
	}
	for _, c := range batch {
		c.answer <- err
	}
}

// errUnchanged rolls back a transaction that would be synced for nothing.
var errUnchanged = errors.New("nothing changed")

// isUnchanged says that tx changed nothing: bbolt changes nodes only, and makes
// one of a page for that.
func isUnchanged(tx *bolt.Tx) bool {
	stats := tx.Stats()
	return stats.GetNodeCount() == 0
}

// try commits the batch in one transaction. applied is false when a change
// refused. Where nothing changes nothing is written.
func (w *writer) try(batch []*change) (applied bool, err error) {
	if w.broken != nil {
		return true, w.broken
	}
	err = w.db.Update(func(tx *bolt.Tx) error {
		for _, c := range batch {
			if err := c.apply(tx); err != nil {
				return err
			}
		}
		applied = true
		if isUnchanged(tx) {
			return errUnchanged
		}
		return nil
	})
	if errors.Is(err, errUnchanged) {
		return true, nil
	}
	if applied && err != nil {
		err = w.failed(err)
	}
	w.committed()
	return applied, err
}

// failed decides what a failed commit means. A full disk is found by a write,
// before anything that counts. After any other fault nobody knows what is on
// disk, and another write could build on what is not.
func (w *writer) failed(err error) error {
	if isFull(err) {
		return fmt.Errorf("write ledger: %w", err)
	}
	w.broken = fmt.Errorf("write ledger: an earlier write failed, so it takes no more: mend the disk and start lastro again: %w", err)
	return fmt.Errorf("write ledger: %w", err)
}

// isFull tells a write that found no room from a sync that failed for want of
// it, which is a fault like any other: bbolt syncs with the bare system call.
func isFull(err error) bool {
	_, isWrite := errors.AsType[*fs.PathError](err)
	isFull := errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
	return isWrite && isFull || errors.Is(err, berrors.ErrMaxSizeReached)
}
