package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

func (c *cli) retainCommand() *cobra.Command {
	var o retainOptions
	cmd := &cobra.Command{
		Use:   "retain [--dry-run] [--explain REF] [--max-removals SHARE]",
		Short: "apply retention: which tags go, and why",
		Long: `Retain removes the tags that no line of the retention rules keeps, and says for
each tag which line keeps it or why it goes. Only tags are removed, never
bytes. Signatures and attestations stay with the image that they are about. What
is protected (lastro protect) stays whatever the rules say. With --explain it says
of one tag also when it goes.

When a rule would remove more than max-removals of a repository's tags (default
20%), nothing is removed there and the exit code is 3; --max-removals 100% lets
one run go on. The last tag of a repository is never removed.`,
		Example: "  lastro retain --dry-run\n  lastro retain --explain debian:12",
		Args:    takes(cobra.NoArgs),
	}
	f := cmd.Flags()
	f.BoolVar(&o.dryRun, "dry-run", false, "print the decisions and remove nothing")
	f.StringVar(&o.explain, "explain", "", "print only the decision on this `image`, and when it goes; remove nothing")
	f.StringVar(&o.maxRemovals, "max-removals", "", "let this run remove up to this `share` of a repository, such as 50%")
	cmd.RunE = c.verb(func(ctx context.Context, s *site, _ []string) error {
		report, err := s.retain(ctx, o)
		if err != nil {
			return err
		}
		if err := c.print(report); err != nil {
			return err
		}
		if n := len(report.Refused); n > 0 {
			return outcome{exitPart, fmt.Sprintf("retain: refused in %d repositories; nothing was removed there", n)}
		}
		return nil
	})
	return cmd
}
