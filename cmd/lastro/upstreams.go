package main

import (
	"context"

	"lastro/cmd/lastro/internal/web"
	"lastro/configs"
	"lastro/mirror/upstream"
)

// settingsOf are those of a host; hosts without any get the defaults: HTTPS,
// and the credentials of the Docker configuration.
func settingsOf(cfg *configs.Config, host string) upstream.Settings {
	if settings, ok := cfg.Upstreams[host]; ok {
		return settings
	}
	return upstream.Defaults()
}

// settingsNow reads the configuration file again for the credentials of a host
// and its mirrors, such as a password in ${file:…} that was changed. All else
// stays as it was loaded.
func (s *site) settingsNow(host string) func(context.Context) (upstream.Settings, error) {
	return func(context.Context) (upstream.Settings, error) {
		cfg, err := configs.Load(s.cfg().Path)
		if err != nil {
			return upstream.Settings{}, err
		}
		return settingsOf(cfg, host), nil
	}
}

// upstreamsNow is what the upstreams that were used say of themselves, for the
// metrics.
func (s *site) upstreamsNow() []web.Upstream {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []web.Upstream
	for host, r := range s.upstreams {
		budget, o := r.Budget(), r.Outcomes()
		all = append(all, web.Upstream{
			Host: host, Limited: budget.Known, Limit: budget.Limit, Remaining: budget.Remaining, Throttled: r.Throttled(),
			Requests: map[string]int64{"ok": o.OK, "missing": o.Missing, "refused": o.Refused, "throttled": o.Throttled, "error": o.Failed},
		})
	}
	return all
}
