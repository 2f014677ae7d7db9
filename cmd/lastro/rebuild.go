package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

func (c *cli) rebuildCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rebuild",
		Short: "make the ledger's graph anew from the local registry",
		Long: `Rebuild reads every manifest of the local registry and makes the ledger's graph
anew: what refers to what. The history of the tags is kept; a tag that the
ledger does not know is adopted as of now. Stopping it is safe.`,
		Args: takes(cobra.NoArgs),
		RunE: c.verb(func(ctx context.Context, s *site, _ []string) error {
			rebuilt, err := s.rebuild(ctx)
			if err != nil {
				return err
			}
			if err := c.print(rebuilt); err != nil {
				return err
			}
			if n := len(rebuilt.Problems); n > 0 {
				return outcome{exitPart, fmt.Sprintf("rebuild: %d problems; what they touch was kept as it was", n)}
			}
			return nil
		}),
	}
}
