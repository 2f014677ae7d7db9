package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"lastro/store"
)

func (c *cli) ledgerExportCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "export",
		Short: "write what only the ledger knows as lines of JSON",
		Long: `Export writes to standard output what cannot be made anew from the registry's files:
the history of all tags in the order in which it was recorded, protections, when
upstreams were asked and what they had, what was left out on purpose, the last runs
of jobs, what vaults hold, and when images were last pulled. Each line is one JSON
object, a fact; the first names the format, and the last says how many there were.

It runs beside everything else.`,
		Example: "  lastro ledger export | zstd > ledger.jsonl.zst",
		Args:    takes(cobra.NoArgs),
		RunE: c.verb(func(ctx context.Context, s *site, _ []string) error {
			_, err := s.ledger().Export(ctx, c.stdout)
			return err
		}),
	}
}

func (c *cli) ledgerImportCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "import FILE|-",
		Short: "make a ledger of an export",
		Long: `Import makes the ledger of a data folder that has none: of the lines of an export,
from a file or, with -, from standard input, and of the registry's files, from which
it makes the rest as lastro rebuild does. The ledger is there when all of that is
done, or not at all.

Stop the daemon and move a ledger that is there away first. Since when pulls are
known becomes now, because pulls after the export are not in it.`,
		Example: "  zstd -dc ledger.jsonl.zst | lastro ledger import -",
		Args:    takes(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if c.site != nil {
				return usageError{errors.New("ledger import: the daemon has a ledger: stop it first")}
			}
			return c.importLedger(cmd.Context(), args[0])
		},
	}
}

func (c *cli) importLedger(ctx context.Context, name string) (err error) {
	cfg, err := c.load()
	if err != nil {
		return err
	}
	in, err := c.input(name)
	if err != nil {
		return err
	}
	defer in.Close()
	made, err := store.ImportLedger(ctx, cfg.Data, in, store.Options{Log: c.logger(slog.LevelWarn), Now: c.now, Step: c.step})
	if _, ok := errors.AsType[*store.LockedError](err); ok {
		return fmt.Errorf("%w\nan import makes a new ledger: stop the daemon, or wait until the other verb has ended", err)
	}
	if err != nil {
		return err
	}
	if err := c.print(made); err != nil {
		return err
	}
	if n := len(made.Rebuilt.Problems); n > 0 {
		return outcome{exitPart, fmt.Sprintf("ledger import: %d problems of the registry (lastro check); the ledger is imported", n)}
	}
	return nil
}

// input is a file, or what somebody sends.
func (c *cli) input(name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(c.stdin), nil
	}
	return os.Open(c.path(name))
}
