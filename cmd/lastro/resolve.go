package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
)

func (c *cli) resolveCommand() *cobra.Command {
	var at string
	cmd := &cobra.Command{
		Use:   "resolve REF [--at TIME]",
		Short: "the digest that a tag has now, or had at a time",
		Long: `Resolve prints the digest of a tag in the local registry. With --at it prints
the digest that the tag had here at that time: a date (2026-05-01), a time
(2026-05-01T12:00:00Z) or an age (7d).`,
		Example: "  lastro resolve debian:12\n  lastro resolve docker.io/library/debian:12 --at 2026-05-01",
		Args:    takes(cobra.ExactArgs(1)),
	}
	cmd.Flags().StringVar(&at, "at", "", "a `time`: a date, an RFC 3339 time, or an age such as 7d")
	cmd.RunE = c.verb(func(ctx context.Context, s *site, args []string) error {
		when, err := c.timeFlag("--at", at, c.now())
		if err != nil {
			return err
		}
		res, err := s.resolve(ctx, args[0], when)
		if err != nil {
			return err
		}
		return c.print(res)
	})
	return cmd
}

type resolved struct {
	Repo   string        `json:"repo"`
	Tag    string        `json:"tag"`
	Digest digest.Digest `json:"digest"`
	Since  time.Time     `json:"since"`
	At     time.Time     `json:"at"`
}

func (r resolved) Print(w io.Writer) error {
	_, err := fmt.Fprintln(w, r.Digest)
	return err
}

// resolve answers from the ledger. The time counts from when the tag was first
// seen here, which is not when it was pushed upstream.
func (s *site) resolve(ctx context.Context, text string, at time.Time) (resolved, error) {
	ref, err := s.taggedReference(ctx, text)
	if err != nil {
		return resolved{}, err
	}
	state, err := s.ledger().At(ctx, ref.repo, ref.tag, at)
	if err != nil {
		return resolved{}, s.explainMissing(ctx, ref, at, err)
	}
	return resolved{Repo: ref.repo, Tag: ref.tag, Digest: state.Digest, Since: state.Since, At: at.UTC()}, nil
}
