package upstream

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"lastro/mirror"
)

// idle reports whether so many are free, and nobody waits.
func (s *slots) idle(free int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.free == free && s.first.Len()+s.others.Len() == 0
}

// closed is a rush that goes on already.
func closed() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// line is one slot that is taken, and who waits for it.
type line struct {
	slots
	order []string
}

// wait lets somebody wait, who tells when he is let in and goes on at once.
func (l *line) wait(t *testing.T, name string, rush chan struct{}) (leave func()) {
	ctx, cancel := context.WithCancel(mirror.WithRush(t.Context(), rush))
	go func() {
		if l.acquire(ctx) == nil {
			l.order = append(l.order, name)
			l.release()
		}
	}()
	synctest.Wait()
	return func() {
		cancel()
		synctest.Wait()
	}
}

func TestWhatAClientWaitsForGoesFirst(t *testing.T) {
	for _, c := range []struct {
		name string
		wait func(t *testing.T, l *line)
		want string
	}{
		{"in the order in which they came", func(t *testing.T, l *line) {
			l.wait(t, "a", nil)
			l.wait(t, "b", nil)
		}, "a b"},
		{"before what no client waits for", func(t *testing.T, l *line) {
			l.wait(t, "a", nil)
			l.wait(t, "b", nil)
			l.wait(t, "client", closed())
			l.wait(t, "next", closed())
		}, "client next a b"},
		{"what a client begins to wait for", func(t *testing.T, l *line) {
			rush := make(chan struct{})
			l.wait(t, "a", nil)
			l.wait(t, "b", rush)
			l.wait(t, "client", closed())
			close(rush)
			synctest.Wait()
		}, "client b a"},
		{"who gives up is not waited for", func(t *testing.T, l *line) {
			l.wait(t, "a", nil)
			l.wait(t, "b", nil)()
			l.wait(t, "client", closed())()
			l.wait(t, "c", nil)
		}, "a c"},
		{"one of the others goes after eight clients", func(t *testing.T, l *line) {
			l.wait(t, "a", nil)
			l.wait(t, "b", nil)
			for range 10 {
				l.wait(t, "x", closed())
			}
		}, "x x x x x x x x a x x b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &line{}
				c.wait(t, l)
				l.release()
				synctest.Wait()
				if got := strings.Join(l.order, " "); got != c.want {
					t.Errorf("got %s, want %s", got, c.want)
				}
				if !l.idle(1) {
					t.Error("a slot is held, or somebody waits")
				}
			})
		})
	}
}

func TestWhoIsLetInAndGivesUpGivesTheSlotOn(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s, w := &slots{}, &waiter{ready: make(chan struct{})}
	w.join(&s.others)
	s.release() // it is let in, and gives up before it sees that
	if err := s.giveUp(ctx, w); err == nil || !s.idle(1) {
		t.Errorf("%v, or the slot is lost", err)
	}
	if s.acquire(ctx) == nil {
		t.Error("who has given up is let in")
	}
}
