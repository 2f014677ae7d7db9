package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"lastro/store/ledger"
)

func (c *cli) undoCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "undo DIGEST…",
		Short: "take a condemned digest back",
		Long: `Undo takes digests back that collect has condemned, wherever they are, with all
that they refer to. The beginning of a digest is enough where it fits one only
("lastro collect --dry-run" lists those that would be condemned next). What is
taken back stays for collect.grace from now: put a tag or a protection there to
keep it.`,
		Example: "  lastro undo sha256:5f70bf18a086\n  lastro protect add keep docker.io/library/debian@sha256:…",
		Args:    takes(cobra.MinimumNArgs(1)),
		RunE: c.verb(func(ctx context.Context, s *site, args []string) error {
			report, err := s.undo(ctx, args)
			if err != nil {
				return err
			}
			return c.print(report)
		}),
	}
}

// undone is what was taken back.
type undone struct {
	Digests []undoneDigest `json:"digests"`
}

type undoneDigest struct {
	Digest       digest.Digest `json:"digest"`
	Repositories []string      `json:"repositories"`
	Until        time.Time     `json:"until"` // it stays at least until then
}

// undo finds all that is named before it takes any back.
func (s *site) undo(ctx context.Context, names []string) (out undone, err error) {
	var ds []digest.Digest
	for _, name := range names {
		d, err := s.condemned(ctx, name)
		if err != nil {
			return out, err
		}
		ds = append(ds, d)
	}
	for _, d := range ds {
		repos, err := s.store.TakeBack(ctx, d)
		if err != nil {
			return out, err
		}
		repos = slices.DeleteFunc(repos, func(repo string) bool { return repo == "" })
		slices.Sort(repos)
		out.Digests = append(out.Digests, undoneDigest{d, append([]string{}, repos...), s.now().Add(s.cfg().Collect.Grace).UTC()})
	}
	return out, nil
}

// condemned is the condemned digest that begins with a text.
func (s *site) condemned(ctx context.Context, text string) (found digest.Digest, err error) {
	for r, err := range s.ledger().Reviews(ctx) {
		if err != nil {
			return "", err
		}
		fits := strings.HasPrefix(r.Digest.String(), text) || strings.HasPrefix(r.Digest.Encoded(), text)
		switch {
		case r.State == ledger.Waiting || !fits || r.Digest == found:
		case found != "":
			return "", usageError{fmt.Errorf("undo %q: more than one condemned digest begins so: %s and %s", text, found, r.Digest)}
		default:
			found = r.Digest
		}
	}
	if found == "" {
		return "", fmt.Errorf("undo %q: no such digest is condemned: it was never here, is needed, or is gone", text)
	}
	return found, nil
}

// Print says it in words.
func (u undone) Print(w io.Writer) error {
	var errs []error
	for _, d := range u.Digests {
		where := "its content"
		if len(d.Repositories) > 0 {
			where = "in " + strings.Join(d.Repositories, ", ")
		}
		_, err := fmt.Fprintf(w, "took %s back, %s; it stays until %s at least\n", d.Digest, where, d.Until.Local().Format(time.DateTime))
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
