package upstreamtest

import (
	"net/http"
	"slices"
	"strconv"
	"time"
)

// writer is an answer whose header and body go through functions.
type writer struct {
	http.ResponseWriter
	header func(h http.Header, status int)                          // before it is sent; nil: as it is
	write  func(w http.ResponseWriter, p []byte) (n int, err error) // nil: as it is
	begun  bool
}

func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *writer) WriteHeader(status int) {
	if !w.begun && w.header != nil {
		w.header(w.Header(), status)
	}
	w.begun = true
	w.ResponseWriter.WriteHeader(status)
}

func (w *writer) Write(p []byte) (int, error) {
	if !w.begun {
		w.WriteHeader(http.StatusOK)
	}
	if w.write == nil {
		return w.ResponseWriter.Write(p)
	}
	return w.write(w.ResponseWriter, p)
}

// flush sends what was written so far. An answer that cannot is not sent to
// anybody.
func flush(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() }

// CutAt breaks the connection after n bytes of a body. A body that has no more
// is whole.
func CutAt(s Strike, n int64) Fault {
	return s.on(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		left := n
		next.ServeHTTP(&writer{ResponseWriter: w, write: func(w http.ResponseWriter, p []byte) (int, error) {
			if int64(len(p)) <= left {
				left -= int64(len(p))
				return w.Write(p)
			}
			struck(r)
			_, _ = w.Write(p[:left])
			flush(w)
			panic(http.ErrAbortHandler)
		}}, r)
	})
}

// Drip sends a body n bytes at a time, with a pause after each.
func Drip(s Strike, n int, pause time.Duration) Fault {
	return s.on(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(&writer{ResponseWriter: w, write: func(w http.ResponseWriter, p []byte) (int, error) {
			sent := 0
			for drop := range slices.Chunk(p, n) {
				m, err := w.Write(drop)
				if sent += m; err != nil {
					return sent, err
				}
				flush(w)
				if !waited(r, pause) {
					return sent, r.Context().Err()
				}
			}
			return sent, nil
		}}, r)
	})
}

// waited waits, or is false because the client is gone.
func waited(r *http.Request, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

// Stall sends n bytes of a body and then nothing, until the client is gone.
func Stall(s Strike, n int64) Fault {
	return s.on(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		left := n
		next.ServeHTTP(&writer{ResponseWriter: w, write: func(w http.ResponseWriter, p []byte) (int, error) {
			if int64(len(p)) <= left {
				left -= int64(len(p))
				return w.Write(p)
			}
			struck(r)
			_, _ = w.Write(p[:left])
			flush(w)
			<-r.Context().Done()
			panic(http.ErrAbortHandler)
		}}, r)
	})
}

// Silent takes a request and never answers.
func Silent(s Strike) Fault {
	return s.on(func(_ http.Handler, _ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	})
}

// WrongBytes changes the first byte of a body.
func WrongBytes(s Strike) Fault {
	return s.on(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		first := true
		next.ServeHTTP(&writer{ResponseWriter: w, write: func(w http.ResponseWriter, p []byte) (int, error) {
			if first && len(p) > 0 {
				spoilt(r)
				first, p = false, slices.Concat([]byte{^p[0]}, p[1:])
			}
			return w.Write(p)
		}}, r)
	})
}

// LyingLength says a Content-Length that is more than the body's, which then
// breaks off, or less, and the rest is lost.
func LyingLength(s Strike, more int64) Fault {
	return s.on(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		other(next, w, r, more)
	})
}

// other sends a body of another length than the registry's, and returns how much
// of it is still to come.
func other(next http.Handler, w http.ResponseWriter, r *http.Request, more int64) (left int64) {
	spoilt(r)
	to := &writer{ResponseWriter: w}
	to.header = func(h http.Header, _ int) {
		lengthen(h, more)
		left, _ = strconv.ParseInt(h.Get("Content-Length"), 10, 64) // none: nothing is sent
	}
	to.write = func(w http.ResponseWriter, p []byte) (int, error) {
		n := min(int64(len(p)), left)
		left -= n
		if _, err := w.Write(p[:n]); err != nil {
			return 0, err
		}
		return len(p), nil
	}
	next.ServeHTTP(to, r)
	return left
}

func lengthen(h http.Header, more int64) {
	if n, err := strconv.ParseInt(h.Get("Content-Length"), 10, 64); err == nil {
		h.Set("Content-Length", strconv.FormatInt(max(0, n+more), 10))
	}
}

// OtherLength sends a body that is longer than the content, or shorter, and
// says so.
func OtherLength(s Strike, more int64) Fault {
	return s.on(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		if left := other(next, w, r, more); left > 0 && r.Method != http.MethodHead {
			_, _ = w.Write(make([]byte, left)) // to whoever still listens
		}
	})
}
