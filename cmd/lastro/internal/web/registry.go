package web

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Instrument counts the requests that next answers.
func (s *Server) Instrument(next http.Handler) http.Handler {
	m := s.metrics
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began, kind, method := s.o.Now(), kindOf(r.URL.Path), methodOf(r.Method)
		m.inFlight.WithLabelValues(kind).Inc()
		s.answers.Add(1)
		answer := &answer{ResponseWriter: w, request: r}
		defer func() {
			s.answers.Add(-1)
			m.inFlight.WithLabelValues(kind).Dec()
			m.requests.WithLabelValues(method, kind, answer.label()).Inc()
			m.took.WithLabelValues(method, kind).Observe(s.o.Now().Sub(began).Seconds())
			if r.Method != http.MethodHead { // what a handler writes to one is not sent
				m.sent.WithLabelValues(kind).Add(float64(answer.bytes))
			}
		}()
		next.ServeHTTP(answer, r)
		answer.returned = true
	})
}

// Busy reports whether clients of the registry are being answered.
func (s *Server) Busy() bool { return s.answers.Load() > 0 }

// answer notes what a handler answers. It stays out of the way of what the
// writer below can do: hand a file to the kernel, flush, and the rest by Unwrap.
type answer struct {
	http.ResponseWriter
	request  *http.Request
	code     int // zero: none was said
	bytes    int64
	broken   bool // not all of it could be written
	returned bool // the handler did, and did not panic
}

// WriteHeader notes the code, unless it is only for information.
func (a *answer) WriteHeader(code int) {
	if a.code == 0 && (code >= 200 || code == http.StatusSwitchingProtocols) {
		a.code = code
	}
	a.ResponseWriter.WriteHeader(code)
}

func (a *answer) Write(p []byte) (int, error) {
	a.begin()
	n, err := a.ResponseWriter.Write(p)
	a.note(int64(n), err)
	return n, err
}

// ReadFrom lets the server send a file without copying it through us.
func (a *answer) ReadFrom(r io.Reader) (int64, error) {
	a.begin()
	n, err := io.Copy(a.ResponseWriter, r)
	a.note(n, err)
	return n, err
}

func (a *answer) note(n int64, err error) {
	a.bytes += n
	a.broken = a.broken || err != nil && !errors.Is(err, http.ErrBodyNotAllowed)
}

// Flush sends what was written so far.
func (a *answer) Flush() {
	a.begin()
	_ = http.NewResponseController(a.ResponseWriter).Flush() // http.Flusher has no word for it
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *answer) begin() {
	if a.code == 0 {
		a.code = http.StatusOK
	}
}

// label is the code in a metric: a number that HTTP knows, "other", or
// "aborted" when a panic or a client that left broke the answer off.
func (a *answer) label() string {
	switch {
	case !a.returned || a.broken || a.code == 0 && a.request.Context().Err() != nil:
		return "aborted"
	case a.code == 0:
		return strconv.Itoa(http.StatusOK)
	case http.StatusText(a.code) == "":
		return other
	}
	return strconv.Itoa(a.code)
}

func methodOf(method string) string {
	known := []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions}
	if slices.Contains(known, method) {
		return method
	}
	return other
}

// kindOf says what a request is about. Names of repositories may hold any of
// the words that matter, so the path is read from its end.
func kindOf(path string) string {
	rest, ok := strings.CutPrefix(path, "/v2/")
	switch {
	case path == "/v2" || ok && strings.Trim(rest, "/") == "":
		return "base"
	case !ok:
		return other
	case rest == "_catalog":
		return "catalog"
	}
	return kindInRepository(strings.Split(rest, "/"))
}

func kindInRepository(parts []string) string {
	n := len(parts)
	if n < 3 {
		return other
	}
	switch last, before := parts[n-1], parts[n-2]; {
	case before == "tags" && last == "list":
		return "tags"
	case before == "blobs" && last == "uploads", n > 3 && parts[n-3] == "blobs" && before == "uploads":
		return "upload"
	case before == "manifests":
		return "manifest"
	case before == "blobs":
		return "blob"
	case before == "referrers":
		return "referrers"
	}
	return other
}
