package remote

import (
	"context"
	"sync"
	"time"
)

// pace is how often progress is sent.
const pace = 100 * time.Millisecond

// maxPending is how many done items may wait for the next beat.
const maxPending = 4096

// sender is the daemon's end of a verb's streams.
type sender struct {
	wire *wire
	gone func(error) // called when the client cannot be reached any more

	flushing lock // keeps progress and output in order

	mu    sync.Mutex
	moved moved
	done  []done
}

func (s *sender) streams() Streams {
	return Streams{Stdout: output{s, kindStdout}, Stderr: output{s, kindStderr}, Progress: s}
}

// Plan adds to what there is to do.
func (s *sender) Plan(items int, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.moved.Items += items
	s.moved.Total += bytes
}

// Bytes adds to what was done.
func (s *sender) Bytes(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.moved.Bytes += n
}

// Done reports an item. It waits for the client only when very many are
// unsent.
func (s *sender) Done(item string, err error) {
	d := done{Item: clip(item)}
	if err != nil {
		d.Error = clip(err.Error())
	}
	s.mu.Lock()
	s.done = append(s.done, d)
	full := len(s.done) >= maxPending
	s.mu.Unlock()
	if full {
		s.flush()
	}
}

// beat sends progress until ctx ends.
func (s *sender) beat(ctx context.Context) {
	t := time.NewTicker(pace)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			s.flush()
		}
	}
}

// flush sends the progress made since the last one.
func (s *sender) flush() {
	s.flushing.Lock()
	defer s.flushing.Unlock()
	s.flushLocked()
}

func (s *sender) flushLocked() {
	s.mu.Lock()
	m, items := s.moved, s.done
	s.moved, s.done = moved{}, nil
	s.mu.Unlock()
	if m != (moved{}) {
		s.report(s.wire.sendJSON(kindProgress, m))
	}
	for _, d := range items {
		s.report(s.wire.sendJSON(kindDone, d))
	}
}

func (s *sender) report(err error) {
	if err != nil {
		s.gone(err)
	}
}

// output is one of the two output streams of a verb.
type output struct {
	*sender
	kind kind
}

// Write sends what precedes it, and then p. It fails when the client has gone
// or reads nothing.
func (o output) Write(p []byte) (int, error) {
	o.flushing.Lock()
	defer o.flushing.Unlock()
	o.flushLocked()
	n := 0
	for n < len(p) {
		part := p[n:min(len(p), n+chunk)]
		if err := o.wire.send(o.kind, part); err != nil {
			o.gone(err)
			return n, err
		}
		n += len(part)
	}
	return n, nil
}
