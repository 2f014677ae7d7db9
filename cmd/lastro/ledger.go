package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
)

func (c *cli) ledgerCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ledger copy|check|export|import",
		Short: "the ledger's own file: copy it, prove it right, export and import it",
		Args:  takes(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(c.ledgerCopyCommand(), c.ledgerCheckCommand(), c.ledgerExportCommand(), c.ledgerImportCommand())
	for _, sub := range cmd.Commands() {
		sub.Long += "\n" + exitCodes
	}
	return cmd
}

func (c *cli) ledgerCopyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "copy FILE",
		Short: "write the ledger as it is now to a new file",
		Long: `Copy writes the ledger as it is now to a new file, which only its owner may read.
It runs beside everything else; the file appears when it is whole and on disk, and
never takes the place of another.

To use it, stop lastro and move it to <data>/ledger.db. What happened after it was
made is not in it: it is opened as a ledger that was not closed, so the registry is
compared with it first, and tags that it does not know are adopted.`,
		Example: "  lastro ledger copy /srv/backup/ledger-2026-05-01.db",
		Args:    takes(cobra.ExactArgs(1)),
		RunE: c.verb(func(ctx context.Context, s *site, args []string) error {
			copied, err := s.copyLedger(ctx, c.path(args[0]))
			if err != nil {
				return err
			}
			return c.print(copied)
		}),
	}
}

// path is a file that the person named, who may be in another folder than the
// daemon.
func (c *cli) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(c.dir, name)
}

// ledgerCopy is a copy of the ledger.
type ledgerCopy struct {
	File   string    `json:"file"`
	Bytes  int64     `json:"bytes"`
	Events uint64    `json:"events"` // at least; more may have come while it was made
	Time   time.Time `json:"time"`
}

func (s *site) copyLedger(ctx context.Context, to string) (ledgerCopy, error) {
	made := ledgerCopy{File: to, Time: s.now().UTC()}
	var err error
	if made.Events, err = s.ledger().LastSeq(ctx); err == nil {
		made.Bytes, err = s.ledger().Copy(ctx, to)
	}
	return made, err
}

// Print says it in words.
func (l ledgerCopy) Print(w io.Writer) error {
	_, err := fmt.Fprintf(w, "copied the ledger to %s: %s, %d events\n", l.File, humanize.IBytes(uint64(l.Bytes)), l.Events)
	return err
}
