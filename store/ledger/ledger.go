package ledger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// format is the version of the layout that doc.go draws.
const format = 1

var (
	// ErrNewer means that a newer lastro wrote the ledger. It was not changed.
	ErrNewer = errors.New("written by a newer lastro")
	// ErrDamaged means that the ledger's file does not read whole. It was not
	// changed.
	ErrDamaged = errors.New("ledger is damaged")
	// ErrLocked means that another process has the ledger open.
	ErrLocked = errors.New("ledger is open in another process")
	// ErrClosed means that the ledger was closed.
	ErrClosed = fmt.Errorf("ledger: %w", fs.ErrClosed)
)

// Options change how a ledger is opened. The zero value is ready to use.
type Options struct {
	Log     *slog.Logger     // nil discards
	Now     func() time.Time // nil is time.Now; for events that bring no time
	Timeout time.Duration    // how long to wait for another process; zero is 5 s
}

// Ledger is an open ledger. Its methods may be called from many goroutines.
type Ledger struct {
	db      *bolt.DB
	write   *writer
	now     func() time.Time
	log     *slog.Logger
	unclean bool
	rebuild chan struct{} // holds one token: one rebuild at a time

	closing  sync.Once
	closeErr error
}

// Open opens the ledger at path and makes it when there is none. One process
// has it at a time: another gets ErrLocked after Options.Timeout. Open reads
// the whole file; ErrNewer and ErrDamaged leave it as it was. The caller closes
// the ledger.
func Open(path string, o Options) (*Ledger, error) {
	return open(path, o, fileSettings{})
}

func open(path string, o Options, fs fileSettings) (*Ledger, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	fs.timeout = o.Timeout
	if fs.timeout == 0 {
		fs.timeout = 5 * time.Second
	}
	l := &Ledger{now: o.Now, log: o.Log, rebuild: make(chan struct{}, 1)}
	if err := l.openFile(path, fs); err != nil {
		return nil, fmt.Errorf("open ledger %s: %w", path, err)
	}
	l.write = startWriter(l.db, fs.committed)
	return l, nil
}

// openFile looks before it leaps: nothing is written to a file that is newer
// or damaged.
func (l *Ledger) openFile(path string, fs fileSettings) (err error) {
	if err := fs.createMissing(path); err != nil {
		return err
	}
	if l.unclean, err = fs.examine(path); err != nil {
		return err
	}
	if l.db, err = fs.openWritable(path); err != nil {
		return err
	}
	if err := l.db.Update(markOpen); err != nil {
		return errors.Join(err, l.db.Close())
	}
	if l.unclean {
		l.log.Warn("ledger was not closed cleanly", "path", path)
	}
	return nil
}

// Unclean reports whether the process that had the ledger before this one
// ended without closing it. What it recorded is whole either way.
func (l *Ledger) Unclean() bool { return l.unclean }

// Close waits for what is being recorded, marks the ledger clean and closes it.
// Later calls return what the first did.
func (l *Ledger) Close() error {
	l.closing.Do(func() {
		err := l.write.close(markClosed)
		l.closeErr = errors.Join(err, l.db.Close())
	})
	return l.closeErr
}

// update runs fn in the next transaction that the writer commits and returns
// when that is durable. fn may run more than once.
func (l *Ledger) update(ctx context.Context, fn func(*bolt.Tx) error) error {
	return l.write.update(ctx, fn)
}

// view runs fn in a read transaction, which should be short.
func (l *Ledger) view(ctx context.Context, fn func(*bolt.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := l.db.View(fn)
	if errors.Is(err, berrors.ErrDatabaseNotOpen) {
		return ErrClosed
	}
	return err
}
