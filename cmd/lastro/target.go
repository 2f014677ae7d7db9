package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"lastro/store/vault"
	"lastro/store/vault/restore/ocidir"
)

// target opens the place that a person named to restore to. Nothing is sent or
// written yet.
func (c *cli) target(ctx context.Context, to string) (vault.Target, error) {
	if strings.Contains(to, "://") {
		return nil, usageError{fmt.Errorf("--to %q: want a folder, as oci:/srv/images", to)}
	}
	path, named := strings.CutPrefix(to, "oci:")
	if path == "" {
		return nil, usageError{fmt.Errorf("--to %q names no folder (example: oci:/srv/images)", to)}
	}
	if !named && looksLikeHost(path) {
		if _, err := os.Stat(c.path(path)); err != nil {
			return nil, usageError{fmt.Errorf("--to %q: for a folder write oci:%s", to, path)}
		}
	}
	return ocidir.Open(ctx, c.path(path))
}

// looksLikeHost tells registry.example.com/x from a folder.
func looksLikeHost(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.HasPrefix(first, ".") && strings.ContainsAny(first, ".:")
}
