package push

import (
	"errors"
	"net/http"
	"runtime/debug"

	"lastro/store/serve/spec"
)

// recovering turns a panic of a request into a 500, or, when the answer has
// begun, into a broken connection: a client must not take half for the whole.
func (h *handler) recovering(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := &begun{ResponseWriter: w}
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(http.ErrAbortHandler)
			}
			h.log.Error("a request panicked", "method", r.Method, "path", r.URL.Path, "err", p, "stack", string(debug.Stack()))
			if answer.yes {
				panic(http.ErrAbortHandler)
			}
			(&spec.Refusal{Status: http.StatusInternalServerError, Code: spec.Unknown, Message: "internal error"}).Write(w)
		}()
		next.ServeHTTP(answer, r)
	})
}

// begun notes whether an answer has begun.
type begun struct {
	http.ResponseWriter
	yes bool
}

// WriteHeader begins the answer. distribution does so twice when a client breaks
// off; the first is the answer.
func (b *begun) WriteHeader(status int) {
	if b.yes {
		return
	}
	b.yes = true
	b.ResponseWriter.WriteHeader(status)
}

// Write begins the answer when nothing has.
func (b *begun) Write(p []byte) (int, error) {
	b.yes = true
	return b.ResponseWriter.Write(p)
}

// Unwrap lets an http.ResponseController reach the connection.
func (b *begun) Unwrap() http.ResponseWriter { return b.ResponseWriter }
