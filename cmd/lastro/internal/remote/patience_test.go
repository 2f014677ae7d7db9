package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener whose connections are net.Pipe: they block and time out
// in the clock of a synctest bubble, and hold nothing.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// piped serves s within a bubble and returns a way to connect, and one to stop.
func piped(t *testing.T, s *Server) (connect func() net.Conn, stop func()) {
	t.Helper()
	s.peer = func(net.Conn) error { return nil }
	p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, p) }()
	connect = func() net.Conn {
		ours, theirs := net.Pipe()
		p.conns <- theirs
		return ours
	}
	stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
	}
	return connect, stop
}

func TestAClientThatReadsNothingIsGoneAfterHalfAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		ended := make(chan error, 1)
		connect, stop := piped(t, &Server{Run: func(ctx context.Context, _ Request, s Streams) int {
			_, err := fmt.Fprintln(s.Stdout, "hello?")
			if err == nil {
				t.Error("writing to a client that does not read succeeded")
			}
			<-ctx.Done()
			ended <- context.Cause(ctx)
			return 1
		}})
		conn := connect()
		c, err := meet(t.Context(), conn, patience)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.request(Request{}); err != nil {
			t.Fatal(err)
		}
		if got := <-ended; !errors.Is(got, ErrGone) {
			t.Errorf("cause: got %v, want ErrGone", got)
		}
		if got := time.Since(start); got != patience {
			t.Errorf("the daemon waited %v, want %v", got, patience)
		}
		stop()
		conn.Close()
	})
}

func TestProgressNeverWaitsForASlowClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		ended := make(chan time.Duration, 1)
		connect, stop := piped(t, &Server{Run: func(_ context.Context, _ Request, s Streams) int {
			for i := range 1000 {
				s.Progress.Plan(1, 1)
				s.Progress.Bytes(1)
				s.Progress.Done(fmt.Sprint(i), nil)
			}
			ended <- time.Since(start)
			return 0
		}})
		conn := connect()
		c, err := meet(t.Context(), conn, patience)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.request(Request{}); err != nil {
			t.Fatal(err)
		}
		if got := <-ended; got != 0 {
			t.Errorf("a thousand reports took %v, want none", got)
		}
		stop()
		conn.Close()
	})
}

func TestAConnectionThatAsksForNothingIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		connect, stop := piped(t, &Server{Run: func(context.Context, Request, Streams) int { return 0 }})
		conn := connect()
		if _, err := meet(t.Context(), conn, patience); err != nil {
			t.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		if _, err := readFrame(conn, maxFrame); !errors.Is(err, io.EOF) {
			t.Errorf("got %v, want the end", err)
		}
		if got := time.Since(start); got != patience {
			t.Errorf("it was kept for %v, want %v", got, patience)
		}
		stop()
	})
}

func TestADaemonThatDoesNotEndAVerbIsNotWaitedForForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		connect, stop := piped(t, &Server{Run: func(context.Context, Request, Streams) int {
			<-release // deaf to its context
			return 0
		}})
		c, err := meet(t.Context(), connect(), patience)
		if err != nil {
			t.Fatal(err)
		}
		c.data = "/data"
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		start := time.Now()
		code, err := c.Run(ctx, Request{Args: []string{"sync"}}, Streams{})
		if want := `the daemon of /data has not confirmed that "lastro sync" ended`; code != 130 || err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %d, %v", code, err)
		}
		if got, want := time.Since(start), time.Hour+grace; got != want {
			t.Errorf("it waited %v, want %v", got, want)
		}
		close(release)
		stop()
	})
}

// paused is a terminal that shows nothing until it is let go.
type paused struct {
	letGo <-chan struct{}
	n     int
}

func (p *paused) Write(b []byte) (int, error) {
	<-p.letGo
	p.n += len(b)
	return len(b), nil
}

func TestAPausedTerminalDoesNotHoldUpTheDaemon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const lines = 10_000
		finished := make(chan struct{})
		connect, stop := piped(t, &Server{Run: func(_ context.Context, _ Request, s Streams) int {
			for range lines {
				if _, err := fmt.Fprintln(s.Stdout, "a line"); err != nil {
					t.Error(err)
					return 1
				}
			}
			close(finished)
			return 0
		}})
		c, err := meet(t.Context(), connect(), patience)
		if err != nil {
			t.Fatal(err)
		}
		letGo := make(chan struct{})
		out := &paused{letGo: letGo}
		go func() {
			<-finished
			time.Sleep(24 * time.Hour) // somebody went home
			close(letGo)
		}()
		code, err := c.Run(t.Context(), Request{}, Streams{Stdout: out})
		if got, want := out.n, lines*len("a line\n"); code != 0 || err != nil || got != want {
			t.Errorf("got %d, %v, %d bytes; want %d", code, err, got, want)
		}
		stop()
	})
}

func TestAReaderAheadStopsAtItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		q := newQueue(10 * (header + 100))
		go q.fill(ours)
		w := newWire(theirs, patience)
		sent := 0
		for w.send(kindStdout, make([]byte, 100)) == nil {
			sent++
		}
		if want := 10 + 1; sent != want { // one is in the reader's hand
			t.Errorf("it took %d frames, want %d", sent, want)
		}
		q.abandon()
		theirs.Close()
	})
}
