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
	steps    steps
	least    int64 // of free pages, for a compaction to pay; 0: compactFrom
	maxSize  int   // 0: no limit
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
	db         *bolt.DB
	path       string
	settings   Settings
	writer     *writer
	found      state
	compaction Compaction
	checking   chan struct{} // holds one token: one check at a time
	closing    func() error
}

// Open opens the file at path and makes it, with mode 0600, when there is
// none. One process has it at a time: another gets ErrLocked after
// s.Timeout. Nothing is written to a file that is newer or damaged, and none is
// opened on a network file system (ErrNetwork).
func Open(path string, s Settings) (*File, error) {
	if s.Timeout == 0 {
		s.Timeout = 5 * time.Second
	}
	if s.least == 0 {
		s.least = compactFrom
	}
	if err := s.where.refuseNetwork(path); err != nil {
		return nil, err
	}
	// What is made beside the file and renamed goes where a link leads to.
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	if err := s.createMissing(path); err != nil {
		return nil, err
	}
	f, err := s.open(path)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(removeIfThere(path+checkSuffix), removeIfThere(path+compactSuffix), f.db.Update(f.begin)); err != nil {
		return nil, errors.Join(err, f.db.Close())
	}
	f.writer = startWriter(f.db, s.Committed)
	f.closing = sync.OnceValue(func() error { return errors.Join(f.writer.close(markClosed), f.db.Close()) })
	return f, nil
}

// open examines the file, opens it, and compacts it if that pays. A file that
// another takes the place of meanwhile – ours, compacted, too – is examined anew.
func (s Settings) open(path string) (*File, error) {
	f := &File{path: path, settings: s, checking: make(chan struct{}, 1)}
	for range 100 {
		found, err := s.examine(path)
		if err != nil {
			return nil, err
		}
		db, err := s.openExamined(path, found)
		if errors.Is(err, errReplaced) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if f.compaction.Before > 0 || !found.pays(s.least) {
			f.db, f.found = db, found
			return f, nil
		}
		if f.compaction, err = s.compact(db, path, found); err != nil {
			return nil, errors.Join(err, db.Close())
		}
		if err := db.Close(); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%w, which puts another in its place again and again", ErrLocked)
}

// Unclean reports whether the process that had the file before this one ended
// without closing it, as far as this file knows.
func (f *File) Unclean() bool { return f.found.unclean }

// Copied reports whether the file is a copy of one that was open. It is unclean.
func (f *File) Copied() bool { return f.found.copied }

// Compaction is what Open did before anything was written.
func (f *File) Compaction() Compaction { return f.compaction }

// Close waits for what is being written, marks the file clean and closes it.
// Later calls return what the first did.
func (f *File) Close() error { return f.closing() }

// Relax gives the memory back that the kernel counts for what was read of the file.
// Reading goes on, a little slower at first.
func (f *File) Relax(ctx context.Context) error {
	return f.View(ctx, func(tx *bolt.Tx) error {
		relax(tx)
		return nil
	})
}

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
	return syncPath(filepath.Dir(path))
}

func syncPath(dir string) error {
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
func (f *File) begin(tx *bolt.Tx) error {
	s := f.settings
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
	return meta.Put([]byte(metaOpen), openMark(f.found.info))
}

func markClosed(tx *bolt.Tx) error {
	return tx.Bucket([]byte(bucketMeta)).Delete([]byte(metaOpen))
}
