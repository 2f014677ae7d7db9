package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lastro/configs"
	"lastro/store/vault"
)

func (c *cli) backupDrillCommand() *cobra.Command {
	var o vault.DrillOptions
	cmd := &cobra.Command{
		Use:   "drill [NAME] [--snapshot ID] [--images N]",
		Short: "prove that a restore works: do one, pull from it, and compare",
		Long: `Drill restores random images and one whole repository of a snapshot (default:
the newest) into a scratch registry below the data folder, pulls them from there
over HTTP by tag and by digest, hashes every byte, and compares every tag with the
snapshot. Then the scratch registry is removed. It says how long a restore of
everything would take. The report is kept in the vault, signed if backup[].sign is
set, and nothing else changes here or there. The daemon does that by itself
(drill: in the configuration). The exit code is 4 when anything was not as it has
to be.`,
		Example: "  lastro backup drill\n  lastro backup drill main --images 20",
		Args:    takes(cobra.MaximumNArgs(1)),
	}
	f := cmd.Flags()
	f.StringVar(&o.Snapshot, "snapshot", "", "the snapshot's `id` (default: the newest)")
	f.IntVar(&o.Images, "images", 0, "how many random images, besides one whole repository (default: drill.images of the vault)")
	cmd.RunE = c.verb(func(ctx context.Context, s *site, args []string) error {
		v, err := s.oneVault(ctx, args)
		if err != nil {
			return err
		}
		if !f.Changed("images") {
			o.Images = s.drillOf(v.Name).Images
		}
		if err := (configs.Drill{Images: o.Images}).Validate(); err != nil {
			return usageError{fmt.Errorf("backup drill: --%w", err)}
		}
		bars := c.bars()
		report, err := s.drill(ctx, v, o, bars)
		bars.Close()
		if err != nil {
			return err
		}
		if err := c.print(shownDrill(report)); err != nil {
			return err
		}
		if n := len(report.Problems); n > 0 {
			return outcome{exitDifference, fmt.Sprintf("backup drill: %d problems in vault %s", n, v.Name)}
		}
		return nil
	})
	return cmd
}

// shownDrill is what a drill found.
type shownDrill vault.Drilled

// Print lists the problems first.
func (d shownDrill) Print(w io.Writer) error {
	for _, p := range d.Problems {
		fmt.Fprintf(w, "problem: %s: %s\n", p.Image, p.Error)
	}
	for _, left := range d.LeftOut {
		fmt.Fprintf(w, "left out: %s needs more room than there is\n", left)
	}
	if d.Repository != "" {
		fmt.Fprintf(w, "whole      %s\n", d.Repository)
	}
	if len(d.Images) > 0 {
		fmt.Fprintf(w, "images     %s\n", strings.Join(d.Images, " "))
	}
	fmt.Fprintf(w, "restored   %d blobs, %s in %.1f s\n", d.Restored.Blobs, size(d.Restored.Bytes), d.RestoreSeconds)
	fmt.Fprintf(w, "pulled     %d tags, %d manifests, %d blobs, %s in %.1f s\n", d.Tags, d.Manifests, d.Blobs, size(d.Bytes), d.PullSeconds)
	_, err := fmt.Fprintf(w, "vault %s: snapshot %s of %s: %d problems; all of it would take about %s\n",
		d.Vault, d.Snapshot, stamp(d.SnapshotTime), len(d.Problems), time.Duration(d.RTOSeconds)*time.Second)
	return err
}
