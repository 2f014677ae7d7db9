package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"lastro/store/vault"
)

func (c *cli) restoreCommand() *cobra.Command {
	var from, snapshot, asOf, to string
	var dryRun, force bool
	cmd := &cobra.Command{
		Use:   "restore [--from VAULT] [--snapshot ID | --as-of TIME] [--to URL|DIR] [PATTERN…] [--force] [--dry-run]",
		Short: "bring images and their history back from a vault",
		Long: `Restore copies the images of a snapshot into the local registry and brings
their history back: all of them, or those that match a pattern: a repository,
repository:tag, repository@digest (which comes without a tag), or a digest in any
repository, with what is attached to them. Every byte is hashed before anything becomes visible, and a
tag moves only when its whole image is there. Stopping it is safe: the next
restore goes on where this one stopped. A tag that has moved here since the
snapshot is left alone and listed, unless --force is given.

With --to the images are copied elsewhere, and this registry is left as it is: into
another registry, below the path of its URL, or into an OCI image layout (a folder,
new or one that --to has filled), which skopeo, crane and oras read. What is there is
not copied again, other images there stay, and a tag that is something else there is
left alone without --force. The history stays in the vault. Credentials, CA and
plain HTTP of a registry are those of upstreams: in the configuration; to one that is
not there, nothing but http:// in the URL speaks HTTP, and without credentials.`,
		Example: "  lastro restore\n  lastro restore --as-of 2026-05-01 'docker.io/library/*'\n  lastro restore --to oci:/srv/images 'docker.io/library/debian:12'\n  lastro restore --to https://registry.example.com/copies --as-of 2026-05-01",
	}
	f := cmd.Flags()
	f.StringVar(&from, "from", "", "the `vault`, when the configuration has several")
	f.StringVar(&snapshot, "snapshot", "", "the snapshot's `id` (default: the newest)")
	f.StringVar(&asOf, "as-of", "", "the newest snapshot that is not younger than this `time`")
	f.StringVar(&to, "to", "", "copy to this `place` instead of this registry: the URL of another one, oci:DIR, or DIR")
	f.BoolVar(&force, "force", false, "also put back tags that have moved since the snapshot")
	f.BoolVar(&dryRun, "dry-run", false, "print the plan, with bytes, requests and time, and change nothing")
	cmd.MarkFlagsMutuallyExclusive("snapshot", "as-of")
	cmd.RunE = c.verb(func(ctx context.Context, s *site, patterns []string) error {
		if err := vault.CheckPatterns(patterns); err != nil {
			return usageError{fmt.Errorf("restore: %w", err)}
		}
		v, err := s.oneVault(ctx, optional(from))
		if err != nil {
			return err
		}
		o := vault.RestoreOptions{Snapshot: snapshot, Patterns: patterns, Force: force, By: "restore"}
		if o.AsOf, err = c.timeFlag("--as-of", asOf, o.AsOf); err != nil {
			return err
		}
		if to == "" {
			return c.restore(ctx, s, v, o, dryRun)
		}
		target, err := c.target(ctx, s, to)
		if err != nil {
			return err
		}
		return c.copyOut(ctx, v, target, o, dryRun)
	})
	return cmd
}

func (c *cli) restore(ctx context.Context, s *site, v *vault.Vault, o vault.RestoreOptions, dryRun bool) error {
	if dryRun {
		return c.planRestore(ctx, s, v, o)
	}
	bars := c.bars()
	report, err := s.restore(ctx, v, o, bars)
	bars.Close()
	if err != nil {
		return err
	}
	return c.restored(report)
}

// copyOut is restore to elsewhere.
func (c *cli) copyOut(ctx context.Context, v *vault.Vault, to vault.Target, o vault.RestoreOptions, dryRun bool) error {
	if dryRun {
		plan, err := v.PlanCopy(ctx, to, o)
		if err != nil {
			return err
		}
		return c.planned(plan)
	}
	bars := c.bars()
	report, err := v.Copy(ctx, to, o, bars)
	bars.Close()
	if err != nil {
		return err
	}
	return c.restored(report)
}

func (c *cli) restored(report vault.Restored) error {
	if err := c.print(shownRestore(report)); err != nil {
		return err
	}
	if n := len(report.Failed); n > 0 {
		return outcome{exitPart, fmt.Sprintf("restore: %d images were not restored; the rest is done", n)}
	}
	return nil
}

func (c *cli) planRestore(ctx context.Context, s *site, v *vault.Vault, o vault.RestoreOptions) error {
	plan, err := v.PlanRestore(ctx, s.store, o)
	if err != nil {
		return err
	}
	return c.planned(plan)
}

func (c *cli) planned(plan vault.RestorePlan) error {
	if err := c.print(shownRestorePlan(plan)); err != nil {
		return err
	}
	if n := len(plan.Failed); n > 0 {
		return outcome{exitPart, fmt.Sprintf("restore: %d images could not be restored", n)}
	}
	return nil
}
