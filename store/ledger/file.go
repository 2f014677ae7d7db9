package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// The buckets and keys that doc.go draws.
const (
	bucketMeta    = "meta"
	bucketEvent   = "event"
	bucketHistory = "history"
	bucketTag     = "tag"
	bucketGraph   = "graph"
	bucketAbsent  = "absent"
	bucketChecked = "checked"
	bucketJob     = "job"
	bucketHeld    = "held"

	metaFormat    = "format"
	metaOpen      = "open"
	metaGraph     = "graph"
	metaGraphNext = "graph.next"
)

// fileSettings is how the file is opened; tests change it.
type fileSettings struct {
	timeout   time.Duration
	maxSize   int    // 0: no limit
	committed func() // called after every transaction of the writer; nil: not
	openFile  func(string, int, os.FileMode) (*os.File, error)
}

// options are settings measured for this use: without the free list in the
// file a commit writes a fifth, and a large map keeps readers from making a
// writer wait while the file grows.
func (s fileSettings) options() *bolt.Options {
	return &bolt.Options{
		Timeout:         s.timeout,
		FreelistType:    bolt.FreelistMapType,
		NoFreelistSync:  true,
		InitialMmapSize: 1 << 30,
		MaxSize:         s.maxSize,
		OpenFile:        s.openFile,
	}
}

// createMissing makes an empty ledger under another name and renames it, so
// that a crash leaves a whole ledger or none.
func (s fileSettings) createMissing(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	db, err := bolt.Open(fresh, 0o600, s.options())
	if err != nil {
		return err
	}
	if err := errors.Join(db.Update(initialise), db.Close()); err != nil {
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

func buckets() []string {
	return []string{bucketMeta, bucketEvent, bucketHistory, bucketTag, bucketGraph, bucketAbsent, bucketChecked, bucketJob, bucketHeld}
}

func initialise(tx *bolt.Tx) error {
	for _, name := range buckets() {
		if _, err := tx.CreateBucket([]byte(name)); err != nil {
			return err
		}
	}
	meta := tx.Bucket([]byte(bucketMeta))
	if err := meta.Put([]byte(metaFormat), numberKey(format)); err != nil {
		return err
	}
	if err := meta.Put([]byte(metaGraph), numberKey(1)); err != nil {
		return err
	}
	return createGraph(tx, 1)
}

// examine reads the whole file without changing it, and tells whether it was
// left open.
func (s fileSettings) examine(path string) (unclean bool, err error) {
	o := s.options()
	o.ReadOnly = true
	db, err := bolt.Open(path, 0o600, o)
	if err != nil {
		return false, explainOpen(err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	err = survive(func() error {
		return db.View(func(tx *bolt.Tx) error {
			if unclean, err = checkMeta(tx); err != nil {
				return err
			}
			return tx.ForEach(func(_ []byte, b *bolt.Bucket) error { return walk(b) })
		})
	})
	return unclean, err
}

// openWritable opens the file that examine found whole.
func (s fileSettings) openWritable(path string) (db *bolt.DB, err error) {
	err = survive(func() error {
		db, err = bolt.Open(path, 0o600, s.options())
		return explainOpen(err)
	})
	return db, err
}

func explainOpen(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, berrors.ErrTimeout):
		return fmt.Errorf("%w: stop that process, or let the verb talk to it (same data folder)", ErrLocked)
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch):
		return damaged(err)
	}
	return err
}

func damaged(cause any) error {
	return fmt.Errorf("%w: %v: move it away, then run lastro rebuild (the graph) and lastro restore (the history)", ErrDamaged, cause)
}

// survive turns what reading a damaged file does – an assertion of bbolt, a
// fault beyond the file's end – into an error.
func survive(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = damaged(r)
		}
	}()
	return fn()
}

func checkMeta(tx *bolt.Tx) (unclean bool, err error) {
	meta := tx.Bucket([]byte(bucketMeta))
	if meta == nil {
		return false, damaged("there is no meta bucket")
	}
	version, err := number(meta.Get([]byte(metaFormat)))
	switch {
	case err != nil:
		return false, damaged("there is no format version")
	case version > format:
		return false, fmt.Errorf("%w (format %d, this one knows %d): use a lastro that is as new", ErrNewer, version, format)
	}
	for _, name := range buckets() {
		if tx.Bucket([]byte(name)) == nil {
			return false, damaged("there is no bucket " + name)
		}
	}
	_, err = graphs(tx)
	if err != nil {
		return false, damaged(err)
	}
	return meta.Get([]byte(metaOpen)) != nil, nil
}

// walk visits every key, and with that every page but those of long values.
func walk(b *bolt.Bucket) error {
	var last []byte
	c := b.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if last != nil && bytes.Compare(last, k) >= 0 {
			return damaged("keys are out of order")
		}
		last = k
		if v != nil {
			continue
		}
		if err := walk(b.Bucket(k)); err != nil {
			return err
		}
	}
	return nil
}

// markOpen notes that a process has the ledger, and drops what a rebuild that
// was cut short left.
func markOpen(tx *bolt.Tx) error {
	if err := dropUnfinished(tx); err != nil {
		return err
	}
	return tx.Bucket([]byte(bucketMeta)).Put([]byte(metaOpen), []byte{1})
}

func markClosed(tx *bolt.Tx) error {
	return tx.Bucket([]byte(bucketMeta)).Delete([]byte(metaOpen))
}
