package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"io/fs"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"lastro/store/ledger"
)

func (c *cli) historyCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "history REF",
		Short:   "every digest a tag had, from when to when, and why it changed",
		Example: "  lastro history debian:12",
		Args:    takes(cobra.ExactArgs(1)),
		RunE: c.verb(func(ctx context.Context, s *site, args []string) error {
			h, err := s.history(ctx, args[0])
			if err != nil {
				return err
			}
			return c.print(h)
		}),
	}
}

type tagHistory struct {
	Repo   string         `json:"repo"`
	Tag    string         `json:"tag"`
	Events []ledger.Event `json:"events"`
}

func (s *site) history(ctx context.Context, text string) (tagHistory, error) {
	ref, err := s.taggedReference(ctx, text)
	if err != nil {
		return tagHistory{}, err
	}
	events, err := s.ledger().History(ctx, ref.repo, ref.tag)
	if err == nil && len(events) == 0 {
		err = fs.ErrNotExist
	}
	if err != nil {
		return tagHistory{}, s.explainMissing(ctx, ref, time.Time{}, err)
	}
	return tagHistory{Repo: ref.repo, Tag: ref.tag, Events: events}, nil
}

// Print lists the oldest event first. What moved no tag has no digest.
func (h tagHistory) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "TIME\tEVENT\tDIGEST\tBY\tREASON\n")
	for _, e := range h.Events {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", stamp(e.Time), e.Event, cmp.Or(e.Digest.String(), "-"), e.By, e.Reason)
	}
	return t.Flush()
}
