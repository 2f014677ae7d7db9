package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lastro/configs"
	"lastro/mirror"
)

// syncFlags are what a person says of one sync.
type syncFlags struct {
	dryRun        bool
	explain       string
	release       []string
	allowRemovals bool
	wait          bool
}

func (c *cli) syncCommand() *cobra.Command {
	var f syncFlags
	cmd := &cobra.Command{
		Use:   "sync [RULE…] [--dry-run [--explain REF]] [--release REF…] [--allow-removals] [--wait]",
		Short: "plan and apply mirror rules now",
		Long: `Sync copies what is new upstream for the named rules, or for all of them.

A tag moves in the local registry only when its whole image is stored, verified
and durable. One broken image fails alone: it is listed, the rest goes on, and
the exit code is 3. With --dry-run nothing is copied; the exit code is 4 when
something would be. It also says how many pulls are needed, how many the
upstreams still allow, and when it will be done. With --explain it says instead
what each rule makes of one tag, and why.

Where an upstream limits requests, what cannot be had now is deferred and the
rest goes on; the exit code is 3, and the daemon comes back by itself. With
--wait sync stays until it is done.

A digest that min-age holds back, or an immutable tag that moved, is published
when --release names it. More tags that vanished upstream than a fifth of a
repository are only removed (removed-upstream: retire) with --allow-removals.`,
		Example: `  lastro sync
  lastro sync debian --dry-run
  lastro sync --dry-run --explain docker.io/library/debian:12.5-slim
  lastro sync debian --release docker.io/library/debian:12`,
	}
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "print the plan and change nothing")
	cmd.Flags().StringVar(&f.explain, "explain", "", "say why a tag is or is not selected (with --dry-run)")
	cmd.Flags().StringArrayVar(&f.release, "release", nil, "publish this image although it is too young or immutable; may be repeated")
	cmd.Flags().BoolVar(&f.allowRemovals, "allow-removals", false, "remove however many tags vanished upstream")
	cmd.Flags().BoolVar(&f.wait, "wait", false, "wait for upstreams that limit requests")
	cmd.RunE = c.verb(func(ctx context.Context, s *site, args []string) error {
		rules, err := chosen(s.cfg().Mirror, args)
		if err != nil {
			return err
		}
		o, err := s.syncOptions(f)
		switch {
		case err != nil:
			return err
		case f.explain != "" && !f.dryRun:
			return usageError{errors.New("--explain goes with --dry-run: lastro sync --dry-run --explain " + f.explain)}
		case f.explain != "":
			return c.explainSync(ctx, s, rules, f.explain)
		case f.dryRun:
			return c.planSync(ctx, s, rules, o)
		}
		return c.applySync(ctx, s, rules, o)
	})
	return cmd
}

// syncOptions are what a person lets a sync do beyond its rules.
type syncOptions struct {
	released      map[string]bool // local "repo:tag"
	allowRemovals bool
	wait          bool
}

func (s *site) syncOptions(f syncFlags) (syncOptions, error) {
	o := syncOptions{released: map[string]bool{}, allowRemovals: f.allowRemovals, wait: f.wait}
	for _, text := range f.release {
		image, repositories, err := s.candidates(text)
		switch {
		case err != nil:
			return o, err
		case image.digest != "":
			return o, usageError{fmt.Errorf("%q names a digest: give a tag", text)}
		}
		for _, repo := range repositories { // what was never here is not known by its name yet
			o.released[repo+":"+image.tag] = true
		}
	}
	return o, nil
}

// explainSync says what rules make of one tag, which a person names as it is
// upstream or here.
func (c *cli) explainSync(ctx context.Context, s *site, rules []mirror.Rule, text string) error {
	ref, err := mirror.ParseReference(text)
	if err != nil {
		return usageError{err}
	}
	if ref.Tag == "" {
		ref.Tag = "latest"
	}
	ref.Digest = ""
	explanation, err := s.engine(nil).Explain(ctx, rules, ref)
	if err != nil {
		return err
	}
	return c.print(explanation)
}

func (c *cli) planSync(ctx context.Context, s *site, rules []mirror.Rule, o syncOptions) error {
	plan, err := s.planSync(ctx, rules, o)
	if err != nil {
		return err
	}
	if err := c.print(plan); err != nil {
		return err
	}
	switch n := plan.Failed() + plan.Deferred(); {
	case n > 0:
		return outcome{exitPart, fmt.Sprintf("sync: %d of the images could not be planned", n)}
	case plan.Changes() > 0:
		return outcome{exitDifference, ""}
	}
	return nil
}

func (c *cli) applySync(ctx context.Context, s *site, rules []mirror.Rule, o syncOptions) error {
	bars := c.bars()
	report, err := s.syncWaiting(ctx, rules, o, bars)
	bars.Close()
	if err != nil {
		return err
	}
	if err := c.print(report); err != nil {
		return err
	}
	n := report.Failed()
	deferred, until := report.Deferred()
	switch {
	case deferred > 0:
		return outcome{exitPart, fmt.Sprintf("sync: %d images failed and %d wait for their upstream, which limits requests until %s: they are as they were; the rest is done", n, deferred, stamp(until))}
	case n > 0:
		return outcome{exitPart, fmt.Sprintf("sync: %d images failed and are as they were; the rest is done", n)}
	}
	return nil
}

// syncWaiting syncs, and with the option to wait again for as long as upstreams
// defer something.
func (s *site) syncWaiting(ctx context.Context, rules []mirror.Rule, o syncOptions, p mirror.Progress) (mirror.Report, error) {
	report, err := s.sync(ctx, rules, o, p)
	for err == nil && o.wait {
		n, until := report.Deferred()
		if n == 0 {
			break
		}
		s.log.Info("waiting for an upstream that limits requests", "images", n, "until", until)
		if err = s.pause(ctx, until.Sub(s.now())); err != nil {
			break
		}
		var next mirror.Report
		next, err = s.sync(ctx, rules, o, p)
		report = report.Then(next)
	}
	return report, err
}

// pause waits at least a second, so that a clock that is off makes no storm.
func (s *site) pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(max(time.Second, d))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// chosen picks rules by name; no names pick all that are synced by themselves.
func chosen(all []configs.Mirror, names []string) ([]mirror.Rule, error) {
	var rules []mirror.Rule
	for _, m := range all {
		if len(names) == 0 && !m.Every.Never() || slices.Contains(names, m.Rule.Name) {
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
