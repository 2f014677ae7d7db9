package upstreamtest

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

// ExpiringTokens lets in whoever shows a token that is younger than life. The
// token server, at /token of the same host, says that they live for an hour.
func ExpiringTokens(life time.Duration) Fault {
	return func(next http.Handler) http.Handler {
		g := &gate{next: next, life: life, given: map[string]time.Time{}}
		return g
	}
}

// gate is a registry behind tokens.
type gate struct {
	next http.Handler
	life time.Duration

	mu    sync.Mutex
	given map[string]time.Time
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	switch {
	case r.URL.Path == "/token":
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"token":%q,"expires_in":3600}`, g.give()) // to whoever still listens
	case g.alive(token):
		g.next.ServeHTTP(w, r)
	default:
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="registry"`, r.Host))
		refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
	}
}

func (g *gate) give() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	token := fmt.Sprintf("token-%d", len(g.given)+1)
	g.given[token] = time.Now()
	return token
}

func (g *gate) alive(token string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	at, ok := g.given[token]
	return ok && time.Since(at) < g.life
}
