package ecr

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

// Logins gets logins and remembers them. The zero value is ready. It may be used
// from many goroutines, and must not be copied.
type Logins struct {
	Log       *slog.Logger      // nil: nothing is logged
	Transport http.RoundTripper // sends the requests; nil: a client of the AWS SDK. For tests.

	mu    sync.Mutex
	known map[key]*login
}

// key is what makes two logins the same.
type key struct {
	host string // as in image names
	Registry
	Settings
}

// login is one login. Whoever holds turn reads and writes the rest; waiting for
// it is the single flight.
type login struct {
	turn chan struct{}
	credential
	renew time.Time // from when on another one is asked for
	err   error     // what came of the last request
	quiet time.Time // until when AWS is not asked again after err
}

// credential is what AWS gives.
type credential struct {
	username, password string
	expires            time.Time
}

const (
	loginTimeout = time.Minute
	renewTimeout = 10 * time.Second // while the old login still lets us in
	errorLife    = 30 * time.Second
)

// Login is the name and password for a host of ECR, and until when they hold.
// The error is [ErrNoCredentials] when AWS does not know us, as who may then
// read the public registry anonymously, a [mirror.ThrottledError] when it wants
// to be asked later, or says which permission is missing.
func (l *Logins) Login(ctx context.Context, host string, s Settings) (username, password string, expires time.Time, err error) {
	r, ok := Host(host)
	if !ok {
		return "", "", time.Time{}, fmt.Errorf("%q is not a host of Amazon ECR (examples: 123456789012.dkr.ecr.eu-central-1.amazonaws.com, public.ecr.aws)", host)
	}
	c, err := l.login(ctx, key{host, r, s})
	if err != nil {
		return "", "", time.Time{}, fmt.Errorf("login at %s: %w", host, err)
	}
	return c.username, c.password, c.expires, nil
}

func (l *Logins) login(ctx context.Context, k key) (credential, error) {
	e := l.entry(k)
	select {
	case e.turn <- struct{}{}:
		defer func() { <-e.turn }()
	case <-ctx.Done():
		return credential{}, ctx.Err()
	}
	now := time.Now()
	switch {
	case now.Before(e.renew), now.Before(e.quiet) && now.Before(e.expires):
		return e.credential, nil
	case now.Before(e.quiet):
		return credential{}, e.err
	}
	return l.renew(ctx, k, e)
}

func (l *Logins) entry(k key) *login {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.known == nil {
		l.known = map[key]*login{}
	}
	if l.known[k] == nil {
		l.known[k] = &login{turn: make(chan struct{}, 1)}
	}
	return l.known[k]
}

// renew asks AWS. The old login stands in for a new one that does not come.
func (l *Logins) renew(ctx context.Context, k key, e *login) (credential, error) {
	timeout := loginTimeout
	if time.Now().Before(e.expires) {
		timeout = renewTimeout
	}
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	c, err := l.ask(bounded, k)
	if ctx.Err() != nil {
		return credential{}, ctx.Err() // the next one asks
	}
	now := time.Now()
	if err == nil {
		e.credential, e.renew, e.err = c, now.Add(c.expires.Sub(now)*4/5), nil
		return c, nil
	}
	e.err, e.quiet = err, now.Add(errorLife)
	if now.Before(e.expires) {
		l.warn(e.expires, err)
		return e.credential, nil
	}
	return credential{}, err
}

func (l *Logins) warn(expires time.Time, err error) {
	if l.Log != nil {
		l.Log.Warn("login at Amazon ECR is not renewed yet", "expires", expires, "err", err)
	}
}
