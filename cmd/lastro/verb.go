package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"lastro/cmd/lastro/internal/progress"
	"lastro/cmd/lastro/internal/remote"
	"lastro/configs"
	"lastro/mirror"
	"lastro/store"
)

// verb makes a command of a function on a site. In the daemon that is the
// daemon's site. Elsewhere it is the daemon's too when one runs, and else a
// site of our own for as long as the verb takes.
func (c *cli) verb(fn func(ctx context.Context, s *site, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		c.counts = counted(cmd.Name())
		if c.site != nil {
			return fn(ctx, c.site, args)
		}
		cfg, err := c.load()
		if err != nil {
			return err
		}
		if done, err := c.inDaemon(ctx, cfg); done {
			return err
		}
		s, err := openSite(cfg, c.logger(slog.LevelWarn), c.host)
		if err != nil {
			return c.explainLock(ctx, cfg, err)
		}
		return errors.Join(fn(ctx, s, args), s.Close())
	}
}

// inDaemon runs the verb in the daemon that has the data folder, if there is one.
func (c *cli) inDaemon(ctx context.Context, cfg *configs.Config) (done bool, err error) {
	client, err := remote.Dial(ctx, cfg.Data)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return true, err
	}
	defer client.Close()
	bars := c.bars()
	code, err := client.Run(ctx, remote.Request{Args: c.args, Dir: c.dir, User: c.user, Config: cfg.Digest, File: absolute(cfg.Path), Version: thisVersion().Version},
		remote.Streams{Stdout: c.stdout, Stderr: c.stderr, Progress: bars})
	bars.Close()
	if err != nil {
		return true, err
	}
	if code == exitDone {
		return true, nil
	}
	return true, remoteExit{code}
}

// explainLock says what to do about a data folder that somebody else has open.
func (c *cli) explainLock(ctx context.Context, cfg *configs.Config, err error) error {
	if _, ok := errors.AsType[*store.LockedError](err); !ok {
		return err
	}
	return fmt.Errorf("%w\nanother lastro works on this data folder and is not a daemon that could run this verb: wait until it has ended, or use another data folder", err)
}

// runVerb is the daemon's side of inDaemon.
func (d *daemon) runVerb(ctx context.Context, r remote.Request, out remote.Streams) int {
	h := d.host
	h.stdout, h.stderr, h.dir, h.user = out.Stdout, out.Stderr, r.Dir, r.User
	h.site, h.progress, h.columns = d.site, out.Progress, 0
	switch own := absolute(d.site.cfg().Path); {
	case r.Config == d.site.cfg().Digest:
	case !sameFile(own, r.File):
		fmt.Fprintf(out.Stderr, "lastro: the daemon that has this data folder runs with %s, and %s says something else: name that file with --config, or end the daemon first\n", own, r.File)
		return exitUsage
	default:
		fmt.Fprintln(out.Stderr, "lastro: note: the daemon has not loaded this configuration file; send it SIGHUP to do so")
	}
	return run(ctx, r.Args, h)
}

// absolute is a path as another process finds it.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// sameFile reports whether two paths are of one file. A client of an older version says
// none.
func sameFile(a, b string) bool {
	if a == b || b == "" {
		return true
	}
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

// closingProgress is progress that is drawn until it is closed.
type closingProgress interface {
	mirror.Progress
	Close()
}

// counted is what a verb reports progress of, in the plural.
func counted(verb string) string {
	switch verb {
	case "sync":
		return "images"
	case "check":
		return "items" // repositories, and content
	}
	return "blobs"
}

// bars is where a verb reports progress: the client of the daemon that runs
// it, or this process's stderr.
func (c *cli) bars() closingProgress {
	if c.progress != nil {
		return forwarded{c.progress}
	}
	return progress.New(progress.Options{Out: c.stderr, Columns: c.columns, Quiet: c.quiet, Items: c.counts, Now: c.now})
}

// forwarded leaves closing to the client.
type forwarded struct{ mirror.Progress }

func (forwarded) Close() {}
