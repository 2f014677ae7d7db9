package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"lastro/configs"
	"lastro/mirror"
)

func (c *cli) syncCommand() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "sync [RULE…] [--dry-run]",
		Short: "plan and apply mirror rules now",
		Long: `Sync copies what is new upstream for the named rules, or for all of them.

A tag moves in the local registry only when its whole image is stored, verified
and durable. One broken image fails alone: it is listed, the rest goes on, and
the exit code is 3. With --dry-run nothing is copied; the exit code is 4 when
something would be.`,
		Example: "  lastro sync\n  lastro sync debian --dry-run",
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print the plan and change nothing")
	cmd.RunE = c.verb(func(ctx context.Context, s *site, args []string) error {
		rules, err := chosen(s.cfg().Mirror, args)
		if err != nil {
			return err
		}
		if dryRun {
			return c.planSync(ctx, s, rules)
		}
		return c.applySync(ctx, s, rules)
	})
	return cmd
}

func (c *cli) planSync(ctx context.Context, s *site, rules []mirror.Rule) error {
	plan, err := s.planSync(ctx, rules)
	if err != nil {
		return err
	}
	if err := c.print(plan); err != nil {
		return err
	}
	switch {
	case plan.Failed() > 0:
		return outcome{exitPart, fmt.Sprintf("sync: %d of the images could not be planned", plan.Failed())}
	case plan.Changes() > 0:
		return outcome{exitDifference, ""}
	}
	return nil
}

func (c *cli) applySync(ctx context.Context, s *site, rules []mirror.Rule) error {
	bars := c.bars()
	report, err := s.sync(ctx, rules, bars)
	bars.Close()
	if err != nil {
		return err
	}
	if err := c.print(report); err != nil {
		return err
	}
	if n := report.Failed(); n > 0 {
		return outcome{exitPart, fmt.Sprintf("sync: %d images failed and are as they were; the rest is done", n)}
	}
	return nil
}

// chosen picks rules by name; no names pick all.
func chosen(all []configs.Mirror, names []string) ([]mirror.Rule, error) {
	var rules []mirror.Rule
	for _, m := range all {
		if len(names) == 0 || slices.Contains(names, m.Rule.Name) {
			rules = append(rules, m.Rule)
		}
	}
	for _, name := range names {
		if !slices.ContainsFunc(rules, func(r mirror.Rule) bool { return r.Name == name }) {
			return nil, usageError{fmt.Errorf("no rule is named %q; the rules are: %s", name, strings.Join(ruleNames(all), ", "))}
		}
	}
	return rules, nil
}

func ruleNames(all []configs.Mirror) []string {
	var names []string
	for _, m := range all {
		names = append(names, m.Rule.Name)
	}
	return names
}
