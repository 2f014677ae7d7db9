package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	bolt "go.etcd.io/bbolt"
)

// Copy writes the file as it is now to a new file, mode 0600, and returns its
// size. It is whole and on disk when its name appears, and takes no other
// file's place. Writes go on meanwhile, in a file that grows by what they change.
//
// The copy is marked as open by this process. Whoever opens it is told that it
// was copied, and that it was not closed, which is so.
func (f *File) Copy(ctx context.Context, to string) (size int64, err error) {
	err = f.settings.steps.makeNew(to, func(out *os.File) error {
		size, err = f.writeTo(ctx, out)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("copy ledger: %w", err)
	}
	return size, nil
}

// writeTo writes the file as one transaction sees it.
func (f *File) writeTo(ctx context.Context, out io.Writer) (size int64, err error) {
	err = f.View(ctx, func(tx *bolt.Tx) error {
		size, err = tx.WriteTo(patient{ctx, out})
		return errors.Join(ctx.Err(), err)
	})
	return size, err
}

// patient is a writer that stops when its context ends.
type patient struct {
	ctx context.Context
	io.Writer
}

func (p patient) Write(b []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	return p.Writer.Write(b)
}
