package upstreamtest

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"

	"github.com/opencontainers/go-digest"

	"lastro/mirror/sample"
)

// Tally counts requests, and the bytes of each digest that went out. The zero
// value is ready.
type Tally struct {
	mu       sync.Mutex
	requests sample.Requests
	sent     map[digest.Digest]*Sent
}

// Sent is what went out of one blob or manifest, refusals not counted.
type Sent struct {
	Bytes  int64 // all, over all answers
	Cuts   int   // answers that did not come to their end
	Spoilt int   // answers after which the content has to be fetched from its start
}

// exchange is one request in the eyes of the faults in front of the registry.
type exchange struct{ cut, spoilt bool }

type exchangeKey struct{}

// struck notes that an answer will not come to its end.
func struck(r *http.Request) {
	if ex, ok := r.Context().Value(exchangeKey{}).(*exchange); ok {
		ex.cut = true
	}
}

// spoilt notes that what came before an answer is worth nothing after it.
func spoilt(r *http.Request) {
	if ex, ok := r.Context().Value(exchangeKey{}).(*exchange); ok {
		ex.spoilt = true
	}
}

// Count counts what comes to h. It belongs in front of the faults.
func (t *Tally) Count(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ex, answer, finished := &exchange{}, &answer{ResponseWriter: w}, false
		defer func() {
			ex.cut = ex.cut || !finished || r.Context().Err() != nil && !answer.whole()
			t.note(r, answer.bytes, *ex)
		}()
		h.ServeHTTP(answer, r.WithContext(context.WithValue(r.Context(), exchangeKey{}, ex)))
		finished = true
	})
}

// answer counts what goes out of content.
type answer struct {
	http.ResponseWriter
	refusal bool
	bytes   int64
}

func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *answer) WriteHeader(status int) {
	a.refusal = status != http.StatusOK && status != http.StatusPartialContent
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(p []byte) (int, error) {
	n, err := a.ResponseWriter.Write(p)
	if !a.refusal {
		a.bytes += int64(n)
	}
	return n, err
}

// whole reports whether a client that has left had all of the answer before:
// it may hang up at the last byte, while the handler is still to return.
func (a *answer) whole() bool {
	length, err := strconv.ParseInt(a.Header().Get("Content-Length"), 10, 64)
	return err == nil && a.bytes == length && http.NewResponseController(a.ResponseWriter).Flush() == nil
}

func (t *Tally) note(r *http.Request, bytes int64, ex exchange) {
	of := sample.RequestOf(r)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.requests = append(t.requests, of)
	d := digest.Digest(of.Name)
	if of.Kind != sample.KindBlob && of.Kind != sample.KindManifest || d.Validate() != nil || r.Method != http.MethodGet {
		return
	}
	if t.sent == nil {
		t.sent = map[digest.Digest]*Sent{}
	}
	s := t.sent[d]
	if s == nil {
		s = &Sent{}
		t.sent[d] = s
	}
	s.Bytes += bytes
	if ex.cut {
		s.Cuts++
	}
	if ex.spoilt {
		s.Spoilt++
	}
}

// Requests are all that came, and have been answered.
func (t *Tally) Requests() sample.Requests {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.requests)
}

// Digests are all of which something was asked for, in order.
func (t *Tally) Digests() []digest.Digest {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Sorted(maps.Keys(t.sent))
}

// Sent is what went out of a digest.
func (t *Tally) Sent(d digest.Digest) Sent {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.sent[d]; s != nil {
		return *s
	}
	return Sent{}
}

// Forget begins anew.
func (t *Tally) Forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.requests, t.sent = nil, nil
}
