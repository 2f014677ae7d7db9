package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"lastro/mirror"
)

func (c *cli) listCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list [PATTERN]",
		Short:   "repositories and tags of the local registry",
		Long:    "List prints the repositories of the local registry that match a pattern (default all) and their tags.",
		Example: "  lastro list\n  lastro list 'docker.io/library/*'",
		Args:    takes(cobra.MaximumNArgs(1)),
		RunE: c.verb(func(ctx context.Context, s *site, args []string) error {
			l, err := s.list(ctx, append(args, "**")[0])
			if err != nil {
				return err
			}
			return c.print(l)
		}),
	}
}

type listing struct {
	Repositories []listedRepository `json:"repositories"`
}

type listedRepository struct {
	Name string      `json:"name"`
	Tags []listedTag `json:"tags"`
}

type listedTag struct {
	Name        string        `json:"name"`
	Digest      digest.Digest `json:"digest"`
	Since       time.Time     `json:"since"`
	LastPulled  *time.Time    `json:"last_pulled"` // null: not known
	Protections []string      `json:"protections"`
}

func (s *site) list(ctx context.Context, pattern string) (listing, error) {
	p, err := mirror.ParsePattern(pattern)
	if err != nil {
		return listing{}, usageError{err}
	}
	l := listing{Repositories: []listedRepository{}}
	for state, err := range s.ledger().Tags(ctx, "") {
		if err != nil {
			return l, fmt.Errorf("list: %w", err)
		}
		if !p.Match(state.Repo) {
			continue
		}
		if n := len(l.Repositories); n == 0 || l.Repositories[n-1].Name != state.Repo {
			l.Repositories = append(l.Repositories, listedRepository{Name: state.Repo})
		}
		repo := &l.Repositories[len(l.Repositories)-1]
		repo.Tags = append(repo.Tags, listedTag{Name: state.Tag, Digest: state.Digest, Since: state.Since, Protections: []string{}})
	}
	return l, nil
}

func (l listing) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "IMAGE\tDIGEST\tSINCE\n")
	for _, r := range l.Repositories {
		for _, tag := range r.Tags {
			fmt.Fprintf(t, "%s:%s\t%s\t%s\n", r.Name, tag.Name, tag.Digest, stamp(tag.Since))
		}
	}
	return t.Flush()
}
