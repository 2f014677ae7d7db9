package main

import (
	"fmt"
	"net/http"

	"github.com/opencontainers/go-digest"

	"lastro/configs"
	"lastro/mirror"
	"lastro/store/serve"
	"lastro/store/serve/push"
)

// served is what the configuration says of serving, read. A reload makes a new one.
type served struct {
	pushes   pushRules
	scanners []mirror.Pattern
}

func readServed(cfg *configs.Config) (*served, error) {
	pushes, err := readPushRules(cfg.Registry.Push)
	if err != nil {
		return nil, err
	}
	scanners, err := readPatterns(cfg.Registry.Scanners)
	if err != nil {
		return nil, fmt.Errorf("registry.scanners: %w", err)
	}
	return &served{pushes, scanners}, nil
}

// registryHandler is the registry's HTTP API: pulls, and what changes something.
func (d *daemon) registryHandler() (http.Handler, error) {
	s := d.site
	pushes, err := push.New(s.store, push.Options{
		Log: d.log, Now: d.now,
		Pushable:  func(repo string) bool { return s.served().pushes.pushable(repo) },
		Immutable: func(repo, tag string) bool { return s.served().pushes.immutable(repo, tag) },
		Keep:      s.keptFromDeletes,
	})
	if err != nil {
		return nil, err
	}
	return serve.New(s.store, serve.Options{Log: d.log, Now: d.now, Push: pushes, Pulled: s.notePull})
}

// notePull remembers that a client pulled an image. What only looks at images
// does not use them.
func (s *site) notePull(r *http.Request, repo, tag string, d digest.Digest) {
	if !matches(s.served().scanners, r.UserAgent()) {
		s.ledger().NotePull(repo, tag, d, s.now())
	}
}
