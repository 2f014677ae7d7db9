package upstreamtest

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// refuse answers an error in the distribution-spec's form.
func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"errors":[{"code":%q,"message":%q}]}`, code, message) // to whoever still listens
}

// Says is what an answer's header says besides.
type Says func(http.Header)

// RetryAfterSeconds says when to come back in seconds.
func RetryAfterSeconds(d time.Duration) Says {
	return func(h http.Header) { h.Set("Retry-After", strconv.Itoa(int(d.Seconds()))) }
}

// RetryAfterDate says when to come back as a date.
func RetryAfterDate(d time.Duration) Says {
	return func(h http.Header) { h.Set("Retry-After", time.Now().Add(d).UTC().Format(http.TimeFormat)) }
}

// RateLimit says how many pulls there are in a window, and how many are left,
// as Docker Hub does.
func RateLimit(limit, remaining int, window time.Duration) Says {
	return func(h http.Header) {
		h.Set("ratelimit-limit", fmt.Sprintf("%d;w=%d", limit, int(window.Seconds())))
		h.Set("ratelimit-remaining", fmt.Sprintf("%d;w=%d", remaining, int(window.Seconds())))
	}
}

// TooMany answers 429.
func TooMany(s Strike, says ...Says) Fault {
	return s.on(func(_ http.Handler, w http.ResponseWriter, _ *http.Request) {
		for _, say := range says {
			say(w.Header())
		}
		refuse(w, http.StatusTooManyRequests, "TOOMANYREQUESTS", "You have reached your pull rate limit")
	})
}

// Unavailable answers 503.
func Unavailable(s Strike) Fault {
	return s.on(func(_ http.Handler, w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "upstream connect error", http.StatusServiceUnavailable)
	})
}

// Vanishing answers 404.
func Vanishing(s Strike) Fault {
	return s.on(func(_ http.Handler, w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusNotFound, "BLOB_UNKNOWN", "unknown to the registry")
	})
}

// HTMLPage answers a login page.
func HTMLPage(s Strike) Fault {
	return s.on(func(_ http.Handler, w http.ResponseWriter, r *http.Request) {
		spoilt(r)
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, "<!doctype html><title>Hotel Wi-Fi</title><form>Room number <input></form>")
	})
}
