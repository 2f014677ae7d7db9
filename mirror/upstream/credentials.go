package upstream

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"slices"
	"time"

	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/credentials/trace"

	"lastro/mirror"
)

// helperTimeout is how long a credential helper may take.
const helperTimeout = 30 * time.Second

// login returns what finds the credentials for an endpoint, anew at each call.
func (c Credentials) login(host string, endpoint *url.URL) func(context.Context) (auth.Credential, error) {
	if c.anonymous || c.Username != "" {
		return func(context.Context) (auth.Credential, error) {
			return auth.Credential{Username: c.Username, Password: c.Password}, nil
		}
	}
	keys := dockerKeys(host, endpoint)
	return func(ctx context.Context) (auth.Credential, error) { return fromDocker(ctx, keys) }
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
