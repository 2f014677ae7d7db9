package upstream

import (
	"context"
	"io"
	"net/http"
	"time"
)

// upload is the body of a request. It is opened anew each time it is sent, and is
// closed by whoever sends it.
type upload struct {
	size  int64
	open  func(context.Context) (io.ReadCloser, error)
	stall time.Duration
	cut   context.CancelCauseFunc
}

// watched is an upload that cuts a request when the server takes nothing for too long.
func (u upload) watched(stall time.Duration, cut context.CancelCauseFunc) *upload {
	u.stall, u.cut = stall, cut
	return &u
}

// sourceError is a fault of what is to be sent, not of whom it is sent to.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

// attach makes it the body of a request.
func (u *upload) attach(ctx context.Context, r *Registry, h *http.Request) (*sending, error) {
	if u == nil {
		return nil, nil
	}
	body, err := u.open(ctx)
	if err != nil {
		return nil, &sourceError{err}
	}
	s := &sending{from: r.bandwidth.Reader(ctx, body), body: body, u: u}
	s.watch = time.AfterFunc(u.stall, func() { u.cut(&stallError{after: u.stall, sent: true}) })
	s.watch.Stop()
	if h.Body, h.ContentLength = s, u.size; u.size == 0 {
		h.Body = http.NoBody
		_ = body.Close() // of which nothing was read
	}
	return s, nil
}

// sending is an upload on its way. The server is waited for between two reads.
type sending struct {
	from  io.Reader
	body  io.ReadCloser
	u     *upload
	watch *time.Timer
	err   error // of the source
}

func (s *sending) Read(p []byte) (int, error) {
	s.watch.Stop()
	n, err := s.from.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	} else {
		s.watch.Reset(s.u.stall)
	}
	return n, err
}

func (s *sending) Close() error {
	s.watch.Stop()
	return s.body.Close()
}

// instead is the fault of the source, if there was one, or err.
func (s *sending) instead(err error) error {
	if s != nil && s.err != nil {
		return &sourceError{s.err}
	}
	return err
}
