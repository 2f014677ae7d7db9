package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"time"

	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/credentials/trace"

	"lastro/mirror"
	"lastro/mirror/upstream/ecr"
)

// helperTimeout is how long a credential helper may take.
const helperTimeout = 30 * time.Second

// login returns what finds credentials, anew at each call.
func (r *Registry) login(c Credentials) func(context.Context) (auth.Credential, error) {
	keys := dockerKeys(r.host, r.endpoint)
	switch {
	case c.ECR != nil:
		return func(ctx context.Context) (auth.Credential, error) { return r.fromECR(ctx, *c.ECR) }
	case c.Helper != "":
		return func(ctx context.Context) (auth.Credential, error) { return fromHelper(ctx, c.Helper, keys) }
	case c.anonymous || c.Username != "" || c.Token != "":
		return func(context.Context) (auth.Credential, error) {
			return auth.Credential{Username: c.Username, Password: c.Password, AccessToken: c.Token}, nil
		}
	}
	return func(ctx context.Context) (auth.Credential, error) { return fromDocker(ctx, keys) }
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

// fromHelper runs a credential helper. One that knows nothing gives none.
func fromHelper(ctx context.Context, name string, keys []string) (auth.Credential, error) {
	ctx, cancel := context.WithTimeout(ctx, helperTimeout)
	defer cancel()
	store := credentials.NewNativeStore(name)
	for _, key := range keys {
		found, err := store.Get(ctx, key)
		if err != nil {
			return auth.EmptyCredential, fmt.Errorf("credential helper docker-credential-%s for %s: %s", name, key, plain(err.Error()))
		}
		if found != auth.EmptyCredential {
			return found, nil
		}
	}
	return auth.EmptyCredential, nil
}

// dockerKeys are the names under which Docker's configuration may have the
// credentials. Those of an image's host are not for an endpoint elsewhere.
func dockerKeys(host string, endpoint *url.URL) []string {
	hub := []string{"https://index.docker.io/v1/", "index.docker.io", mirror.DockerHub, dockerHubAPI}
	if slices.Contains(hub, endpoint.Host) {
		return hub
	}
	keys := []string{endpoint.Host}
	if image, err := url.Parse("//" + host); err == nil && host != endpoint.Host && image.Hostname() == endpoint.Hostname() {
		keys = append(keys, host)
	}
	return keys
}

// fromDocker reads the Docker configuration, and runs the credential helper
// that it names. Where there is no configuration there are no credentials.
func fromDocker(ctx context.Context, keys []string) (auth.Credential, error) {
	if _, err := os.UserHomeDir(); err != nil && os.Getenv("DOCKER_CONFIG") == "" {
		return auth.EmptyCredential, nil
	}
	store, err := credentials.NewStoreFromDocker(credentials.StoreOptions{})
	if err != nil {
		return auth.EmptyCredential, fmt.Errorf("docker configuration: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, helperTimeout)
	defer cancel()
	helper := ""
	ctx = trace.WithExecutableTrace(ctx, &trace.ExecutableTrace{ExecuteStart: func(name, _ string) { helper = name }})
	for _, key := range keys {
		found, err := store.Get(ctx, key)
		switch {
		case err != nil && helper != "":
			return auth.EmptyCredential, fmt.Errorf("credential helper %s for %s: %s", helper, key, plain(err.Error()))
		case err != nil: // its text may hold the password
			return auth.EmptyCredential, fmt.Errorf("credentials for %s in %s cannot be read: do docker login again", key, store.ConfigPath())
		case found != auth.EmptyCredential:
			return found, nil
		}
	}
	return auth.EmptyCredential, nil
}
