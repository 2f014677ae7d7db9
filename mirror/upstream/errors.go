package upstream

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"lastro/mirror/upstream/limit"

	"lastro/mirror"
)

// transportError is a connection that was not made or that broke.
type transportError struct {
	host string
	err  error
}

func (e *transportError) Error() string { return e.host + ": " + e.err.Error() }
func (e *transportError) Unwrap() error { return e.err }

// statusError is an answer other than the one that was asked for.
type statusError struct {
	status     int
	host       string // who answered
	detail     string // what its body says, made plain
	retryAfter time.Duration
	wantsTLS   bool // a TLS server says that it was spoken to in plain HTTP
}

func (e *statusError) Error() string {
	s := fmt.Sprintf("%d %s", e.status, cmp.Or(http.StatusText(e.status), "unknown status"))
	if e.detail != "" {
		s += ": " + e.detail
	}
	return s
}

// Refused reports whether it is the one thing that was asked for that is refused,
// which says nothing of others.
func (e *statusError) Refused() bool {
	return e.status >= 400 && e.status < 500 && e.status != http.StatusTooManyRequests && e.status != http.StatusRequestTimeout
}

// Is makes a 404 a missing file.
func (e *statusError) Is(target error) bool {
	return target == fs.ErrNotExist && e.status == http.StatusNotFound
}

const (
	maxRefusal = 64 << 10
	maxDetail  = 200
)

// refusal reads an answer that was not asked for, and closes it.
func refusal(resp *http.Response, secrets ...string) *statusError {
	defer resp.Body.Close()
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, maxRefusal)) // what came says enough
	return &statusError{
		status: resp.StatusCode, host: resp.Request.URL.Host,
		detail:     plain(masked(resp.Request, detail(resp.Header, raw), secrets)),
		retryAfter: limit.RetryAfter(resp.Header, time.Now()),
		wantsTLS:   resp.StatusCode == http.StatusBadRequest && resp.Request.URL.Scheme == "http" && bytes.Contains(raw, []byte("HTTPS")),
	}
}

// detail is what a body says: the distribution-spec's errors, those of token
// servers, or a line of plain text.
func detail(h http.Header, raw []byte) string {
	type entry struct{ Code, Message string }
	var doc struct {
		Errors  []entry
		Details string
		Message string
		Error   string
	}
	switch err := json.Unmarshal(raw, &doc); {
	case err == nil && len(doc.Errors) > 0:
		e := doc.Errors[0]
		return strings.Trim(e.Code+": "+e.Message, ": ")
	case err == nil:
		return cmp.Or(doc.Details, doc.Message, doc.Error)
	}
	if kind, _, _ := mime.ParseMediaType(h.Get("Content-Type")); kind == "text/plain" {
		return string(raw)
	}
	return ""
}

// masked takes credentials out of a text that a server sends back, and of the
// address that a redirect led to what lets us in there.
func masked(req *http.Request, text string, secrets []string) string {
	_, header, _ := strings.Cut(req.Header.Get("Authorization"), " ")
	_, password, _ := req.BasicAuth()
	secrets = append(secrets, header, password)
	if req.Response != nil {
		secrets = append(secrets, signatures(req.URL)...)
	}
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) }) // one may be in another
	for _, h := range secrets {
		if h != "" {
			text = strings.ReplaceAll(text, h, "…")
		}
	}
	return text
}

// leastSecret is how long what lets somebody in is at least.
const leastSecret = 8

// signatures are the query of an address, and what it may hold of secrets.
func signatures(u *url.URL) []string {
	all := []string{u.RawQuery}
	for _, values := range u.Query() {
		for _, v := range values {
			if len(v) >= leastSecret {
				all = append(all, v, url.QueryEscape(v))
			}
		}
	}
	return all
}

// plain makes one short line of what a server sent.
func plain(text string) string { return mirror.Line(text, maxDetail) }

// notJSON says what came where JSON should be.
func notJSON(resp *http.Response, raw []byte) error {
	if isHTML(resp.Header, raw) {
		return fmt.Errorf("%s sent a web page where JSON should be: a proxy or login page stands before the registry, or the address is not that of a registry", resp.Request.URL.Host)
	}
	return fmt.Errorf("%s sent what is not JSON", resp.Request.URL.Host)
}

func isHTML(h http.Header, raw []byte) bool {
	kind, _, _ := mime.ParseMediaType(h.Get("Content-Type"))
	return kind == "text/html" || kind == "application/xhtml+xml" || bytes.HasPrefix(bytes.TrimSpace(raw), []byte("<"))
}

// explain says who failed at what, and what can be done.
func (r *Registry) explain(c call, err error) error {
	err = fmt.Errorf("%s %s: %s: %w", r.kind, r.host, c, err)
	if hint := r.hint(err); hint != "" {
		err = fmt.Errorf("%w; %s", err, hint)
	}
	return err
}

func (r *Registry) hint(err error) string {
	if r.isMirror {
		return "" // what is said below is of the upstream's settings
	}
	if s, ok := errors.AsType[*statusError](err); ok {
		return r.statusHint(s)
	}
	if _, ok := errors.AsType[*transportError](err); !ok || errors.Is(err, context.Canceled) {
		return ""
	}
	dns, isDNS := errors.AsType[*net.DNSError](err)
	_, isStall := errors.AsType[*stallError](err)
	timeout, isNet := errors.AsType[net.Error](err)
	switch {
	case withoutTLS(err):
		return fmt.Sprintf("the server speaks HTTP without TLS: set upstreams.%s.plain-http: true", r.host)
	case aboutTLS(err):
		return fmt.Sprintf("if the registry has a private CA, set upstreams.%s.ca to its PEM file", r.host)
	case isDNS && dns.IsNotFound:
		return "check the name of the host, and DNS"
	case isStall || isNet && timeout.Timeout():
		return "check the network and the proxy (HTTPS_PROXY)"
	case r.endpoint.Scheme == "http" && strings.Contains(err.Error(), "malformed HTTP"):
		return fmt.Sprintf("the server may want TLS: remove upstreams.%s.plain-http", r.host)
	}
	return ""
}

func (r *Registry) statusHint(s *statusError) string {
	switch s.status {
	case http.StatusUnauthorized, http.StatusForbidden:
		if !r.accounts.known() {
			return fmt.Sprintf("no credentials were sent: do docker login, or set upstreams.%s.credentials (some registries answer this for images that do not exist)", r.host)
		}
		return fmt.Sprintf("check the name of the image, and the credentials: docker login, or upstreams.%s.credentials", r.host)
	case http.StatusNotFound:
		return "check the name and the tag of the image"
	case http.StatusTooManyRequests:
		return "the upstream limits requests: " + later(s) + " (limits are often higher with credentials)"
	case http.StatusBadRequest:
		if s.wantsTLS {
			return fmt.Sprintf("the server wants TLS: remove upstreams.%s.plain-http", r.host)
		}
	case http.StatusPreconditionFailed:
		return "a policy of the upstream blocks this image"
	}
	if s.status >= 500 {
		return "the upstream has a fault: " + later(s)
	}
	return ""
}

func later(s *statusError) string {
	if s.retryAfter > 0 {
		return "try again in " + s.retryAfter.Round(time.Second).String()
	}
	return "try again later"
}
