package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"lastro/store/vault"
)

func (c *cli) backupCommand() *cobra.Command {
	var empty bool
	cmd := &cobra.Command{
		Use:   "backup [NAME] [--allow-empty]",
		Short: "back up to a vault; list, show, verify, forget and prune snapshots",
		Long: `Backup saves a snapshot of the local registry and of the ledger's history to
the named vault, or to every vault of the configuration. Only what the vault
does not hold is sent. A snapshot is visible when it is whole, or not at all. An
empty registry is not saved over a snapshot with images: it may have been lost.`,
		Example: "  lastro backup\n  lastro backup main\n  lastro backup verify main",
		Args:    takes(cobra.MaximumNArgs(1)),
	}
	cmd.Flags().BoolVar(&empty, "allow-empty", false, "save an empty registry, also where the snapshot before has images")
	cmd.RunE = c.verb(func(ctx context.Context, s *site, args []string) error {
		names, err := vaultNames(s.cfg().Backup, args)
		if err != nil {
			return err
		}
		return c.backup(ctx, s, names, empty)
	})
	cmd.AddCommand(c.backupInitCommand(), c.backupListCommand(), c.backupShowCommand(), c.backupVerifyCommand(), c.backupDrillCommand(), c.backupForgetCommand(), c.backupPruneCommand())
	for _, sub := range cmd.Commands() {
		sub.Long += "\n" + exitCodes
	}
	return cmd
}

// backup saves to each vault, whatever becomes of the others.
func (c *cli) backup(ctx context.Context, s *site, names []string, empty bool) error {
	var done backups
	var errs []error
	for _, name := range names {
		bars := c.bars()
		report, err := s.backup(ctx, name, empty, bars)
		bars.Close()
		if err != nil {
			errs = append(errs, err)
			done.Failed = append(done.Failed, backupFailure{name, err.Error()})
			continue
		}
		done.Reports = append(done.Reports, report)
	}
	failed := errors.Join(errs...)
	if len(done.Reports) == 0 {
		return failed
	}
	if err := c.print(done); err != nil {
		return err
	}
	n := done.failed()
	switch {
	case failed != nil && ctx.Err() != nil:
		return failed
	case failed != nil:
		return outcome{exitPart, failed.Error()}
	case n > 0:
		return outcome{exitPart, fmt.Sprintf("backup: %d images are not in the snapshot as they are here; the rest is", n)}
	}
	return nil
}

func (c *cli) backupListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list [NAME]",
		Short: "the snapshots of a vault",
		Long: `List prints what a vault is (encrypted or not, how many daemons may back up to it,
until when all of it is locked), and its snapshots, the oldest first. It reads two
small objects of the vault, and needs no identity where that is encrypted.`,
		Args: takes(cobra.MaximumNArgs(1)),
		RunE: c.verb(func(ctx context.Context, s *site, args []string) error {
			v, err := s.oneVault(ctx, args)
			if err != nil {
				return err
			}
			l, err := v.List(ctx)
			if err != nil {
				return err
			}
			return c.print(shownVault(l))
		}),
	}
}

func (c *cli) backupShowCommand() *cobra.Command {
	var from string
	var index, config bool
	cmd := &cobra.Command{
		Use:   "show SNAPSHOT [--index | --configuration]",
		Short: "one snapshot: its images and where they lie",
		Long: `Show prints one snapshot (an ID of "backup list", or latest) and the images in
it. With --index it prints the index.json of an OCI image layout that has these
images, each named REPOSITORY:TAG: written into a plain copy of the vault it lets
skopeo, crane and oras read the copy as it was at that snapshot. With --configuration
it prints the configuration that the snapshot was made with; secrets are in no
snapshot, and stand there as *** or as the ${env:…} and ${file:…} that gave them.`,
		Example: "  lastro backup show latest\n  lastro backup show 01JB2 --index > copy/index.json",
		Args:    takes(cobra.ExactArgs(1)),
	}
	cmd.Flags().StringVar(&from, "from", "", "the `vault`, when the configuration has several")
	cmd.Flags().BoolVar(&config, "configuration", false, "print the configuration that the snapshot was made with")
	cmd.Flags().BoolVar(&index, "index", false, "print the snapshot as the index.json of an OCI image layout")
	cmd.MarkFlagsMutuallyExclusive("index", "configuration")
	cmd.RunE = c.verb(func(ctx context.Context, s *site, args []string) error {
		v, err := s.oneVault(ctx, optional(from))
		if err != nil {
			return err
		}
		if index {
			return c.printIndex(ctx, v, args[0])
		}
		if config {
			return c.printConfiguration(ctx, v, args[0])
		}
		shown, err := v.Show(ctx, args[0])
		if err != nil {
			return err
		}
		return c.print(shownSnapshot(shown))
	})
	return cmd
}

