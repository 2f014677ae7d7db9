package main

import (
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"lastro/configs"
	"lastro/mirror"
	"lastro/mirror/demand"
	"lastro/store/serve"
	"lastro/store/serve/push"
	"lastro/store/serve/spec"
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
		Pushable:  func(repo string) bool { return s.served().pushes.pushable(repo) },
		Immutable: func(repo, tag string) bool { return s.served().pushes.immutable(repo, tag) },
		Keep:      s.keptFromDeletes,
		By:        d.front.guard.User,
		MayPull:   d.front.guard.Visible,
	})
	if err != nil {
		return nil, err
	}
	d.demand = demand.New(func() *mirror.Engine { return s.engine(nil) }, func() *mirror.Directory { return s.served().rules }, demand.Options{Log: d.log})
	names := demand.Names{
		Rules:   func() *mirror.Directory { return s.served().rules },
		Known:   func(host string) bool { _, ok := s.cfg().Upstreams[host]; return ok },
		Here:    func(repo string) bool { return s.served().pushes.pushable(repo) || s.serves(repo) },
		Default: func() string { return s.cfg().Registry.DefaultUpstream },
	}
	return serve.New(s.store, serve.Options{Log: d.log, Now: d.now, Push: s.ifPushable(pushes), Pulled: s.notePull, Names: (&literal{find: names.Find, now: d.now}).Find, Demand: d.demand, Access: d.front.guard})
}

// literal remembers for a while which names are those of local repositories:
// to find it out costs more than to serve a manifest.
type literal struct {
	find func(ns, name string) (string, bool)
	now  func() time.Time

	mu    sync.Mutex
	until map[string]time.Time
}

const (
	literalFor  = 10 * time.Second
	maxLiterals = 10_000
)

// Find is find.
func (l *literal) Find(ns, name string) (string, bool) {
	if ns != "" {
		return l.find(ns, name)
	}
	now := l.now()
	l.mu.Lock()
	known := now.Before(l.until[name])
	l.mu.Unlock()
	if known {
		return name, true
	}
	repo, ok := l.find(ns, name)
	if ok && repo == name {
		l.mu.Lock()
		if l.until == nil || len(l.until) >= maxLiterals {
			l.until = map[string]time.Time{}
		}
		l.until[name] = now.Add(literalFor)
		l.mu.Unlock()
	}
	return repo, ok
}

// ifPushable refuses changes while the configuration lets nobody make any.
func (s *site) ifPushable(pushes http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(s.served().pushes) > 0 {
			pushes.ServeHTTP(w, r)
			return
		}
		(&spec.Refusal{
			Status: http.StatusMethodNotAllowed, Code: spec.Unsupported,
			Message: "this registry is a mirror: registry.push names no repository that clients may change", Header: http.Header{"Allow": {"GET, HEAD"}},
		}).Write(w)
	})
}

// serves reports whether a repository is here. What cannot be said is left to
// whoever asks for it then.
func (s *site) serves(repo string) bool {
	here, err := s.store.Serves(repo)
	return here || err != nil
}

// notePull remembers that a client pulled an image. What only looks at images
// does not use them.
func (s *site) notePull(r *http.Request, repo, tag string, d digest.Digest) {
	if !matches(s.served().scanners, r.UserAgent()) {
		s.ledger().NotePull(repo, tag, d, s.now())
	}
}
