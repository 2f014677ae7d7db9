package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"syscall"
	"time"
)

// Server runs the verbs that clients send. Its fields are not changed while it
// serves.
type Server struct {
	Run     Run
	Version string       // of the daemon; clients of another version are told
	Log     *slog.Logger // nil: nothing is logged

	patience time.Duration        // zero: the package's
	peer     func(net.Conn) error // nil: ownUser
}

// Serve answers the connections of l until ctx ends, or l fails. Then it closes
// l, ends the verbs that still run with [ErrStopping], waits for them, and
// returns nil if it was ctx that ended.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var verbs sync.WaitGroup
	defer verbs.Wait()
	defer cancel(ErrStopping)
	unlisten := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer unlisten()
	for {
		conn, err := accept(ctx, l)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return errors.Join(fmt.Errorf("accept on %s: %w", l.Addr(), err), l.Close())
		}
		verbs.Go(func() { s.serve(ctx, conn) })
	}
}

// accept tries again for as long as only files are short.
func accept(ctx context.Context, l net.Listener) (net.Conn, error) {
	for {
		conn, err := l.Accept()
		short := errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM)
		if !short && !errors.Is(err, syscall.ECONNABORTED) {
			return conn, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(pace):
		}
	}
}

func (s *Server) serve(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	w := newWire(conn, s.limit())
	r, err := s.greet(conn, w)
	if errors.Is(err, io.EOF) {
		return // somebody only looked whether we live
	}
	if err != nil {
		s.log().Warn("a connection to the socket was refused", "err", err)
		return
	}
	s.run(ctx, conn, w, r)
}

// greet checks who asks, and reads for what.
func (s *Server) greet(conn net.Conn, w *wire) (Request, error) {
	check := s.peer
	if check == nil {
		check = ownUser
	}
	if err := check(conn); err != nil {
		return Request{}, s.refuse(w, err)
	}
	if err := w.sendJSON(kindHello, hello{Protocol: protocol, Version: s.Version}); err != nil {
		return Request{}, err
	}
	if err := conn.SetReadDeadline(deadline(s.limit())); err != nil {
		return Request{}, err
	}
	f, err := readFrame(conn, maxRequest)
	if err != nil {
		return Request{}, fmt.Errorf("read a request: %w", err)
	}
	var r request
	if err := f.decode(kindRequest, &r); err != nil {
		return Request{}, s.refuse(w, err)
	}
	if r.Protocol != protocol {
		return Request{}, s.refuse(w, fmt.Errorf("the client speaks protocol %d and the daemon protocol %d", r.Protocol, protocol))
	}
	return r.Request, conn.SetReadDeadline(time.Time{})
}

func (s *Server) refuse(w *wire, err error) error {
	return errors.Join(err, w.sendJSON(kindRefusal, refusal{Error: err.Error(), Forbidden: errors.Is(err, fs.ErrPermission)}))
}

// run runs one verb, and says the last word on its connection.
func (s *Server) run(ctx context.Context, conn net.Conn, w *wire, r Request) {
	// Cut off from ctx, so that the cause is ours whatever ended ctx.
	verb, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	out := &sender{wire: w, flushing: newLock(), gone: func(err error) { cancel(fmt.Errorf("%w: %w", ErrGone, err)) }}
	var others sync.WaitGroup
	others.Go(func() { watch(conn, cancel) })
	beating, rest := context.WithCancel(context.WithoutCancel(ctx))
	others.Go(func() { out.beat(beating) })
	stopped := context.AfterFunc(ctx, func() { cancel(ErrStopping) })
	code := s.guarded(verb, r, out.streams())
	stopped()
	rest()
	out.flush()
	if ctx.Err() != nil && code != 0 {
		fmt.Fprintln(out.streams().Stderr, "lastro: the daemon is shutting down: give the command again when it is back")
	}
	if err := w.sendJSON(kindExit, exit{Code: code}); err != nil {
		s.log().Warn("a client has gone before its verb had ended", "args", r.Args, "err", err)
	}
	_ = conn.Close() // ends watch
	others.Wait()
}

// watch ends the verb when its client is interrupted or goes away.
func watch(conn net.Conn, cancel context.CancelCauseFunc) {
	for {
		f, err := readFrame(conn, maxFrame)
		if err != nil {
			cancel(fmt.Errorf("%w: %w", ErrGone, err))
			return
		}
		if f.kind == kindCancel {
			cancel(ErrInterrupted)
		}
	}
}

// guarded keeps a panic from taking the daemon down.
func (s *Server) guarded(ctx context.Context, r Request, out Streams) (code int) {
	defer func() {
		if p := recover(); p != nil {
			s.log().Error("a verb panicked", "args", r.Args, "err", p, "stack", string(debug.Stack()))
			fmt.Fprintf(out.Stderr, "lastro: a fault in the daemon: %v (its log has more)\n", p)
			code = 1
		}
	}()
	return s.Run(ctx, r, out)
}

func (s *Server) limit() time.Duration {
	if s.patience > 0 {
		return s.patience
	}
	return patience
}

func (s *Server) log() *slog.Logger {
	if s.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Log
}
