package layout

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// barrier runs one sync for all who ask while another runs: who asks is served
// by a sync that starts after it asked. After one that lost what was written,
// which is errUnsynced, every later one fails.
type barrier struct {
	sync func() error

	running sync.Mutex // held while a sync runs

	mu     sync.Mutex
	next   *round // who asks now is served by it
	broken error
}

type round struct {
	ended bool
	err   error
}

func (b *barrier) wait() error { return b.serve(b.join()) }

func (b *barrier) serve(r *round) error {
	b.running.Lock()
	defer b.running.Unlock()
	if r.ended {
		return r.err
	}
	if r.err = b.begin(); r.err == nil {
		r.err = b.sync()
	}
	r.ended = true
	if errors.Is(r.err, errUnsynced) {
		b.fail(r.err)
	}
	return r.err
}

func (b *barrier) join() *round {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next == nil {
		b.next = new(round)
	}
	return b.next
}

// begin closes the round to newcomers, unless a sync has failed before.
func (b *barrier) begin() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.next = nil
	return b.broken
}

// fail makes every later round fail.
func (b *barrier) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.broken == nil {
		b.broken = fmt.Errorf("the disk lost what was written to it, so nothing more is published until lastro is started again: %w", err)
	}
}

func deviceOf(root folder) (uint64, error) {
	d, err := root.Open(".")
	if err != nil {
		return 0, err
	}
	defer d.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(d.Fd()), &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: root.Name(), Err: err}
	}
	return st.Dev, nil
}
