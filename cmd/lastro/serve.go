package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"lastro/cmd/lastro/internal/remote"
	"lastro/cmd/lastro/internal/schedule"
	"lastro/cmd/lastro/internal/web"
	"lastro/configs"
	"lastro/store/serve/push"
)

// drain is how long running jobs and pulls may take to end after SIGTERM.
const drain = 30 * time.Second

func (c *cli) serveCommand() *cobra.Command {
	var from fromVault
	cmd := &cobra.Command{
		Use:   "serve [--from-vault NAME [--snapshot ID | --as-of TIME] [--rehydrate]]",
		Short: "run the daemon: the registry, and every job on its schedule",
		Long: `Serve runs the daemon: it serves the local registry, syncs, applies retention
and backs up on the schedules of the configuration, and answers the other verbs
through <data>/lastro.sock.

SIGHUP reads the configuration again; a bad file changes nothing and is
reported. SIGTERM and SIGINT drain: no new job starts, running pulls and jobs
have 30 seconds to end.

With --from-vault it answers pulls out of a snapshot, within seconds and on an
empty machine: nothing is read but what is asked for, and what was pulled is
kept in the data folder. It takes no pushes and runs no jobs, and the verbs
that change something are refused.

With --rehydrate it restores the snapshot behind the pulls as well, with its
history: what clients ask for first, then the newest tags. Stopping it is safe,
and the same command goes on. A tag that has moved here since the snapshot is
left alone. When all is here the daemon goes on as one without --from-vault,
and its jobs run.`,
		Example: "  lastro serve\n  lastro serve --from-vault main\n  lastro serve --from-vault main --rehydrate",
		Args:    takes(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if c.site != nil {
				return usageError{errors.New("serve: this is the daemon already")}
			}
			if err := from.check(); err != nil {
				return err
			}
			return c.serve(cmd.Context(), from)
		},
	}
	from.flags(cmd)
	return cmd
}

// serve runs until ctx ends.
func (c *cli) serve(ctx context.Context, from fromVault) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP) // first of all: until then a hangup would end the process
	defer signal.Stop(hangup)
	cfg, err := c.load()
	if err != nil {
		return err
	}
	log := c.logger(slog.LevelInfo)
	c.serves = true
	s, err := openSite(cfg, log, c.host)
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	d := &daemon{cli: c, site: s, log: log, hangup: hangup, turned: make(chan struct{})}
	return errors.Join(d.runFrom(ctx, from), s.Close())
}

// daemon is a site with everything that listens and everything that is due.
type daemon struct {
	*cli
	site      *site
	log       *slog.Logger
	admin     *web.Server
	scheduler *schedule.Scheduler
	pushes    *push.Handler
	front     *front
	hangup    <-chan os.Signal
	turned    chan struct{} // closed when jobs may run
}

// runFrom runs with a vault in front, if one is named.
func (d *daemon) runFrom(ctx context.Context, from fromVault) error {
	v, err := d.openVaultServed(ctx, d.site, from)
	if err != nil {
		return err
	}
	if v == nil {
		close(d.turned)
		return d.run(ctx)
	}
	defer v.snapshot.Close()
	d.site.elsewhere.vault.Store(v)
	return d.run(ctx)
}

func (d *daemon) run(ctx context.Context) error {
	cfg := d.site.cfg()
	registry, err := net.Listen("tcp", cfg.Registry.Listen)
	if err != nil {
		return fmt.Errorf("serve: registry.listen: %w", err)
	}
	defer registry.Close()
	admin, err := net.Listen("tcp", cfg.Admin.Listen)
	if err != nil {
		return fmt.Errorf("serve: admin.listen: %w", err)
	}
	defer admin.Close()
	socket, err := remote.Listen(cfg.Data)
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	defer socket.Close()
	if err := d.site.cleanScratch(); err != nil {
		d.log.Warn("the scratch registry of a drill is left", "err", err)
	}
	return d.serveOn(ctx, registry, admin, socket)
}

// serveOn returns when ctx has ended and everything has drained, or when a
// listener fails.
func (d *daemon) serveOn(ctx context.Context, registry, admin, socket net.Listener) error {
	front, err := openFront(d.site.cfg(), d.log, d.now)
	if err != nil {
		return fmt.Errorf("serve: registry: %w", err)
	}
	d.front = front
	handler, err := d.registryHandler()
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	if d.admin, err = d.adminServer(ctx); err != nil {
		return err
	}
	d.site.witness = d.admin
	d.scheduler = d.newScheduler()
	verbs := remote.Server{Run: d.runVerb, Version: thisVersion().Version, Log: d.log}
	server := front.server(d.admin.Instrument(handler), d.log)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return closed(front.serve(server, registry)) })
	g.Go(func() error { return closed(d.admin.Serve(admin)) })
	g.Go(func() error { return verbs.Serve(gctx, socket) })
	g.Go(func() error { return d.runJobs(gctx) })
	g.Go(func() error { return d.reloadOnHangup(gctx) })
	g.Go(func() error {
		<-gctx.Done()
		return d.shutdown(server)
	})
	d.admin.Ready(true)
	d.log.Info("lastro serves", "registry", registry.Addr().String(), "tls", front.keeper != nil, "admin", admin.Addr().String(), "data", d.site.cfg().Data)
	if v := d.site.elsewhere.vault.Load(); v != nil {
		d.log.Info("pulls are answered out of a vault", "vault", v.vault.Name, "snapshot", v.snapshot.Record.ID, "time", v.snapshot.Record.Created, "rehydrate", v.rehydrate)
	}
	err = g.Wait()
	d.log.Info("lastro stopped")
	return err
}

// runJobs begins when no vault is served from any more.
func (d *daemon) runJobs(ctx context.Context) error {
	if v := d.site.elsewhere.vault.Load(); v != nil && v.rehydrate {
		if err := d.rehydrate(ctx, v); err != nil {
			return err
		}
	}
	select {
	case <-d.turned:
		return d.scheduler.Run(ctx)
	case <-ctx.Done():
		return nil
	}
}

func (d *daemon) shutdown(server *http.Server) error {
	d.admin.Ready(false)
	d.log.Info("draining", "deadline", drain)
	ctx, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	err := server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	d.site.elsewhere.demand.Close()
	return errors.Join(err, d.admin.Shutdown(ctx))
}

func closed(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// reloadOnHangup reads the configuration again on every SIGHUP.
func (d *daemon) reloadOnHangup(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.hangup:
			err := d.reload(ctx)
			d.admin.Reloaded(err)
			if err != nil {
				d.log.Error("configuration not reloaded: nothing has changed", "err", err)
				continue
			}
			d.log.Info("configuration reloaded", "rules", len(d.site.cfg().Mirror))
		}
	}
}

func (d *daemon) reload(ctx context.Context) error {
	cfg, err := configs.Load(d.site.cfg().Path)
	if err != nil {
		return err
	}
	if err := d.site.reload(cfg, d.front.reload); err != nil {
		return err
	}
	d.scheduler.Reload(d.jobs(cfg))
	return d.announce(ctx, d.admin, cfg)
}
