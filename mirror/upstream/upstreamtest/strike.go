package upstreamtest

import (
	"hash/fnv"
	"net/http"
	"strconv"
	"sync"

	"lastro/mirror/sample"
)

// Fault puts something that goes wrong in front of a registry.
type Fault func(http.Handler) http.Handler

// With puts faults in front of a registry; the first is met first.
func With(registry http.Handler, faults ...Fault) http.Handler {
	for i := range faults {
		registry = faults[len(faults)-1-i](registry)
	}
	return registry
}

// Strike says which requests a fault strikes. The zero value: every one.
type Strike struct {
	Method string      // "": any
	Kind   sample.Kind // "": any
	Name   string      // tag or digest; "": any
	When   When        // nil: always
}

// Blobs are all GETs of blobs.
func Blobs(when When) Strike {
	return Strike{Method: http.MethodGet, Kind: sample.KindBlob, When: when}
}

// Manifests are all GETs of manifests.
func Manifests(when When) Strike {
	return Strike{Method: http.MethodGet, Kind: sample.KindManifest, When: when}
}

// Heads are all HEADs of manifests.
func Heads(when When) Strike {
	return Strike{Method: http.MethodHead, Kind: sample.KindManifest, When: when}
}

// When decides about the n-th request, from 1 on, of one method and path.
type When func(request string, n int) bool

// First are the first k.
func First(k int) When { return func(_ string, n int) bool { return n <= k } }

// From is the k-th and all that come later.
func From(k int) When { return func(_ string, n int) bool { return n >= k } }

// Only is the k-th.
func Only(k int) When { return func(_ string, n int) bool { return n == k } }

// Every is one of so many.
func Every(k int) When { return func(_ string, n int) bool { return n%k == 0 } }

// Chance strikes so many of a hundred requests, the same ones for the same seed.
func Chance(seed uint64, percent int) When {
	return func(request string, n int) bool {
		return draw(seed, request, n)%100 < uint64(percent)
	}
}

// draw is a number that depends on all it is given.
func draw(seed uint64, request string, n int) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(strconv.AppendUint(nil, seed, 36))
	_, _ = h.Write([]byte(request))
	_, _ = h.Write(strconv.AppendInt([]byte("#"), int64(n), 10))
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	return x ^ x>>33
}

// on makes a fault of what happens to a request that is struck.
func (s Strike) on(struck func(next http.Handler, w http.ResponseWriter, r *http.Request)) Fault {
	return func(next http.Handler) http.Handler {
		var c counter
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if s.strikes(r, &c) {
				struck(next, w, r)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

func (s Strike) strikes(r *http.Request, c *counter) bool {
	of := sample.RequestOf(r)
	if s.Method != "" && s.Method != r.Method || s.Kind != "" && s.Kind != of.Kind || s.Name != "" && s.Name != of.Name {
		return false
	}
	request := r.Method + " " + r.URL.Path
	n := c.next(request)
	return s.When == nil || s.When(request, n)
}

// counter counts what is the same. The zero value is ready.
type counter struct {
	mu   sync.Mutex
	seen map[string]int
}

func (c *counter) next(what string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == nil {
		c.seen = map[string]int{}
	}
	c.seen[what]++
	return c.seen[what]
}
