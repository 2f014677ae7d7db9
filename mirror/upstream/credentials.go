package upstream

import (
	"context"
	"errors"

	"oras.land/oras-go/v2/registry/remote/auth"

	"lastro/mirror/upstream/ecr"
	"lastro/mirror/upstream/keychain"
)

// login returns what finds credentials, anew at each call.
func (r *Registry) login(c Credentials) func(context.Context) (auth.Credential, error) {
	keys := keychain.Keys(r.host, r.endpoint)
	switch {
	case c.ECR != nil:
		return func(ctx context.Context) (auth.Credential, error) { return r.fromECR(ctx, *c.ECR) }
	case c.Helper != "":
		return func(ctx context.Context) (auth.Credential, error) { return keychain.Helper(ctx, c.Helper, keys) }
	case c.anonymous || c.Username != "" || c.Token != "":
		return func(context.Context) (auth.Credential, error) {
			return auth.Credential{Username: c.Username, Password: c.Password, AccessToken: c.Token}, nil
		}
	}
	return func(ctx context.Context) (auth.Credential, error) { return keychain.Docker(ctx, keys) }
}

// fromECR logs in at the host that is spoken to. Whoever has no AWS identity at
// all may read the public registry, too.
func (r *Registry) fromECR(ctx context.Context, s ecr.Settings) (auth.Credential, error) {
	name, password, _, err := r.logins.Login(ctx, r.endpoint.Host, s)
	if host, _ := ecr.Host(r.endpoint.Host); host.Public && errors.Is(err, ecr.ErrNoCredentials) && s == (ecr.Settings{}) {
		return auth.EmptyCredential, nil
	}
	return auth.Credential{Username: name, Password: password}, err
}
