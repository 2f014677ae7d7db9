package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"lastro/store/layout"
	"lastro/store/ledger"
)

// LedgerImported is what an import of a ledger has made.
type LedgerImported struct {
	ledger.Imported
	Rebuilt Rebuilt `json:"rebuilt"` // of its graph
}

// Print says it in words.
func (i LedgerImported) Print(w io.Writer) error {
	if _, err := fmt.Fprintf(w, "imported %d events and %d other facts\n", i.Events, i.Facts-i.Events); err != nil {
		return err
	}
	return i.Rebuilt.Print(w)
}

// ImportLedger makes the ledger of a data folder that has none of what
// [ledger.Ledger.Export] wrote, and its graph of the registry in the folder. It
// is there when all of that is done. A folder that has a ledger is fs.ErrExist,
// and one that another process has open a [LockedError].
func ImportLedger(ctx context.Context, dir string, r io.Reader, o Options) (n LedgerImported, err error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return n, err
	}
	s := &Store{log: o.Log, now: o.Now}
	if s.lock, err = lock(dir); err != nil {
		return n, err
	}
	defer func() { err = errors.Join(err, s.lock.Close()) }()
	path := filepath.Join(dir, "ledger.db")
	n.Imported, err = ledger.Import(ctx, path, r, ledger.Options{Log: o.Log, Now: o.Now}, func(l *ledger.Ledger) error {
		n.Rebuilt, err = s.rebuildOnly(ctx, dir, l, o)
		return err
	})
	if errors.Is(err, fs.ErrExist) {
		err = fmt.Errorf("%w: an import makes a new ledger, so move that one away first", err)
	}
	if err != nil {
		return n, fmt.Errorf("import a ledger into %s: %w", dir, layout.Explain(err))
	}
	return n, nil
}

// rebuildOnly makes the graph of a ledger that is not the folder's yet.
func (s *Store) rebuildOnly(ctx context.Context, dir string, l *ledger.Ledger, o Options) (r Rebuilt, err error) {
	s.ledger = l
	s.tree, err = layout.Open(filepath.Join(dir, "registry"), filepath.Join(dir, "partial"), layout.Options{Step: o.Step, Fault: o.Fault})
	if err != nil {
		return r, err
	}
	r, err = s.Rebuild(ctx)
	return r, errors.Join(err, s.tree.Close())
}
