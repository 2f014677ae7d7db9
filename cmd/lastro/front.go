package main

import (
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/crypto/bcrypt"

	"lastro/cmd/lastro/internal/web"
	"lastro/configs"
	"lastro/store/serve/access"
	"lastro/store/serve/access/certs"
	"lastro/store/serve/access/limit"
)

// front is what a client meets first at the registry's address.
type front struct {
	guard  *access.Guard
	limits *limit.Limiter
	keeper *certs.Keeper // nil: there is no TLS
}

func openFront(cfg *configs.Config, log *slog.Logger, now func() time.Time) (*front, error) {
	guard, err := access.New(cfg.Registry.Settings, access.Options{Log: log, Now: now, Compare: bcrypt.CompareHashAndPassword})
	if err != nil {
		return nil, err
	}
	f := &front{guard: guard, limits: limit.New(cfg.Registry.Limits, cfg.Registry.TLS != nil)}
	if t := cfg.Registry.TLS; t != nil {
		if f.keeper, err = certs.Open(*t, log, now); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// server answers with h. Responses have no time limit, because a layer takes as
// long as it takes; who takes nothing is cut off by h.
func (f *front) server(h http.Handler, log *slog.Logger) *http.Server {
	server := f.limits.Server(f.guard.Handler(h), log)
	if f.keeper != nil {
		server.TLSConfig = f.keeper.Config()
	}
	return server
}

func (f *front) serve(server *http.Server, l net.Listener) error {
	l = f.limits.Listener(l)
	if f.keeper != nil {
		return server.ServeTLS(l, "", "") // the files are the keeper's
	}
	return server.Serve(l)
}

// reload takes what may change; after an error nothing has.
func (f *front) reload(cfg *configs.Config) error {
	if err := f.guard.Reload(cfg.Registry.Settings); err != nil {
		return err
	}
	f.limits.Reload(cfg.Registry.Limits)
	if f.keeper != nil {
		f.keeper.Reload()
	}
	return nil
}

// now is for the metrics.
func (f *front) now() web.Front {
	o := f.guard.Outcomes()
	n := web.Front{
		Access:      map[string]int64{"ok": o.OK, "asked": o.Asked, "denied": o.Denied, "failed": o.Failed, "throttled": o.Throttled},
		Connections: f.limits.Connections(), Refused: f.limits.Refused(),
	}
	if f.keeper != nil {
		n.Expires = f.keeper.Expires()
	}
	return n
}
