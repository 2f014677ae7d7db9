package access

import (
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"lastro/store/serve"
	"lastro/store/serve/access/htpasswd"
	"lastro/store/serve/access/token"
	"lastro/store/serve/spec"
)

var _ serve.Access = (*Guard)(nil)

// Options are what a Guard needs.
type Options struct {
	Log *slog.Logger     // nil: nothing is logged
	Now func() time.Time // nil: time.Now
	// Compare is bcrypt.CompareHashAndPassword. Without it there is no htpasswd.
	Compare func(hash, password []byte) error
}

// Guard decides what clients may do. It may be used from many goroutines.
type Guard struct {
	o        Options
	state    atomic.Pointer[state]
	outcomes outcomes
	lines    *rate.Limiter // of failed logins
	unsaid   atomic.Int64
}

// state follows from settings; nil: there is no auth.
type state struct {
	rules
	users  *htpasswd.Checker // nil: there are none
	issuer *token.Verifier   // nil: there is none
}

// New is a guard by settings that Validate found right. The files must be right
// as well.
func New(s Settings, o Options) (*Guard, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	g := &Guard{o: o, lines: rate.NewLimiter(2, 20)}
	return g, g.Reload(s)
}

// Reload takes other settings, and has files looked at that are the same.
// After an error nothing has changed. What was proven, and who failed, is kept
// where the file is the same.
func (g *Guard) Reload(s Settings) error {
	if s.Auth == nil {
		g.state.Store(nil)
		return nil
	}
	was := g.state.Load()
	if was == nil {
		was = &state{}
	}
	is := &state{}
	var err error
	if is.rules, err = compileRules(s.Auth); err != nil {
		return fmt.Errorf("auth: %w", err)
	}
	if is.users, err = g.openUsers(s.Auth.Htpasswd, was.users); err != nil {
		return fmt.Errorf("auth.htpasswd: %w", err)
	}
	if is.issuer, err = g.openIssuer(s.Auth.Token, was.issuer); err != nil {
		return fmt.Errorf("auth.token.jwks: %w", err)
	}
	g.state.Store(is)
	return nil
}

func (g *Guard) openUsers(path string, was *htpasswd.Checker) (*htpasswd.Checker, error) {
	switch {
	case path == "":
		return nil, nil
	case was != nil && was.Path() == path:
		was.Reload()
		return was, nil
	case g.o.Compare == nil:
		return nil, fmt.Errorf("nothing here compares passwords")
	}
	return htpasswd.Open(path, htpasswd.Options{Log: g.o.Log, Now: g.o.Now, Compare: g.o.Compare})
}

func (g *Guard) openIssuer(s *token.Settings, was *token.Verifier) (*token.Verifier, error) {
	switch {
	case s == nil:
		return nil, nil
	case was != nil && was.Settings() == *s:
		return was, nil
	}
	return token.Open(*s, g.o.Log, g.o.Now)
}

// Allow is nil or a *[spec.Refusal]: 401 with what to log in with, 403 for a
// user who may not, 429 for who failed too often. repo is the local repository,
// empty for the version check and the catalog.
func (g *Guard) Allow(r *http.Request, repo string, a spec.Action) error {
	s := g.state.Load()
	if s == nil {
		return nil
	}
	who, err := g.who(s, r)
	if err != nil {
		return g.unproven(s, r, a, err)
	}
	q, _ := spec.Parse(r.URL.Path)
	switch {
	case s.may(who, q, repo, a):
		g.outcomes.ok.Add(1)
		return nil
	case who.user != "" && who.claims == nil:
		g.outcomes.denied.Add(1)
		return denied(repo, a)
	case who.claims != nil:
		g.outcomes.denied.Add(1)
		return s.challenge(r, q, a, "insufficient_scope")
	}
	g.outcomes.asked.Add(1)
	return s.challenge(r, q, a, "")
}

// may decides about one who is known.
func (s *state) may(who identity, q spec.Request, repo string, a spec.Action) bool {
	switch {
	case q.Kind == spec.Base && who.user == "" && who.claims == nil && !who.ours:
		// Here clients learn how to log in; those who need not get a token
		// for nothing. Without a way to log in nobody is asked to.
		return s.anonymous && s.users == nil && s.issuer == nil
	case who.claims == nil:
		return s.allow(who.user, repo, a)
	case q.Kind == spec.Base:
		return true
	case q.Kind == spec.Catalog:
		return who.claims.Catalog() || s.allow("", "", a)
	}
	return who.claims.Allows(q.Repo, string(a)) || s.allow("", repo, a)
}

// Visible reports whether a client may pull a repository that it does not name
// in its path: whether the catalog shows it, and whether a push may mount from
// it.
func (g *Guard) Visible(r *http.Request, repo string) bool {
	s := g.state.Load()
	if s == nil {
		return true
	}
	who, err := g.who(s, r)
	if err != nil {
		return false
	}
	if who.claims != nil && (who.claims.Allows(repo, string(spec.Pull)) || who.claims.Catalog() && isCatalog(r)) {
		return true
	}
	if who.claims != nil {
		return s.allow("", repo, spec.Pull)
	}
	return s.allow(who.user, repo, spec.Pull)
}

func isCatalog(r *http.Request) bool {
	q, _ := spec.Parse(r.URL.Path)
	return q.Kind == spec.Catalog
}

// User is who a client proved to be, or "" for nobody, of a request that was
// allowed.
func (g *Guard) User(r *http.Request) string {
	s := g.state.Load()
	if s == nil {
		return ""
	}
	who, err := g.who(s, r)
	if err != nil {
		return ""
	}
	return who.user
}
