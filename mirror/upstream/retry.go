package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	maxAttempts   = 5
	firstDelay    = time.Second
	maxRetryAfter = 2 * time.Minute // whoever asks for more gets a later run
	restAfter     = time.Minute     // how long a given up upstream gets single attempts
)

// delay is how long to wait before a request is tried again, if it makes sense.
func delay(attempt int, err error) (time.Duration, bool) {
	if !transient(err) {
		return 0, false
	}
	backoff := firstDelay << (attempt - 1)
	backoff = backoff/2 + rand.N(backoff/2)
	if s, ok := errors.AsType[*statusError](err); ok && s.retryAfter > 0 {
		return max(s.retryAfter, backoff), s.retryAfter <= maxRetryAfter
	}
	return backoff, true
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

// retryAfter reads the header of that name: seconds, or a date, which the
// server means by its own clock.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if n, err := strconv.ParseUint(text, 10, 64); err == nil {
		return time.Duration(min(n, uint64(365*24*3600))) * time.Second
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return max(0, at.Sub(now))
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
	mu      sync.Mutex
	down    time.Time // since when it was given up; zero: it is well
	blocked time.Time // until when the upstream asked for silence
}

// attempts is how often a request is tried. An upstream that is down for one
// image is down for the next thousand.
func (h *health) attempts() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.down.IsZero() && time.Since(h.down) < restAfter {
		return 1
	}
	return maxAttempts
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

// pause makes all requests wait when the upstream asked one of them to.
func (h *health) pause(d time.Duration, err error) {
	s, ok := errors.AsType[*statusError](err)
	if !ok || s.retryAfter == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if until := time.Now().Add(d); until.After(h.blocked) {
		h.blocked = until
	}
}

func (h *health) wait(ctx context.Context) error {
	h.mu.Lock()
	d := time.Until(h.blocked)
	h.mu.Unlock()
	if d <= 0 {
		return nil
	}
	return sleep(ctx, d)
}
