package file

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

var (
	// ErrNewer means that a newer lastro wrote the file. It was not changed.
	ErrNewer = errors.New("written by a newer lastro")
	// ErrDamaged means that the file does not read whole. It was not changed.
	ErrDamaged = errors.New("ledger is damaged")
	// ErrLocked means that another process has the file open.
	ErrLocked = errors.New("ledger is open in another process")
	// ErrClosed means that the file was closed.
	ErrClosed = fmt.Errorf("ledger: %w", fs.ErrClosed)
)

const (
	bucketMeta = "meta"
	metaFormat = "format"
	metaOpen   = "open"
)

// Settings say what a file is to be.
type Settings struct {
	Format uint64               // of the user's buckets; a file with a higher one is ErrNewer
	Create func(*bolt.Tx) error // makes the buckets of a new file
	Check  func(*bolt.Tx) error // refuses a file without them
	// Upgrade makes the buckets of an older format those of Format. It runs in the
	// transaction that says so. Nil: there is nothing to do.
	Upgrade func(tx *bolt.Tx, from uint64) error
	Timeout time.Duration // how long to wait for another process; zero is 5 s
	// Committed is called after every transaction that tried to write, before
	// its callers hear of it: where a test may crash. Nil is not called.
	Committed func()

	where    where
	maxSize  int // 0: no limit
	openFile func(string, int, os.FileMode) (*os.File, error)
}

// options are settings measured for this use: without the free list in the
// file a commit writes a fifth, and a large map keeps readers from making a
// writer wait while the file grows.
func (s Settings) options() *bolt.Options {
	return &bolt.Options{
		Timeout:         s.Timeout,
		FreelistType:    bolt.FreelistMapType,
		NoFreelistSync:  true,
		InitialMmapSize: 1 << 30,
		MaxSize:         s.maxSize,
		OpenFile:        s.openFile,
	}
}

// File is an open file. Its methods may be called from many goroutines.
type File struct {
	db      *bolt.DB
	writer  *writer
	unclean bool
	closing func() error
}

// Open opens the file at path and makes it, with mode 0600, when there is
// none. One process has it at a time: another gets ErrLocked after
// s.Timeout. Nothing is written to a file that is newer or damaged, and none is
// opened on a network file system (ErrNetwork).
func Open(path string, s Settings) (*File, error) {
	if s.Timeout == 0 {
		s.Timeout = 5 * time.Second
	}
	if err := s.where.refuseNetwork(path); err != nil {
		return nil, err
	}
	if err := s.createMissing(path); err != nil {
		return nil, err
	}
	unclean, err := s.examine(path)
	if err != nil {
		return nil, err
	}
	db, err := s.openWritable(path)
	if err != nil {
		return nil, err
	}
	if err := db.Update(s.begin); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	f := &File{db: db, writer: startWriter(db, s.Committed), unclean: unclean}
	f.closing = sync.OnceValue(func() error { return errors.Join(f.writer.close(markClosed), db.Close()) })
	return f, nil
}

// Unclean reports whether the process that had the file before this one ended
// without closing it.
func (f *File) Unclean() bool { return f.unclean }

// Close waits for what is being written, marks the file clean and closes it.
// Later calls return what the first did.
func (f *File) Close() error { return f.closing() }

// Update runs fn in a transaction and returns when that is durable. Callers
// share transactions, and fn may run more than once; an error of its own is
// its caller's alone. When ctx ends before the transaction starts, nothing is
// changed and ctx's error returns; after that the outcome is the transaction's.
func (f *File) Update(ctx context.Context, fn func(*bolt.Tx) error) error {
	return f.writer.update(ctx, fn)
}

// View runs fn in a read transaction, which should be short.
func (f *File) View(ctx context.Context, fn func(*bolt.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := f.db.View(fn)
	if errors.Is(err, berrors.ErrDatabaseNotOpen) {
		return ErrClosed
	}
	return err
}

// createMissing makes an empty file under another name and renames it.
func (s Settings) createMissing(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	db, err := bolt.Open(fresh, 0o600, s.options())
	if err != nil {
		return explainOpen(err)
	}
	if err := errors.Join(db.Update(s.initialise), db.Close()); err != nil {
		return err
	}
	if err := os.Rename(fresh, path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func (s Settings) initialise(tx *bolt.Tx) error {
	meta, err := tx.CreateBucket([]byte(bucketMeta))
	if err != nil {
		return err
	}
	if err := meta.Put([]byte(metaFormat), binary.BigEndian.AppendUint64(nil, s.Format)); err != nil {
		return err
	}
	return s.Create(tx)
}

// begin marks the file open, and brings one of an older format up to date.
func (s Settings) begin(tx *bolt.Tx) error {
	meta := tx.Bucket([]byte(bucketMeta))
	from := binary.BigEndian.Uint64(meta.Get([]byte(metaFormat)))
	if from < s.Format {
		if s.Upgrade != nil {
			if err := s.Upgrade(tx, from); err != nil {
				return fmt.Errorf("upgrade from format %d to %d: %w", from, s.Format, err)
			}
		}
		if err := meta.Put([]byte(metaFormat), binary.BigEndian.AppendUint64(nil, s.Format)); err != nil {
			return err
		}
	}
	return meta.Put([]byte(metaOpen), []byte{1})
}

func markClosed(tx *bolt.Tx) error {
	return tx.Bucket([]byte(bucketMeta)).Delete([]byte(metaOpen))
}
