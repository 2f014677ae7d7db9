package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	"lastro/mirror/upstream"
	disk "lastro/store/layout"
	"lastro/store/vault"
	"lastro/store/vault/restore/ocidir"
)

// target opens the place that a person named to restore to. Nothing is sent or
// written yet.
func (c *cli) target(ctx context.Context, s *site, to string) (vault.Target, error) {
	if strings.Contains(to, "://") {
		return s.registryTarget(to)
	}
	path, named := strings.CutPrefix(to, "oci:")
	if path == "" {
		return nil, usageError{fmt.Errorf("--to %q names no folder (example: oci:/srv/images)", to)}
	}
	if !named && looksLikeHost(path) {
		if _, err := os.Stat(c.path(path)); err != nil {
			return nil, usageError{fmt.Errorf("--to %q: for a registry write https://%s, for a folder oci:%s", to, path, path)}
		}
	}
	return ocidir.Open(ctx, c.path(path))
}

// registryTarget is the registry at an address, as upstreams: has it, if it does.
func (s *site) registryTarget(to string) (vault.Target, error) {
	host, prefix, settings, err := s.readTarget(to)
	if err != nil {
		return nil, usageError{fmt.Errorf("--to %q: %w", to, err)}
	}
	return upstream.OpenTarget(host, prefix, settings, upstream.Options{Log: s.log, UserAgent: "lastro/" + thisVersion().Version, Settings: s.settingsNow(host)})
}

func (s *site) readTarget(to string) (host, prefix string, settings upstream.Settings, err error) {
	u, err := url.Parse(to)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return "", "", settings, errors.New("want a registry, as https://registry.example.com/copies, or a folder, as oci:/srv/images")
	case u.User != nil:
		return "", "", settings, fmt.Errorf("a user does not belong into an address: put it under upstreams.%s.credentials", u.Host)
	case u.RawQuery != "" || u.Fragment != "":
		return "", "", settings, errors.New("an address has a host and a path, and nothing more (example: https://registry.example.com/copies)")
	}
	if prefix = strings.Trim(u.Path, "/"); prefix != "" {
		if err := disk.CheckRepository(prefix); err != nil {
			return "", "", settings, err
		}
	}
	settings, configured := s.cfg().Upstreams[u.Host]
	switch plain := u.Scheme == "http"; {
	case !configured:
		settings = upstream.Defaults()
		if settings.PlainHTTP = plain; plain {
			settings.Credentials = upstream.Anonymous() // they would be read on the way
		}
	case plain != settings.PlainHTTP && settings.Endpoint == "":
		return "", "", settings, fmt.Errorf("upstreams.%s.plain-http is %v: one of them is wrong", u.Host, settings.PlainHTTP)
	}
	return u.Host, prefix, settings, nil
}

// looksLikeHost tells registry.example.com/x from a folder.
func looksLikeHost(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.HasPrefix(first, ".") && strings.ContainsAny(first, ".:")
}
