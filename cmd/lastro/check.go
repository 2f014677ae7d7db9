package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"lastro/store/check"
)

func (c *cli) checkCommand() *cobra.Command {
	var read string
	var repair bool
	cmd := &cobra.Command{
		Use:   "check [PATTERN…] [--read N/M] [--repair]",
		Short: "prove the store and the ledger right, and heal what is not",
		Long: `Check looks at the repositories that match a pattern (default: at everything):
whether every tag and manifest has what it needs, with the right length, and
whether the ledger says the same. Of content it reads only manifests. With --read
N/M it also reads and hashes the N-th of M parts of all content, so that M runs
with the same M cover everything once; --read 1/1 is everything.

Without --repair it changes nothing. With it, it heals what it can: bad content is
moved to <data>/registry/quarantine and fetched again by its digest, from a vault or
from the upstream that the repository is a mirror of; links are made again; the
ledger learns what the registry serves. Everything is hashed before anybody sees it.

It runs beside syncs, pushes and pulls. The exit code is 4 when a problem is left.

The daemon checks by itself, by default every 24 hours: all that is compared, and
the thirtieth of the bytes that is longest unread, at 20 MiB a second and slower
while clients are answered. It takes bad content out of service at once and, unless
told not to, heals (check: {every, part, bandwidth, repair} in the configuration).
What is left is in lastro status, in the log and in the metrics lastro_check_*.`,
		Example: "  lastro check\n  lastro check --read 1/30\n  lastro check 'docker.io/**' --read 1/1 --repair",
	}
	cmd.Flags().StringVar(&read, "read", "", "read and hash part `N/M` of all content")
	cmd.Flags().BoolVar(&repair, "repair", false, "heal what can be healed")
	cmd.RunE = c.verb(func(ctx context.Context, s *site, patterns []string) error {
		o := check.Options{Repair: repair, Now: c.now}
		var err error
		if o.Part, o.Parts, err = readPart(read); err != nil {
			return err
		}
		if o.Match, err = matchAny(patterns); err != nil {
			return err
		}
		return c.check(ctx, s, o, patterns)
	})
	return cmd
}

func (c *cli) check(ctx context.Context, s *site, o check.Options, patterns []string) error {
	bars := c.bars()
	o.Progress = bars
	report, err := s.check(ctx, o)
	bars.Close()
	if err != nil {
		return err
	}
	if report.Repositories == 0 && len(patterns) > 0 {
		return fmt.Errorf("check: no repository matches %s", strings.Join(patterns, ", "))
	}
	if err := c.print(report); err != nil {
		return err
	}
	if n := report.Left(); n > 0 {
		return outcome{exitDifference, fmt.Sprintf("check: %d problems", n)}
	}
	return nil
}

// check holds a share while it repairs: a rebuild waits.
func (s *site) check(ctx context.Context, o check.Options) (check.Report, error) {
	if o.Repair {
		o.Sources, o.Share = s.contentSources(), s.share
	}
	return check.Run(ctx, s.store, o)
}

// readPart reads what --read says.
func readPart(text string) (part, parts int, err error) {
	if text == "" {
		return 0, 0, nil
	}
	n, m, _ := strings.Cut(text, "/")
	part, err = strconv.Atoi(n)
	parts, err2 := strconv.Atoi(m)
	if errors.Join(err, err2) != nil || part < 1 || part > parts {
		return 0, 0, usageError{fmt.Errorf("--read %q is not a part of something (example: 1/30)", text)}
	}
	return part, parts, nil
}

// matchAny is nil when there are no patterns.
func matchAny(texts []string) (func(string) bool, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	patterns, err := readPatterns(texts)
	if err != nil {
		return nil, usageError{err}
	}
	return func(repo string) bool { return matches(patterns, repo) }, nil
}
