package access

import (
	"encoding/json"
	"net/http"

	"lastro/store/serve/spec"
)

// TokenPath is where clients get our own tokens.
const TokenPath = "/token"

// Handler answers at TokenPath, and leaves all other paths to next.
func (g *Guard) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != TokenPath {
			next.ServeHTTP(w, r)
			return
		}
		if refusal := g.token(w, r); refusal != nil {
			refusal.Write(w)
		}
	})
}

// token gives a user a token for a password, and nobody one for nothing.
func (g *Guard) token(w http.ResponseWriter, r *http.Request) *spec.Refusal {
	s := g.state.Load()
	switch {
	case s == nil || s.users == nil || s.issuer != nil || !s.anonymous:
		return &spec.Refusal{Status: http.StatusNotFound, Code: spec.Unsupported, Message: "no tokens are given here"}
	case r.Method != http.MethodGet:
		// After this clients that would rather POST come with GET.
		return &spec.Refusal{Status: http.StatusMethodNotAllowed, Code: spec.Unsupported, Message: "tokens are given for GET", Header: http.Header{"Allow": {"GET"}}}
	}
	who, err := g.who(s, r)
	if err == nil && who.ours {
		err = errUnreadable // a token is not for making another: it would never end
	}
	if err != nil {
		refusal := g.unproven(s, r, spec.Pull, err)
		if refusal.Status == http.StatusUnauthorized {
			refusal.Header = http.Header{"Www-Authenticate": {`Basic realm="` + realm + `"`}}
		}
		return refusal
	}
	g.outcomes.ok.Add(1)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	text := s.users.Token(who.user, ownTTL)
	_ = json.NewEncoder(w).Encode(map[string]any{ // an error is the client's, who has gone
		"token": text, "access_token": text, "expires_in": int(ownTTL.Seconds()), "issued_at": g.o.Now().UTC(),
	})
	return nil
}
