package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"lastro/cmd/lastro/internal/web"
	"lastro/configs"
	"lastro/store/vault"
	"lastro/store/vault/prune"
)

// pruneFlags are what a person may say of a prune.
type pruneFlags struct {
	grace, minAge string
	maxRemovals   string
	dryRun        bool
}

func (c *cli) backupPruneCommand() *cobra.Command {
	var f pruneFlags
	cmd := &cobra.Command{
		Use:   "prune [NAME] [--dry-run]",
		Short: "free what no snapshot of a vault needs any more",
		Long: `Prune lists the vault, marks what no snapshot needs, and a day later removes what
it marked and what is still not needed: run it every day, or let the daemon do so
after each backup (keep in the configuration). Other daemons may back up meanwhile.
With --grace 0s what is marked is removed in the same run, for a disk that is full.

Nothing is removed when not all that the snapshots need can be read, or when more
than half of the vault would go (--max-removals lets one run go on). What a lock of
the bucket keeps, or missing rights, is listed, and the exit code is 3.`,
		Example: "  lastro backup prune --dry-run\n  lastro backup prune main",
		Args:    takes(cobra.MaximumNArgs(1)),
	}
	flags := cmd.Flags()
	flags.StringVar(&f.grace, "grace", "23h", "how `long` what was marked stays before it is removed")
	flags.StringVar(&f.minAge, "min-age", "7d", "mark nothing younger than this `age`: a backup that goes on may have brought it")
	flags.StringVar(&f.maxRemovals, "max-removals", "50%", "let this run mark up to this `share` of the vault")
	flags.BoolVar(&f.dryRun, "dry-run", false, "print what would be marked and removed, and change nothing")
	cmd.RunE = c.verb(func(ctx context.Context, s *site, args []string) error {
		o, err := f.options()
		if err != nil {
			return err
		}
		v, err := s.oneVault(ctx, args)
		if err != nil {
			return err
		}
		r, err := s.prune(ctx, v, o)
		if r.Vault == "" {
			return err // it did not begin
		}
		return errors.Join(c.print(shownPrune(r)), pruneOutcome(r, err))
	})
	return cmd
}

func (f pruneFlags) options() (o vault.PruneOptions, err error) {
	o.DryRun = f.dryRun
	var errs []error
	for _, d := range []struct {
		flag, text string
		to         *time.Duration
	}{{"grace", f.grace, &o.Grace}, {"min-age", f.minAge, &o.MinAge}} {
		if *d.to, err = configs.ParseDuration(d.text); err != nil {
			errs = append(errs, fmt.Errorf("--%s: %w", d.flag, err))
		}
	}
	if o.MaxRemovals, err = configs.ParsePercent(f.maxRemovals); err != nil {
		errs = append(errs, fmt.Errorf("--max-removals: %w", err))
	}
	if len(errs) > 0 {
		return o, usageError{errors.Join(errs...)}
	}
	return o, nil
}

// pruneOutcome is how a prune ended: what is refused or kept is no error of its own.
func pruneOutcome(r vault.Pruned, err error) error {
	if guard, ok := errors.AsType[*prune.GuardError](err); ok {
		return outcome{exitPart, guard.Error()}
	}
	if err == nil && r.Kept > 0 {
		return outcome{exitPart, fmt.Sprintf("backup prune: %d objects could not be removed from vault %s", r.Kept, r.Vault)}
	}
	return err
}

// prune runs beside no backup of the same vault by this daemon.
func (s *site) prune(ctx context.Context, v *vault.Vault, o vault.PruneOptions) (r vault.Pruned, err error) {
	if err := s.reads(v); err != nil {
		return r, err
	}
	if o.DryRun {
		return v.Prune(ctx, s.store, o)
	}
	release, err := s.share(ctx)
	if err != nil {
		return r, err
	}
	defer release()
	err = s.record(ctx, jobPrune+v.Name, func() (runResult, error) {
		err := s.inTurn(ctx, []string{jobBackup + v.Name}, func() error {
			r, err = v.Prune(ctx, s.store, o)
			return err
		})
		s.witness.Pruned(webPrune(r))
		return runResult{record: tidied{Pruned: r}, failed: r.Kept - r.Locked, bytes: r.FreedBytes}, err
	})
	return r, err
}

func webPrune(r vault.Pruned) web.Prune {
	return web.Prune{Vault: r.Vault, Condemned: r.Condemned, CondemnedBytes: r.Bytes, Kept: r.Kept, Removed: r.Removed, FreedBytes: r.FreedBytes}
}

// tidied is what the ledger keeps of a prune.
type tidied struct {
	vault.Pruned
	Forgotten int `json:"forgotten"`
	Snapshots int `json:"snapshots"` // that are left; 0: not known
}

// tidy forgets what keep does not keep, and prunes: also when there is too much to
// forget, for what was forgotten before.
func (s *site) tidy(ctx context.Context, name string) error {
	release, err := s.share(ctx)
	if err != nil {
		return err
	}
	defer release()
	return s.record(ctx, jobPrune+name, func() (runResult, error) {
		v, err := s.vault(ctx, name)
		if err != nil {
			return runResult{}, err
		}
		f, refused := s.forget(ctx, name, forgetOptions{maxRemovals: mostForgotten})
		var r vault.Pruned
		if why := unread(s.backupOf(name)); why != "" {
			s.log.Info("nothing is pruned", "job", jobPrune+name, "forgotten", f.Forgotten, "snapshots", f.Left, "reason", why)
			return runResult{record: tidied{Forgotten: f.Forgotten, Snapshots: f.Left}}, refused
		}
		err = s.inTurn(ctx, []string{jobBackup + name}, func() error {
			r, err = v.Prune(ctx, s.store, vault.PruneOptions{Grace: prune.Grace, MinAge: prune.MinAge, MaxRemovals: prune.MaxRemovals})
			return err
		})
		s.witness.Pruned(webPrune(r))
		for _, problem := range r.Problems {
			s.log.Warn("not removed from the vault", "job", jobPrune+name, "what", problem)
		}
		s.log.Info("prune done", "job", jobPrune+name, "forgotten", f.Forgotten, "snapshots", f.Left, "condemned", r.Condemned, "removed", r.Removed, "bytes", r.FreedBytes)
		return runResult{record: tidied{r, f.Forgotten, f.Left}, failed: r.Kept - r.Locked, bytes: r.FreedBytes}, errors.Join(refused, err)
	})
}

// shownPrune is what a prune did, or would do.
type shownPrune vault.Pruned

// Print says first what could not be removed.
func (r shownPrune) Print(w io.Writer) error {
	for _, p := range r.Problems {
		fmt.Fprintf(w, "kept  %s\n", p)
	}
	if n := r.Kept - len(r.Problems); n > 0 {
		fmt.Fprintf(w, "kept  and %d more\n", n)
	}
	removed, marked := "removed", "marked"
	if r.DryRun {
		removed, marked = "would be removed", "would be marked"
	}
	fmt.Fprintf(w, "vault %s: %d blobs, %s %s; %d, %s %s", r.Vault, r.Removed, size(r.FreedBytes), removed, r.Condemned, size(r.Bytes), marked)
	if r.Condemned > 0 {
		fmt.Fprintf(w, " and due %s", stamp(r.Due))
	}
	_, err := fmt.Fprintf(w, "; %d, %s needed; %d requests, %.1f s\n", r.Live, size(r.LiveBytes), r.Requests, r.TookSeconds)
	return err
}
