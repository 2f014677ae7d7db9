// Package token takes the bearer tokens of another issuer: JSON Web Tokens with
// the access claims of the distribution's token specification.
//
// A token is taken when a key of the issuer's set made its signature, with the
// one algorithm of that key (RS256, ES256 or EdDSA; never none, never a shared
// secret, never a key that the token brings), when issuer and service are the
// configured ones, and when it has not expired, with a minute for clocks that
// differ. A token that was right is remembered until it expires, ten minutes at
// most.
//
// The set is a file, read again when it changes, or an https address. Of that
// only this host is dialled: no proxy, no redirect; ten seconds, one MiB. It is
// asked again when a token names a key that is not known, and every hour, but
// never more than once a minute. The last good set serves when another cannot
// be had, which is reported.
package token

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"lastro/store/serve/access/known"
)

// ErrInvalid says that a token is not taken.
var ErrInvalid = errors.New("invalid token")

// Verifier knows an issuer. It may be used from many goroutines.
type Verifier struct {
	settings Settings
	now      func() time.Time
	source   source
	known    *known.Set[proven]
}

// proven is a token that was right, under the set that had its key.
type proven struct {
	claims *Claims
	under  *keySet
}

// source has the set of keys.
type source interface {
	// current is the set as it is known; nil: none is yet.
	current() *keySet
	// renewed is the set after looking again, if it is time to.
	renewed(ctx context.Context) *keySet
}

type keySet struct{ keys }

const ttl = 10 * time.Minute

// Open is a verifier for an issuer. A file must be right; an address may be
// down now.
func Open(s Settings, log *slog.Logger, now func() time.Time) (*Verifier, error) {
	open := openFile
	if s.remote() {
		open = openRemote
	}
	src, err := open(s, log, now)
	if err != nil {
		return nil, err
	}
	return &Verifier{settings: s, now: now, source: src, known: known.New[proven]()}, nil
}

// Settings are those that the verifier was opened with.
func (v *Verifier) Settings() Settings { return v.settings }

// Verify is what a token says. The error wraps ErrInvalid and says why, without
// anything of the token.
func (v *Verifier) Verify(ctx context.Context, raw string) (*Claims, error) {
	set := v.source.current()
	print := v.known.Print(raw)
	if found, ok := v.known.Get(print, v.now()); ok && found.under == set {
		return found.claims, nil
	}
	p, err := parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	set, k, ok := v.find(ctx, set, p)
	if !ok {
		return nil, fmt.Errorf("%w: is signed with a key that the issuer does not have", ErrInvalid)
	}
	c, err := p.claims(k, v.settings, v.now())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	until := v.now().Add(ttl)
	if c.until.Before(until) {
		until = c.until
	}
	v.known.Put(print, proven{c, set}, until)
	return c, nil
}

func (v *Verifier) find(ctx context.Context, set *keySet, p *parsed) (*keySet, key, bool) {
	if set != nil {
		if k, ok := p.key(set.keys); ok {
			return set, k, true
		}
	}
	if set = v.source.renewed(ctx); set == nil {
		return nil, key{}, false
	}
	k, ok := p.key(set.keys)
	return set, k, ok
}
