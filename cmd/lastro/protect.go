package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"lastro/configs"
)

func (c *cli) protectCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "protect add|list|remove",
		Short: "named protections: what must stay, for whom, until when and why",
		Long: `Protect gives digests a name, so that they stay with all they refer to and all
that refers to them: retention keeps every tag at them, clients cannot delete
them, and nothing frees their content. A protection has an owner, may have a
reason, and may end by itself.`,
		Args: takes(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usageError{errors.New("protect what? One of add, list, remove (see \"lastro protect --help\")")}
		},
	}
	cmd.AddCommand(c.protectAddCommand(), c.protectListCommand(), c.protectRemoveCommand())
	for _, sub := range cmd.Commands() {
		sub.Long += "\n" + exitCodes
	}
	return cmd
}

// protectFlags are what a person says of a protection.
type protectFlags struct{ owner, reason, until, lasts string }

func (c *cli) protectAddCommand() *cobra.Command {
	var f protectFlags
	cmd := &cobra.Command{
		Use:   "add NAME REF… [--owner O] [--reason R] [--until TIME | --for DURATION]",
		Short: "protect images",
		Long: `Add protects images under a name. A tag is resolved at once: its digest is what
stays, wherever the tag goes. One name may protect many digests, and adding one
again replaces its owner, reason and end. Either all that is named is there, or
nothing is protected.`,
		Example: `  lastro protect add release-2026.1 debian:12 ghcr.io/org/app:1.4 --reason "shipped to the site"
  lastro protect add audit docker.io/library/debian@sha256:… --owner ann --for 90d`,
		Args: takes(cobra.MinimumNArgs(2)),
	}
	cmd.Flags().StringVar(&f.owner, "owner", "", "who to ask (default: the user who types this)")
	cmd.Flags().StringVar(&f.reason, "reason", "", "why, for who asks later")
	cmd.Flags().StringVar(&f.until, "until", "", "when it ends: a date (its beginning, in UTC) or an RFC 3339 `time` (default: never)")
	cmd.Flags().StringVar(&f.lasts, "for", "", "how long from now, such as 90d")
	cmd.RunE = c.verb(func(ctx context.Context, s *site, args []string) error {
		p, err := c.protection(args[0], f)
		if err != nil {
			return err
		}
		report, err := s.protect(ctx, p, args[1:])
		if err != nil {
			return err
		}
		return c.print(addedProtections{report})
	})
	return cmd
}

func (c *cli) protectListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list [NAME]",
		Short:   "what is protected",
		Long:    "List prints the protections, or those of a name. One that has expired protects no more and stays listed until it is removed.",
		Example: "  lastro protect list\n  lastro protect list release-2026.1 --output json",
		Args:    takes(cobra.MaximumNArgs(1)),
		RunE: c.verb(func(ctx context.Context, s *site, args []string) error {
			report, err := s.protections(ctx, append(args, "")[0])
			if err != nil {
				return err
			}
			return c.print(report)
		}),
	}
}

func (c *cli) protectRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "remove NAME [REF…]",
		Short: "end a protection",
		Long: `Remove takes a name from the images, or from all that have it. A tag means the
digest that it is at now, and any that was protected by that tag. What was
protected stays until something else removes it.`,
		Example: "  lastro protect remove audit\n  lastro protect remove release-2026.1 debian:12",
		Args:    takes(cobra.MinimumNArgs(1)),
		RunE: c.verb(func(ctx context.Context, s *site, args []string) error {
			report, err := s.unprotect(ctx, args[0], args[1:], c.person())
			if err != nil {
				return err
			}
			return c.print(removedProtections{report})
		}),
	}
}

// ends reads when a protection ends; zero is never.
func (c *cli) ends(f protectFlags) (time.Time, error) {
	if f.until != "" && f.lasts != "" {
		return time.Time{}, usageError{errors.New("--until and --for both say when it ends: give one")}
	}
	if f.lasts != "" {
		d, err := configs.ParseDuration(f.lasts)
		if err != nil || d <= 0 {
			return time.Time{}, usageError{fmt.Errorf("--for %q is no duration from now on (examples: 90d, 12h)", f.lasts)}
		}
		return c.now().Add(d), nil
	}
	if f.until == "" {
		return time.Time{}, nil
	}
	t, ok := parseTime(f.until)
	switch {
	case !ok:
		return t, usageError{fmt.Errorf("--until %q is no time (examples: 2027-01-31, 2027-01-31T12:00:00Z; or --for 90d)", f.until)}
	case !t.After(c.now()):
		return t, usageError{fmt.Errorf("--until %q has passed", f.until)}
	}
	return t, nil
}
