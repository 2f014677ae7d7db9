package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	maxAttempts = 5
	firstDelay  = time.Second
	restAfter   = time.Minute // how long a given up upstream gets single attempts
)

// backoff is how long to wait after the n-th attempt.
func backoff(n int) time.Duration {
	d := firstDelay << (min(n, maxAttempts) - 1)
	return d/2 + rand.N(d/2)
}

// throttles reports an answer that says there are too many requests.
func (e *statusError) throttles() bool {
	return e.status == http.StatusTooManyRequests || e.status == http.StatusServiceUnavailable && e.retryAfter > 0
}

// transient reports whether a fault may pass by itself.
func transient(err error) bool {
	if s, ok := errors.AsType[*statusError](err); ok {
		switch s.status {
		case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
			http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return true
		}
		return false
	}
	if _, ok := errors.AsType[*transportError](err); !ok {
		return false
	}
	dns, isDNS := errors.AsType[*net.DNSError](err)
	return !aboutTLS(err) && !(isDNS && dns.IsNotFound)
}

// aboutTLS reports whether the two sides cannot agree on TLS.
func aboutTLS(err error) bool {
	_, verification := errors.AsType[*tls.CertificateVerificationError](err)
	_, record := errors.AsType[tls.RecordHeaderError](err)
	_, alert := errors.AsType[tls.AlertError](err)
	return verification || record || alert || strings.Contains(err.Error(), "remote error: tls:")
}

// withoutTLS reports whether a server answered in HTTP where TLS should begin.
func withoutTLS(err error) bool {
	record, ok := errors.AsType[tls.RecordHeaderError](err)
	return ok && string(record.RecordHeader[:]) == "HTTP/"
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// health is what requests to one upstream tell each other.
type health struct {
	mu   sync.Mutex
	down time.Time // since when it was given up; zero: it is well
}

// attempts is how often a request is tried. An upstream that is down for one
// image is down for the next thousand.
func (h *health) attempts() int {
	if h.isDown() {
		return 1
	}
	return maxAttempts
}

// isDown reports whether the upstream was given up a short time ago.
func (h *health) isDown() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.down.IsZero() && time.Since(h.down) < restAfter
}

func (h *health) well() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down = time.Time{}
}

func (h *health) gaveUp() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down = time.Now()
}
