package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"lastro/store/ledger"
)

// rollbackFlags are what a person says of a rollback.
type rollbackFlags struct {
	to, at, reason string
	release, list  bool
}

func (c *cli) rollbackCommand() *cobra.Command {
	var f rollbackFlags
	cmd := &cobra.Command{
		Use:   "rollback REF (--to DIGEST | --at TIME) [--reason R] | rollback --release REF | rollback --list",
		Short: "put a tag back, and hold it there against sync",
		Long: `Rollback puts a tag back to a digest that is here as a whole: the one given, or
the one that the tag had at a time. From then on syncs and pulls leave the tag
there, retention keeps it, and clients cannot delete it, until it is released;
the next sync then follows the upstream again.`,
		Example: `  lastro rollback ghcr.io/org/app:stable --at 2d --reason "1.4 breaks logins"
  lastro rollback debian:12 --to sha256:…
  lastro rollback --release ghcr.io/org/app:stable`,
		Args: takes(cobra.MaximumNArgs(1)),
	}
	cmd.Flags().StringVar(&f.to, "to", "", "the `digest` to put it back to")
	cmd.Flags().StringVar(&f.at, "at", "", "the `time` whose digest to put it back to: a date, an RFC 3339 time, or an age such as 7d")
	cmd.Flags().StringVar(&f.reason, "reason", "", "why, for who asks later")
	cmd.Flags().BoolVar(&f.release, "release", false, "let the tag follow its upstream again")
	cmd.Flags().BoolVar(&f.list, "list", false, "print the tags that are held so")
	cmd.RunE = c.verb(func(ctx context.Context, s *site, args []string) error {
		if err := f.check(args); err != nil {
			return err
		}
		switch {
		case f.list:
			held, err := s.tagHolds(ctx)
			return c.printed(held, err)
		case f.release:
			released, err := s.releaseTag(ctx, args[0], c.person(), f.reason)
			return c.printed(released, err)
		}
		at, err := c.timeFlag("--at", f.at, time.Time{})
		if err != nil {
			return err
		}
		back, err := s.rollback(ctx, args[0], digest.Digest(f.to), at, ledger.TagHold{By: c.person(), Reason: f.reason})
		return c.printed(back, err)
	})
	return cmd
}

func (f rollbackFlags) check(args []string) error {
	targets := 0
	for _, given := range []bool{f.to != "", f.at != "", f.release, f.list} {
		if given {
			targets++
		}
	}
	switch {
	case targets != 1:
		return usageError{errors.New("rollback wants one of --to DIGEST, --at TIME, --release and --list")}
	case f.list != (len(args) == 0):
		return usageError{errors.New("rollback wants an image, and --list none")}
	case f.to != "" && digest.Digest(f.to).Validate() != nil:
		return usageError{fmt.Errorf("--to %q is no digest (example: sha256:…, as \"lastro history\" prints them)", f.to)}
	}
	return nil
}

// printed prints a result that there is.
func (c *cli) printed(v printable, err error) error {
	if err != nil {
		return err
	}
	return c.print(v)
}

// rolledBack is a tag that was put back.
type rolledBack struct {
	ledger.TagHold
	Previous digest.Digest `json:"previous"`
}

func (r rolledBack) Print(w io.Writer) error {
	was := "was not there"
	switch {
	case r.Previous == r.Digest:
		was = "was there already"
	case r.Previous != "":
		was = "was at " + r.Previous.String()
	}
	_, err := fmt.Fprintf(w, "%s:%s is at %s and held there; it %s\nto let it follow its upstream again: lastro rollback --release %s:%s\n", r.Repo, r.Tag, r.Digest, was, r.Repo, r.Tag)
	return err
}

// released is a tag that follows its upstream again.
type released struct{ ledger.TagHold }

func (r released) Print(w io.Writer) error {
	_, err := fmt.Fprintf(w, "%s:%s is no longer held at %s\n", r.Repo, r.Tag, r.Digest)
	return err
}

// heldTags are all that are held.
type heldTags struct {
	Held []ledger.TagHold `json:"held"`
}

func (h heldTags) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "IMAGE\tDIGEST\tSINCE\tBY\tREASON\n")
	for _, held := range h.Held {
		fmt.Fprintf(t, "%s:%s\t%s\t%s\t%s\t%s\n", held.Repo, held.Tag, held.Digest, stamp(held.Since), held.By, cmp.Or(held.Reason, "-"))
	}
	return t.Flush()
}
