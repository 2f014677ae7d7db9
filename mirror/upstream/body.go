package upstream

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// drainTimeout is how long the rest of an answer is worth waiting for.
const drainTimeout = 5 * time.Second

// drain lets the connection be used again, if the rest of the answer comes soon.
func drain(resp *http.Response) {
	watch := time.AfterFunc(drainTimeout, func() { resp.Body.Close() })
	defer watch.Stop()
	_, _ = io.CopyN(io.Discard, resp.Body, maxRefusal)
	resp.Body.Close()
}

// leastPace is what has to come of a stream while it is waited for as long as it
// may stall. A server that sends a byte now and then would otherwise hold a run
// for ever.
const leastPace = 64 << 10

// stallError is a stream that was cut because too little came.
type stallError struct {
	after time.Duration
	came  int
	sent  bool // it is what we send that nobody takes
}

func (e *stallError) Error() string {
	if e.sent {
		return fmt.Sprintf("nothing was taken for %v", e.after)
	}
	if e.came == 0 {
		return fmt.Sprintf("nothing came for %v", e.after)
	}
	return fmt.Sprintf("too slow: only %d bytes came in %v", e.came, e.after)
}

// stream is the body of an answer. It ends with an error when it is waited for
// too long in all before enough comes; how slow its reader is does not matter.
type stream struct {
	waited time.Duration // since enough came
	came   atomic.Int64  // meanwhile

	body    io.ReadCloser
	host    string
	ctx     context.Context // of the request, to tell why it ended
	stall   time.Duration
	watch   *time.Timer
	release func()
}

func newStream(resp *http.Response, stall time.Duration, cancel context.CancelCauseFunc, release func()) *stream {
	s := &stream{body: resp.Body, host: resp.Request.URL.Host, ctx: resp.Request.Context(), stall: stall, release: release}
	s.watch = time.AfterFunc(stall, func() {
		cancel(&stallError{after: stall, came: int(s.came.Load())})
		s.body.Close()
	})
	s.watch.Stop()
	return s
}

func (s *stream) Read(p []byte) (int, error) {
	began := time.Now()
	s.watch.Reset(s.stall - s.waited)
	n, err := s.body.Read(p)
	s.watch.Stop()
	s.waited += time.Since(began)
	if s.came.Add(int64(n)) >= leastPace {
		s.waited = 0
		s.came.Store(0)
	}
	if err == nil || err == io.EOF {
		return n, err
	}
	return n, &transportError{s.host, cause(s.ctx, err)}
}

func (s *stream) Close() error {
	s.watch.Stop()
	err := s.body.Close()
	s.release()
	return err
}

// readAll reads and closes a body of at most limit bytes.
func readAll(resp *http.Response, limit int64) ([]byte, error) {
	defer resp.Body.Close()
	tooLarge := fmt.Errorf("the answer has more than the %d MiB that it may have", limit>>20)
	if resp.ContentLength > limit {
		return nil, tooLarge
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("the answer broke off after %d bytes: %w", len(raw), err)
	}
	if int64(len(raw)) > limit {
		return nil, tooLarge
	}
	return raw, nil
}

// closing is a body whose slot is free when it is closed.
type closing struct {
	io.ReadCloser
	done func()
}

func (c *closing) Close() error {
	defer c.done()
	return c.ReadCloser.Close()
}
