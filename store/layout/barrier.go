package layout

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// barrier runs one sync for all who ask while another runs: who asks is served
// by a sync that starts after it asked.
type barrier struct {
	sync func() error

	mu   sync.Mutex
	next *round // starts when the running one has ended
	busy bool
}

type round struct {
	done chan struct{}
	err  error
}

func (b *barrier) wait() error {
	b.mu.Lock()
	if b.next == nil {
		b.next = &round{done: make(chan struct{})}
	}
	mine := b.next
	lead := !b.busy
	b.busy = true
	b.mu.Unlock()
	if lead {
		b.lead()
	}
	<-mine.done
	return mine.err
}

// lead runs rounds until nobody waits.
func (b *barrier) lead() {
	for {
		b.mu.Lock()
		r := b.next
		b.next = nil
		if r == nil {
			b.busy = false
			b.mu.Unlock()
			return
		}
		b.mu.Unlock()
		r.err = b.sync()
		close(r.done)
	}
}

func syncfs(root *os.Root) error {
	d, err := root.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return &os.PathError{Op: "syncfs", Path: root.Name(), Err: err}
	}
	return nil
}

func deviceOf(root *os.Root) (uint64, error) {
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
