package access

import (
	"encoding/base64"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"lastro/store/serve/access/certs"
	"lastro/store/serve/access/htpasswd"
	"lastro/store/serve/access/token"
)

// identity is who somebody is. The zero value is nobody.
type identity struct {
	user   string
	claims *token.Claims // of the issuer's token
	ours   bool          // a token of ours, perhaps for nobody
}

// errUnreadable says that a header is of no form that we know.
var errUnreadable = errors.New("the Authorization header is of no form that this registry takes")

// credentials are what an Authorization header has.
type credentials struct {
	basic          bool
	name, password string
	token          string
}

// read takes a header apart; it is never told in an error.
func read(header string) (credentials, error) {
	scheme, rest, _ := strings.Cut(header, " ")
	rest = strings.TrimSpace(rest)
	switch {
	case rest == "":
	case strings.EqualFold(scheme, "Basic"):
		text, err := base64.StdEncoding.DecodeString(rest)
		if name, password, ok := strings.Cut(string(text), ":"); err == nil && ok {
			return credentials{basic: true, name: name, password: password}, nil
		}
	case strings.EqualFold(scheme, "Bearer"):
		return credentials{token: rest}, nil
	}
	return credentials{}, errUnreadable
}

// who is who sent a request, or why that is not believed.
func (g *Guard) who(s *state, r *http.Request) (identity, error) {
	headers := r.Header["Authorization"]
	if len(headers) == 0 {
		name, _ := certs.User(r.TLS)
		return identity{user: name}, nil
	}
	if len(headers) > 1 {
		return identity{}, errUnreadable
	}
	c, err := read(headers[0])
	switch {
	case err != nil:
		return identity{}, err
	case c.basic && c.name == "" && c.password == "":
		return identity{}, nil // what some clients send for nobody
	case c.basic:
		return g.login(s, r, c)
	case s.issuer != nil:
		claims, err := s.issuer.Verify(r.Context(), c.token)
		if err != nil {
			return identity{}, err
		}
		return identity{user: claims.User, claims: claims}, nil
	}
	return s.owner(r, c.token)
}

// owner is who a token of ours is of. Of nobody's token the certificate may
// still say more.
func (s *state) owner(r *http.Request, raw string) (identity, error) {
	if s.users == nil {
		return identity{}, token.ErrInvalid
	}
	name, ok := s.users.Owner(raw)
	if !ok {
		return identity{}, token.ErrInvalid
	}
	if name == "" {
		name, _ = certs.User(r.TLS)
	}
	return identity{user: name, ours: true}, nil
}

func (g *Guard) login(s *state, r *http.Request, c credentials) (identity, error) {
	if s.users == nil {
		return identity{}, htpasswd.ErrWrong
	}
	addr := address(r)
	err := s.users.Check(r.Context(), addr, c.name, c.password)
	if errors.Is(err, htpasswd.ErrWrong) {
		g.logFailed(addr, c.name)
	}
	if err != nil {
		return identity{}, err
	}
	return identity{user: c.name}, nil
}

// address is where a request comes from; what has none comes from one place.
func address(r *http.Request) netip.Addr {
	at, _ := netip.ParseAddrPort(r.RemoteAddr) // else the zero address
	return at.Addr()
}

// logFailed logs some of many.
func (g *Guard) logFailed(addr netip.Addr, name string) {
	if !g.lines.AllowN(g.o.Now(), 1) {
		g.unsaid.Add(1)
		return
	}
	args := []any{slog.String("address", addr.String()), slog.String("user", shown(name))}
	if n := g.unsaid.Swap(0); n > 0 {
		args = append(args, slog.Int64("unsaid", n))
	}
	g.o.Log.Warn("login failed", args...)
}

const maxShown = 64

// shown is a name without what a log or a terminal would not take as text.
func shown(name string) string {
	if len(name) > maxShown {
		name = name[:maxShown] + "…"
	}
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, name)
}
