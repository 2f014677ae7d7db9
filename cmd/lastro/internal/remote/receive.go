package remote

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// readAhead is how much output a client keeps for a terminal that is paused
// before the daemon notices.
const readAhead = 64 << 20

func encodeRequest(r Request) ([]byte, error) {
	b, err := json.Marshal(request{Protocol: protocol, Request: r})
	if err != nil {
		return nil, err
	}
	if len(b) > maxRequest {
		return nil, fmt.Errorf("the command line has %d bytes, which is over the limit of %d for a command that runs in the daemon", len(b), maxRequest)
	}
	return b, nil
}

// receive copies frames from conn to s up to the exit code. It closes conn when
// s cannot be written to.
func receive(conn io.ReadCloser, s Streams) (int, error) {
	q := newQueue(readAhead)
	var reader sync.WaitGroup
	reader.Go(func() { q.fill(conn) })
	defer reader.Wait()
	defer conn.Close()
	defer q.abandon()
	for {
		f, err := q.next()
		if err != nil {
			return 0, err
		}
		if f.kind == kindExit {
			var x exit
			err := f.decode(kindExit, &x)
			return x.Code, err
		}
		if err := f.show(s); err != nil {
			return 0, err
		}
	}
}

// show gives a frame to the stream that it is for.
func (f frame) show(s Streams) error {
	switch f.kind {
	case kindStdout:
		_, err := s.Stdout.Write(f.payload)
		return err
	case kindStderr:
		_, err := s.Stderr.Write(f.payload)
		return err
	case kindProgress:
		return f.showProgress(s.Progress)
	case kindDone:
		return f.showDone(s.Progress)
	case kindRefusal:
		return f.refusal()
	}
	return fmt.Errorf("a frame of unknown kind %q", f.kind)
}

func (f frame) showProgress(p Progress) error {
	var m moved
	if err := json.Unmarshal(f.payload, &m); err != nil {
		return fmt.Errorf("progress: %w", err)
	}
	if m.Items != 0 || m.Total != 0 {
		p.Plan(m.Items, m.Total)
	}
	if m.Bytes != 0 {
		p.Bytes(m.Bytes)
	}
	return nil
}

func (f frame) showDone(p Progress) error {
	var d done
	if err := json.Unmarshal(f.payload, &d); err != nil {
		return fmt.Errorf("progress: %w", err)
	}
	var failure error
	if d.Error != "" {
		failure = errors.New(d.Error)
	}
	p.Done(d.Item, failure)
	return nil
}

// queue holds the frames that were read and not yet shown.
type queue struct {
	limit int

	mu     sync.Mutex
	change *sync.Cond
	frames []frame
	size   int
	err    error // after the last frame
	over   bool  // nobody takes frames any more
}

func newQueue(limit int) *queue {
	q := &queue{limit: limit}
	q.change = sync.NewCond(&q.mu)
	return q
}

// fill reads frames until one is the last, or the queue is abandoned.
func (q *queue) fill(r io.Reader) {
	for {
		f, err := readFrame(r, maxFrame)
		if !q.put(f, err) || f.kind == kindExit {
			return
		}
	}
}

// put adds a frame, waiting for room, and says whether to go on.
func (q *queue) put(f frame, err error) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for err == nil && q.size >= q.limit && !q.over {
		q.change.Wait()
	}
	if err != nil {
		q.err = err
	} else {
		q.frames = append(q.frames, f)
		q.size += header + len(f.payload)
	}
	q.change.Broadcast()
	return err == nil && !q.over
}

// next takes the oldest frame. The error of reading comes after the frames.
func (q *queue) next() (frame, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.frames) == 0 && q.err == nil {
		q.change.Wait()
	}
	if len(q.frames) == 0 {
		return frame{}, q.err
	}
	f := q.frames[0]
	q.frames = q.frames[1:]
	q.size -= header + len(f.payload)
	q.change.Broadcast()
	return f, nil
}

func (q *queue) abandon() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.over = true
	q.change.Broadcast()
}
