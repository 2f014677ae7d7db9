package access

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"lastro/store/serve/access/htpasswd"
	"lastro/store/serve/access/token"
	"lastro/store/serve/spec"
)

// realm of Basic: what a browser would show.
const realm = "lastro"

func denied(repo string, a spec.Action) *spec.Refusal {
	message := fmt.Sprintf("you may not %s %q", verb(a), repo)
	return &spec.Refusal{Status: http.StatusForbidden, Code: spec.Denied, Message: message}
}

func verb(a spec.Action) string {
	switch a {
	case spec.Push:
		return "push to"
	case spec.Delete:
		return "delete from"
	}
	return "pull from"
}

// unproven refuses one who is not believed.
func (g *Guard) unproven(s *state, r *http.Request, a spec.Action, err error) *spec.Refusal {
	if later, ok := errors.AsType[*htpasswd.LaterError](err); ok {
		g.outcomes.throttled.Add(1)
		return wait(later)
	}
	g.outcomes.failed.Add(1)
	q, _ := spec.Parse(r.URL.Path)
	fault := ""
	if errors.Is(err, token.ErrInvalid) {
		fault = "invalid_token"
	}
	refusal := s.challenge(r, q, a, fault)
	refusal.Message = err.Error()
	return refusal
}

func wait(later *htpasswd.LaterError) *spec.Refusal {
	r := &spec.Refusal{Status: http.StatusTooManyRequests, Code: spec.TooManyRequests, Message: "too many failed logins: try again later"}
	if later.Busy {
		r = &spec.Refusal{Status: http.StatusServiceUnavailable, Code: spec.Unavailable, Message: "too many logins at once: try again later"}
	}
	seconds := max(1, int(math.Ceil(later.After.Seconds())))
	r.Header = http.Header{"Retry-After": {strconv.Itoa(seconds)}}
	return r
}

// challenge is a 401 that says how to log in for a request.
func (s *state) challenge(r *http.Request, q spec.Request, a spec.Action, fault string) *spec.Refusal {
	var how []string
	switch {
	case s.issuer != nil:
		i := s.issuer.Settings()
		how = append(how, bearer(i.Realm, i.Service, scope(r, q, a), fault))
	case s.users != nil && s.anonymous:
		how = append(how, bearer(ownRealm(r), realm, scope(r, q, a), fault))
	}
	if len(how) == 0 || s.issuer != nil && s.users != nil {
		how = append(how, fmt.Sprintf("Basic realm=%q", realm))
	}
	return &spec.Refusal{
		Status: http.StatusUnauthorized, Code: spec.Unauthorized, Message: "log in to do this",
		Header: http.Header{"Www-Authenticate": how},
	}
}

func bearer(realm, service, scope, fault string) string {
	text := fmt.Sprintf("Bearer realm=%q,service=%q", realm, service)
	if scope != "" {
		text += fmt.Sprintf(",scope=%q", scope)
	}
	if fault != "" {
		text += fmt.Sprintf(",error=%q", fault)
	}
	return text
}

// scope is what a request needs, with names as the client gives them.
func scope(r *http.Request, q spec.Request, a spec.Action) string {
	switch {
	case q.Kind == spec.Catalog:
		return "registry:catalog:*"
	case q.Repo == "" || q.Check() != nil:
		return ""
	}
	need := "repository:" + q.Repo + ":" + string(a)
	if a != spec.Push {
		return need
	}
	need = "repository:" + q.Repo + ":pull,push"
	from := spec.Request{Kind: spec.Blobs, Repo: r.URL.Query().Get("from")}
	if q.Kind == spec.Uploads && from.Repo != "" && from.Repo != q.Repo && from.Check() == nil {
		need += " repository:" + from.Repo + ":pull"
	}
	return need
}

var hostText = regexp.MustCompile(`^(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?$`)

// ownRealm is TokenPath at the address that the client used. It tells only the
// client itself what it said.
func ownRealm(r *http.Request) string {
	scheme := "http"
	if r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https") {
		scheme = "https"
	}
	host := r.Host
	if !hostText.MatchString(host) {
		host = "localhost"
	}
	return scheme + "://" + host + TokenPath
}

// ownTTL is how long a token of ours lasts.
const ownTTL = 5 * time.Minute
