package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"lastro/store/ledger/file"
)

// format is the version of the layout that doc.go draws.
const format = 2

var (
	// ErrNewer means that a newer lastro wrote the ledger. It was not changed.
	ErrNewer = file.ErrNewer
	// ErrDamaged means that the ledger's file does not read whole. It was not
	// changed.
	ErrDamaged = file.ErrDamaged
	// ErrLocked means that another process has the ledger open.
	ErrLocked = file.ErrLocked
	// ErrClosed means that the ledger was closed.
	ErrClosed = file.ErrClosed
)

// The buckets that doc.go draws.
const (
	bucketEvent   = "event"
	bucketHistory = "history"
	bucketTag     = "tag"
	bucketGraph   = "graph"
	bucketAbsent  = "absent"
	bucketChecked = "checked"
	bucketJob     = "job"
	bucketHeld    = "held"

	bucketNamed  = "named"
	bucketReview = "review"
	bucketDue    = "due"
)

func buckets() []string {
	return []string{bucketEvent, bucketHistory, bucketTag, bucketGraph, bucketAbsent, bucketChecked, bucketJob, bucketHeld}
}

// Options change how a ledger is opened. The zero value is ready to use.
type Options struct {
	Log     *slog.Logger     // nil discards
	Now     func() time.Time // nil is time.Now
	Timeout time.Duration    // how long to wait for another process; zero is 5 s

	committed func() // where a test may crash
}

// Ledger is an open ledger. Its methods may be called from many goroutines.
type Ledger struct {
	file       *file.File
	now        func() time.Time
	log        *slog.Logger
	rebuilding chan struct{} // holds one token: one rebuild at a time
	pulls      *pulls
	closing    func() error
}

// Open opens the ledger at path and makes it when there is none. One process
// has it at a time: another gets ErrLocked after Options.Timeout. Open reads
// the whole file; ErrNewer and ErrDamaged leave it as it was. The caller closes
// the ledger.
func Open(path string, o Options) (*Ledger, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	create := func(tx *bolt.Tx) error { return create(tx, o.Now()) }
	f, err := file.Open(path, file.Settings{Format: format, Create: create, Check: check, Upgrade: upgrade, Timeout: o.Timeout, Committed: o.committed})
	if err != nil {
		return nil, fmt.Errorf("open ledger %s: %w", path, err)
	}
	l := &Ledger{file: f, now: o.Now, log: o.Log, rebuilding: make(chan struct{}, 1), pulls: newPulls()}
	l.tell(path)
	if err := l.update(context.Background(), l.prepare); err != nil {
		return nil, errors.Join(fmt.Errorf("open ledger %s: %w", path, err), f.Close())
	}
	// Opening has read all of the file, which may not be read again for long.
	l.Relax(context.Background())
	l.closing = sync.OnceValue(l.close)
	go l.flushPulls()
	return l, nil
}

// prepare makes a file that is whole one that is ready.
func (l *Ledger) prepare(tx *bolt.Tx) error {
	if l.file.Unclean() {
		if err := dropUnfinished(tx); err != nil {
			return err
		}
	}
	return errors.Join(trackPulls(tx, l.now()), trackProtections(tx))
}

// Relax gives the memory back that the kernel counts for what was read of the ledger.
// It is to be called when much was read that will not be soon again.
func (l *Ledger) Relax(ctx context.Context) {
	if err := l.file.Relax(ctx); err != nil {
		l.log.Debug("memory of the ledger's file not given back", "err", err)
	}
}

// Unclean reports whether the process that had the ledger before this one
// ended without closing it. What it recorded is whole either way.
func (l *Ledger) Unclean() bool { return l.file.Unclean() }

// Close waits for what is being recorded, records the pulls that were noted,
// marks the ledger clean and closes it. Later calls return what the first did.
func (l *Ledger) Close() error { return l.closing() }

func (l *Ledger) close() error {
	close(l.pulls.stop)
	<-l.pulls.stopped
	return errors.Join(l.FlushPulls(context.Background()), l.file.Close())
}

func create(tx *bolt.Tx, now time.Time) error {
	for _, name := range append(buckets(), bucketNamed, bucketReview, bucketDue) {
		if _, err := tx.CreateBucket([]byte(name)); err != nil {
			return err
		}
	}
	if err := tx.Bucket([]byte(bucketGraph)).Put([]byte(graphInUse), numberKey(1)); err != nil {
		return err
	}
	if err := createGeneration(tx, 1); err != nil {
		return err
	}
	return errors.Join(trackPulls(tx, now), trackProtections(tx))
}

func check(tx *bolt.Tx) error {
	for _, name := range buckets() {
		if tx.Bucket([]byte(name)) == nil {
			return fmt.Errorf("there is no bucket %s", name)
		}
	}
	_, err := writtenGraphs(tx)
	return err
}

// update runs fn in the next transaction that is written, and returns when
// that is durable. fn may run more than once.
func (l *Ledger) update(ctx context.Context, fn func(*bolt.Tx) error) error {
	return l.file.Update(ctx, fn)
}

// factPage is how many facts that each stand alone one transaction asks for or
// records.
const factPage = 5000

// inPages records such facts. An error may leave some recorded.
func inPages[T any](ctx context.Context, l *Ledger, facts []T, record func(*bolt.Tx, []T) error) error {
	for page := range slices.Chunk(facts, factPage) {
		if err := l.update(ctx, func(tx *bolt.Tx) error { return record(tx, page) }); err != nil {
			return err
		}
	}
	return nil
}

// view runs fn in a read transaction, which should be short.
func (l *Ledger) view(ctx context.Context, fn func(*bolt.Tx) error) error {
	return l.file.View(ctx, fn)
}

// bucket names a bucket of the file, for a scan.
func bucket(name string) func(*bolt.Tx) (*bolt.Bucket, error) {
	return func(tx *bolt.Tx) (*bolt.Bucket, error) { return tx.Bucket([]byte(name)), nil }
}