func (c *cli) printConfiguration(ctx context.Context, v *vault.Vault, snapshot string) error {
	text, err := v.Configuration(ctx, snapshot)
	if err == nil && text == "" {
		err = fmt.Errorf("backup show: the snapshot %s has no configuration: an older version made it", snapshot)
	}
	if err != nil {
		return err
	}
	_, err = c.stdout.Write([]byte(text))
	return err
}

// printIndex writes the bytes as they belong into a file, whatever --output says.
func (c *cli) printIndex(ctx context.Context, v *vault.Vault, snapshot string) error {
	data, err := v.Flat(ctx, snapshot)
	if err == nil {
		_, err = c.stdout.Write(data)
	}
	return err
}

func (c *cli) backupVerifyCommand() *cobra.Command {
	var o vault.VerifyOptions
	var read string
	var repair bool
	cmd := &cobra.Command{
		Use:   "verify [NAME] [--snapshot ID | --all] [--list | --head | --read N/M] [--repair]",
		Short: "read and hash what snapshots need",
		Long: `Verify reads every object that a snapshot (default: the newest) needs, hashes
it, and lists what is missing or wrong with the images that it hurts. With --all
it does so for every snapshot; what several of them need is read once. With --list
only records and manifests are read, and blobs are compared with a listing in name
and length. With --head each blob is asked for besides: its length, and the SHA-256
that the server itself has reckoned, where lastro backup init saw that the server
refuses bytes with another one. With --read N/M a listing is compared, and the N-th
of M parts of all blobs of all snapshots is read as well: M such runs read
everything. The daemon does that by itself (verify: in the configuration). How much
was read, how much is right by the server's hash and how much by its length alone is
said, and since when the byte was not read that is longest unread.

With --repair right bytes are put in the place of what is missing or wrong, from the
first that has them: the local registry, an older version in a bucket that keeps them,
another vault of the configuration, the upstream that the image comes from. They are
hashed before, on the way and after; what is right is never written over. The daemon
repairs whenever it verifies. Where the vault is encrypted and there is no identity,
only --list alone is possible: all that this machine has sent there is compared with a
listing, and nothing is read; the daemon does that. The exit code is 4 when a problem
is left; the next backup tries the local registry again.`,
		Example: "  lastro backup verify\n  lastro backup verify main --all --repair\n  lastro backup verify main --read 1/7",
		Args:    takes(cobra.MaximumNArgs(1)),
	}
	f := cmd.Flags()
	f.StringVar(&o.Snapshot, "snapshot", "", "the snapshot's `id` (default: the newest)")
	f.BoolVar(&o.All, "all", false, "verify every snapshot of the vault")
	f.BoolVar(&o.List, "list", false, "compare blobs with a listing, and read none")
	f.BoolVar(&o.Head, "head", false, "ask for the length and the server's own SHA-256 of each blob, and read none")
	f.StringVar(&read, "read", "", "read and hash part `N/M` of all blobs of all snapshots")
	f.BoolVar(&repair, "repair", false, "put right bytes in the place of what is missing or wrong")
	cmd.MarkFlagsMutuallyExclusive("snapshot", "all")
	cmd.MarkFlagsMutuallyExclusive("snapshot", "read")
	cmd.MarkFlagsMutuallyExclusive("list", "head", "read")
	cmd.RunE = c.verb(func(ctx context.Context, s *site, args []string) (err error) {
		if o.Part, o.Parts, err = readPart(read); err != nil {
			return err
		}
		v, err := s.oneVault(ctx, args)
		if err != nil {
			return err
		}
		o.All = o.All || o.Parts > 0
		if repair {
			o.Repair = s.repairs(v.Name)
		}
		return c.verify(ctx, s, v, o)
	})
	return cmd
}

func (c *cli) verify(ctx context.Context, s *site, v *vault.Vault, o vault.VerifyOptions) error {
	bars := c.bars()
	all, err := s.verifyAll(ctx, v, o, bars)
	bars.Close()
	if err != nil {
		return err
	}
	var result printable = shownVerifications(all)
	if !o.All && len(all.Snapshots) == 1 {
		result = shownVerification(all.One())
	}
	if err := c.print(result); err != nil {
		return err
	}
	return verdict(v, all.Left())
}

func verdict(v *vault.Vault, problems int) error {
	if problems == 0 {
		return nil
	}
	return outcome{exitDifference, fmt.Sprintf("backup verify: %d problems in vault %s", problems, v.Name)}
}

// optional is a flag's value as an argument list.
func optional(value string) []string {
	if value == "" {
		return nil
	}
	return []string{value}
}
