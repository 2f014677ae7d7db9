package main

import (
	"context"
	"fmt"
	"net/http"

	"github.com/opencontainers/go-digest"

	"lastro/configs"
	"lastro/mirror"
	"lastro/mirror/demand"
	"lastro/store/serve"
	"lastro/store/serve/push"
)

// served is what the configuration says of serving, read. A reload makes a new one.
type served struct {
	rules    *mirror.Directory
	pushes   pushRules
	scanners []mirror.Pattern
}

func readServed(cfg *configs.Config) (*served, error) {
	var all []mirror.Rule
	for _, m := range cfg.Mirror {
		all = append(all, m.Rule)
	}
	rules, err := mirror.NewDirectory(all)
	if err != nil {
		return nil, err
	}
	pushes, err := readPushRules(cfg.Registry.Push)
	if err != nil {
		return nil, err
	}
	scanners, err := readPatterns(cfg.Registry.Scanners)
	if err != nil {
		return nil, fmt.Errorf("registry.scanners: %w", err)
	}
	return &served{rules, pushes, scanners}, nil
}

// registryHandler is the registry's HTTP API: pulls, and what changes something.
func (d *daemon) registryHandler() (http.Handler, error) {
	s := d.site
	pushes, err := push.New(s.store, push.Options{
		Log: d.log, Now: d.now,
		Open:      func() bool { return len(s.served().pushes) > 0 },
		Pushable:  func(repo string) bool { return s.served().pushes.pushable(repo) },
		Immutable: func(repo, tag string) bool { return s.served().pushes.immutable(repo, tag) },
		Keep:      s.keptFromDeletes,
		By:        d.front.guard.User,
		MayPull:   d.front.guard.Visible,
	})
	if err != nil {
		return nil, err
	}
	s.elsewhere.demand = demand.New(func() *mirror.Engine { return s.engine(nil) }, func() *mirror.Directory { return s.served().rules }, demand.Options{Log: d.log})
	d.pushes = pushes
	names := demand.Names{
		Rules: func() *mirror.Directory { return s.served().rules },
		Known: func(host string) bool { _, ok := s.cfg().Upstreams[host]; return ok },
		Here: func(repo string) bool {
			return s.served().pushes.pushable(repo) || s.elsewhere.has(repo) || s.holds(repo)
		},
		Default: func() string { return s.cfg().Registry.DefaultUpstream },
	}
	h, err := serve.New(s.store, serve.Options{
		Log: d.log, Now: d.now, Access: d.front.guard, Names: names.Find, Demand: &s.elsewhere, Lists: s.elsewhere.lists, Pulled: s.notePull, Push: s.elsewhere.readOnly(pushes),
	})
	return s.elsewhere.parts(h), err
}

// holds reports whether a repository is here. What cannot be said is left to
// whoever asks for it then.
func (s *site) holds(repo string) bool {
	here, err := s.ledger().Holds(context.Background(), repo)
	return here || err != nil
}

// notePull remembers that a client pulled an image. What only looks at images
// does not use them.
func (s *site) notePull(r *http.Request, repo, tag string, d digest.Digest) {
	if v := s.elsewhere.vault.Load(); v != nil && !v.rehydrate {
		return // what is here is not what was pulled
	}
	if !matches(s.served().scanners, r.UserAgent()) {
		s.ledger().NotePull(repo, tag, d, s.now())
	}
}
