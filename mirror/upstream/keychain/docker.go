package keychain

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"slices"

	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/credentials/trace"

	"lastro/mirror"
)

// HubAPI is where the API of docker.io is.
const HubAPI = "registry-1.docker.io"

// Keys are the names under which Docker's configuration may have the
// credentials. Those of an image's host are not for an endpoint elsewhere.
func Keys(host string, endpoint *url.URL) []string {
	hub := []string{"https://index.docker.io/v1/", "index.docker.io", mirror.DockerHub, HubAPI}
	if slices.Contains(hub, endpoint.Host) {
		return hub
	}
	keys := []string{endpoint.Host}
	if image, err := url.Parse("//" + host); err == nil && host != endpoint.Host && image.Hostname() == endpoint.Hostname() {
		keys = append(keys, host)
	}
	return keys
}

// Docker reads the Docker configuration, and runs the credential helper
// that it names. Where there is no configuration there are no credentials.
func Docker(ctx context.Context, keys []string) (auth.Credential, error) {
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
