package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"lastro/configs"
	"lastro/mirror"
	"lastro/mirror/upstream"
	"lastro/store"
	"lastro/store/vault"
	"lastro/store/vault/bucket"
)

// site is a data folder opened with its configuration: what every verb acts
// on. One process has it at a time. Its methods may be called from many
// goroutines.
type site struct {
	store *store.Store
	log   *slog.Logger
	now   func() time.Time
	step  func(op, subject string)

	witness   witness   // of runs; set before the first
	elsewhere elsewhere // what is not here is asked for there

	config  atomic.Pointer[configs.Config] // replaced on reload
	serving atomic.Pointer[served]         // what it says of serving

	traffic mirror.Traffic // of all engines

	mu        sync.Mutex
	upstreams map[string]*upstream.Registry // opened on first use, forgotten on reload

	sharers *semaphore.Weighted // see share
	drills  *semaphore.Weighted // one at a time
	turns   turns               // one run of a job at a time
}

// openSite opens the data folder that the configuration names.
func openSite(cfg *configs.Config, log *slog.Logger, h host) (*site, error) {
	serving, err := readServed(cfg)
	if err != nil {
		return nil, err
	}
	st, err := store.Open(cfg.Data, store.Options{Log: log, Now: h.now, Step: h.step, Behind: h.serves})
	if err != nil {
		return nil, err
	}
	s := &site{store: st, log: log, now: h.now, step: h.step, witness: unseen{}, sharers: semaphore.NewWeighted(everyone), drills: semaphore.NewWeighted(1), upstreams: map[string]*upstream.Registry{}}
	s.config.Store(cfg)
	s.serving.Store(serving)
	return s, nil
}

func (s *site) Close() error { return s.store.Close() }

func (s *site) cfg() *configs.Config { return s.config.Load() }

func (s *site) served() *served { return s.serving.Load() }

// engine is the copy engine between the configured upstreams and the local registry.
func (s *site) engine(p mirror.Progress) *mirror.Engine {
	return &mirror.Engine{Dest: s.store, Memory: s.store, Source: s.source, Log: s.log, Now: s.now, Progress: p, Retired: s.retired, Held: s.heldBack, Kept: s.shield, Room: s.store.Room, Traffic: &s.traffic}
}

// engineFor is the copy engine with what a person lets one sync do.
func (s *site) engineFor(o syncOptions, p mirror.Progress) *mirror.Engine {
	e := s.engine(p)
	e.AllowVanished = o.allowRemovals
	e.Released = func(repo, tag string) bool { return o.released[repo+":"+tag] }
	return e
}

// source opens an upstream on its first use.
func (s *site) source(host string) (mirror.Source, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, ok := s.upstreams[host]; ok {
		return r, nil
	}
	r, err := upstream.Open(host, settingsOf(s.cfg(), host), upstream.Options{Log: s.log, UserAgent: "lastro/" + thisVersion().Version, Settings: s.settingsNow(host)})
	if err != nil {
		return nil, err
	}
	s.upstreams[host] = r
	return r, nil
}

// vault opens a configured vault.
func (s *site) vault(ctx context.Context, name string) (*vault.Vault, error) {
	for _, b := range s.cfg().Backup {
		if b.Name == name {
			var shown bytes.Buffer
			if err := s.cfg().Show(&shown); err != nil {
				return nil, err
			}
			return vault.Open(ctx, b.Settings, vault.Options{Log: s.log, Now: s.now, Version: thisVersion().Version, Config: shown.Bytes(), Keys: filepath.Join(s.cfg().Data, "vault-keys"), Wrap: s.wrap(), Step: s.folderStep()})
		}
	}
	return nil, usageError{fmt.Errorf("no vault is named %q in the configuration", name)}
}

// wrap puts the fault point of tests around a bucket.
func (s *site) wrap() func(bucket.Bucket) bucket.Bucket {
	if s.step == nil {
		return nil
	}
	return func(b bucket.Bucket) bucket.Bucket { return steppingBucket{b, s.step} }
}

// folderStep is the fault point of tests in a folder bucket.
func (s *site) folderStep() func(op, key string) error {
	if s.step == nil {
		return nil
	}
	return func(op, key string) error { s.step(op, key); return nil }
}

// reload swaps the configuration, unless it is refused: by us, because of what
// was read at start and cannot change, or by others. It is all or nothing.
func (s *site) reload(cfg *configs.Config, others ...func(*configs.Config) error) error {
	serving, err := readServed(cfg)
	if err := errors.Join(unchangeable(s.cfg(), cfg), err); err != nil {
		return err
	}
	for _, take := range others {
		if err := take(cfg); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.config.Store(cfg)
	s.serving.Store(serving)
	for _, r := range s.upstreams {
		r.Close() // of connections that nobody uses; requests that run go on
	}
	clear(s.upstreams)
	return nil
}

// unchangeable is what was read at start.
func unchangeable(old, new *configs.Config) error {
	var errs []error
	for _, fixed := range []struct{ key, old, new string }{
		{"data", old.Data, new.Data},
		{"registry.listen", old.Registry.Listen, new.Registry.Listen},
		{"registry.tls", tlsFiles(old), tlsFiles(new)},
		{"admin.listen", old.Admin.Listen, new.Admin.Listen},
	} {
		if fixed.old != fixed.new {
			errs = append(errs, fmt.Errorf("%s cannot change from %q to %q while the daemon runs: restart it", fixed.key, fixed.old, fixed.new))
		}
	}
	return errors.Join(errs...)
}

// tlsFiles names the files; what is in them may change.
func tlsFiles(cfg *configs.Config) string {
	t := cfg.Registry.TLS
	if t == nil {
		return ""
	}
	return strings.TrimSpace(t.Certificate + " " + t.Key + " " + t.ClientCA)
}
