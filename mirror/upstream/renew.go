package upstream

import (
	"context"
	"fmt"
	"net/url"
	"slices"
)

// renewal gives the credentials for an address that the configuration has now.
// Whoever gave a host another address, too, did not mean its credentials for
// the old one.
func (o Options) renewal(host string, endpoint *url.URL) func(context.Context) ([]Credentials, error) {
	if o.Settings == nil {
		return nil
	}
	return func(ctx context.Context) ([]Credentials, error) {
		now, err := o.Settings(ctx)
		if err != nil {
			return nil, err
		}
		at, err := now.address(host)
		switch {
		case err != nil:
			return nil, err
		case at.String() != endpoint.String():
			return nil, fmt.Errorf("they are for %s now, not for %s: reload the configuration", at, endpoint)
		}
		return now.Credentials, nil
	}
}

// renewal gives the settings with which a mirror would be opened now.
func (m Mirror) renewal(of func(context.Context) (Settings, error)) func(context.Context) (Settings, error) {
	if of == nil {
		return nil
	}
	return func(ctx context.Context) (Settings, error) {
		now, err := of(ctx)
		if err != nil {
			return Settings{}, err
		}
		for _, same := range now.Mirrors {
			if same.URL == m.URL {
				return same.settings(now), nil
			}
		}
		return Settings{}, fmt.Errorf("%s is no mirror in the configuration now: reload it", m.URL)
	}
}

// renewed looks the configured credentials up again after they were refused,
// and reports whether they are others now.
func (r *Registry) renewed(ctx context.Context, refused []*account) bool {
	if r.renew == nil || !slices.ContainsFunc(refused, func(a *account) bool { return a.credentials.written() }) {
		return false
	}
	select {
	case r.renewing <- struct{}{}:
		defer func() { <-r.renewing }()
	case <-ctx.Done():
		return false
	}
	before := r.accounts.all("")
	if !slices.Equal(before, refused) {
		return true // another request was quicker
	}
	now, err := r.renew(ctx)
	if err != nil {
		r.log.Warn("upstream credentials cannot be read again", "upstream", r.host, "err", err)
		return false
	}
	r.accounts.replace(orDocker(now), r.newAccount)
	return !slices.Equal(before, r.accounts.all(""))
}
