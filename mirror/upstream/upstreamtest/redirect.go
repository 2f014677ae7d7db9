package upstreamtest

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// RedirectLoop redirects to an address that redirects again.
func RedirectLoop(s Strike) Fault {
	return s.on(func(_ http.Handler, w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Query().Get("hop")) // the first has none
		http.Redirect(w, r, fmt.Sprintf("%s?hop=%d", r.URL.Path, n+1), http.StatusTemporaryRedirect)
	})
}

// Elsewhere is a CDN that has the content of a registry. Each of its addresses
// is good for one request.
type Elsewhere struct {
	Host   string                     // where Handler is served
	Leaked func(authorization string) // hears of credentials that came to it
	mu     sync.Mutex
	given  int
	open   map[string]bool
}

// Redirect sends requests to the CDN.
func (e *Elsewhere) Redirect(s Strike) Fault {
	return s.on(func(_ http.Handler, w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://"+e.Host+e.address(r.URL.Path), http.StatusTemporaryRedirect)
	})
}

// address is a new one each time.
func (e *Elsewhere) address(path string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.open == nil {
		e.open = map[string]bool{}
	}
	e.given++
	prefix := fmt.Sprintf("/edge-%d", e.given)
	e.open[prefix] = true
	return prefix + path + "?signature=" + strconv.Itoa(e.given)
}

// Handler answers what the addresses stand for, from a registry.
func (e *Elsewhere) Handler(registry http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a := r.Header.Get("Authorization"); a != "" {
			e.Leaked(a)
		}
		prefix, rest, ok := strings.Cut(r.URL.Path, "/v2/")
		if !ok || !e.use(prefix) {
			http.Error(w, "the signature has expired", http.StatusForbidden)
			return
		}
		r = r.Clone(r.Context())
		r.URL.Path = "/v2/" + rest
		registry.ServeHTTP(w, r)
	})
}

func (e *Elsewhere) use(prefix string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	ok := e.open[prefix]
	delete(e.open, prefix)
	return ok
}
