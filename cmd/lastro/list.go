package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
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
		Long:    "List prints the repositories of the local registry that match a pattern (default all), their tags, when clients last pulled those, and what they are protected as.",
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
	LastPulled  *time.Time    `json:"last_pulled"` // null: never, as far as is known
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
		pulled, err := s.lastPulled(ctx, state.Repo, state.Tag, state.Digest)
		if err != nil {
			return l, fmt.Errorf("list: %w", err)
		}
		repo := &l.Repositories[len(l.Repositories)-1]
		names, err := s.protectionNames(ctx, state.Repo, state.Digest)
		if err != nil {
			return l, fmt.Errorf("list: %w", err)
		}
		repo.Tags = append(repo.Tags, listedTag{Name: state.Tag, Digest: state.Digest, Since: state.Since, LastPulled: pulled, Protections: names})
	}
	return l, nil
}

// protectionNames are those that a manifest is protected as now.
func (s *site) protectionNames(ctx context.Context, repo string, d digest.Digest) ([]string, error) {
	active, err := s.activeProtections(ctx, repo, d)
	names := []string{}
	for _, p := range active {
		names = append(names, p.Name)
	}
	return names, err
}

// lastPulled is nil for what was never pulled, as far as is known.
func (s *site) lastPulled(ctx context.Context, repo, tag string, d digest.Digest) (*time.Time, error) {
	t, err := s.ledger().LastPulled(ctx, repo, tag, d)
	if err != nil || t.IsZero() {
		return nil, err
	}
	return &t, nil
}

func (l listing) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "IMAGE\tDIGEST\tSINCE\tLAST PULLED\tPROTECTED\n")
	for _, r := range l.Repositories {
		for _, tag := range r.Tags {
			fmt.Fprintf(t, "%s:%s\t%s\t%s\t%s\t%s\n", r.Name, tag.Name, tag.Digest, stamp(tag.Since), pulledStamp(tag.LastPulled), cmp.Or(strings.Join(tag.Protections, ", "), "-"))
		}
	}
	return t.Flush()
}

func pulledStamp(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return stamp(*t)
}
