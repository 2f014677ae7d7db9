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
// file's place. Writes go on meanwhile, in a file that grows by what they change;
// one that it has to be mapped anew for, which happens once in a gigabyte, waits.
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
func (f *File) writeTo(ctx context.Context, out *os.File) (size int64, err error) {
	err = f.View(ctx, func(tx *bolt.Tx) error {
		size, err = tx.WriteTo(patient{ctx, &steady{Writer: out, sync: out.Sync}})
		return errors.Join(ctx.Err(), err)
	})
	return size, err
}

// steadily is how much is written before it is synced.
const steadily = 16 << 20

// steady is a file that is synced as it grows: the sync of a large one at once
// makes those of everybody else wait, for seconds.
type steady struct {
	io.Writer
	sync    func() error
	waiting int
}

func (s *steady) Write(b []byte) (n int, err error) {
	n, err = s.Writer.Write(b)
	if s.waiting += n; err == nil && s.waiting >= steadily {
		s.waiting = 0
		err = s.sync()
	}
	return n, err
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
