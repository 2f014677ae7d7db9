package catalog

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"time"

	"lastro/mirror"
)

// statusError is an answer other than a list.
type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return e.text }

// Is makes a 404 a missing file.
func (e *statusError) Is(target error) bool {
	return target == fs.ErrNotExist && e.status == http.StatusNotFound
}

// notLetIn reports whether credentials were refused, and not limited.
func notLetIn(err error) bool {
	s, ok := errors.AsType[*statusError](err)
	_, later := errors.AsType[*mirror.ThrottledError](err)
	return ok && !later && (s.status == http.StatusUnauthorized || s.status == http.StatusForbidden)
}

// refusal is what an answer other than a list means.
func (r *reader) refusal(resp *http.Response, raw []byte) error {
	_, token, _ := strings.Cut(r.header.Get("Authorization"), " ")
	err := refused(resp, said(raw, token))
	if limited(resp) {
		return &mirror.ThrottledError{Host: r.Host, Until: until(resp.Header, time.Now()), Err: err}
	}
	switch resp.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%w: %s", err, r.denied)
	case http.StatusNotFound:
		return fmt.Errorf("%w: check the namespace, and that the credentials may see it", err)
	}
	return err
}

func refused(resp *http.Response, detail string) error {
	text := fmt.Sprintf("%s: %d %s", resp.Request.URL.Host, resp.StatusCode, cmp.Or(http.StatusText(resp.StatusCode), "unknown status"))
	if detail != "" {
		text += ": " + detail
	}
	return &statusError{resp.StatusCode, text}
}

// limited reports whether an answer asks for a pause. GitHub says so with 403.
func limited(resp *http.Response) bool {
	h := resp.Header
	return resp.StatusCode == http.StatusTooManyRequests ||
		resp.StatusCode == http.StatusForbidden && (h.Get("Retry-After") != "" || h.Get("X-Ratelimit-Remaining") == "0")
}

const (
	defaultPause = time.Minute
	maxPause     = 24 * time.Hour
)

// until is when an upstream wants to be asked again.
func until(h http.Header, now time.Time) time.Time {
	for _, name := range []string{"Retry-After", "X-Retry-After", "X-Ratelimit-Reset"} {
		if at, ok := moment(h.Get(name), now); ok && at.After(now) {
			return now.Add(min(at.Sub(now), maxPause))
		}
	}
	return now.Add(defaultPause)
}

// moment reads seconds from now on, seconds since 1970, which Docker Hub sends in
// the same place, or a date.
func moment(text string, now time.Time) (time.Time, bool) {
	const epoch = 1_000_000_000 // no server asks for a pause of thirty years
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	switch {
	case err != nil:
		at, err := http.ParseTime(text)
		return at, err == nil
	case n >= epoch:
		return time.Unix(min(n, now.Add(maxPause).Unix()), 0), true
	}
	return now.Add(time.Duration(n) * time.Second), true
}
