package keychain

import (
	"context"
	"fmt"
	"time"

	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"

	"lastro/mirror"
)

// helperTimeout is how long a credential helper may take.
const helperTimeout = 30 * time.Second

// Helper runs a credential helper. One that knows nothing gives none.
func Helper(ctx context.Context, name string, keys []string) (auth.Credential, error) {
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

// maxDetail is how much of what a helper says is told.
const maxDetail = 200

// plain makes one short line of what a helper said.
func plain(text string) string { return mirror.Line(text, maxDetail) }
