package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/opencontainers/go-digest"
)

// Bucket is a place for objects. Missing ones are fs.ErrNotExist. It may be
// used from many goroutines, and by many processes at once.
type Bucket interface {
	Reader
	Writer
	Remover
	// String is where the bucket is, as it stands in the configuration.
	String() string
}

// Reader reads objects. It never changes or creates anything.
type Reader interface {
	// Load reads a record whole, checked against what the server knows of it.
	// Of a record larger than MaxRecord it returns the ETag alone, with ErrTooLarge.
	Load(ctx context.Context, key string) (Record, error)
	// Get opens a content at an offset. The caller closes the stream and checks the
	// bytes. An offset at or behind the end gives an empty stream.
	Get(ctx context.Context, key string, offset int64) (io.ReadCloser, Info, error)
	// Head tells what the place knows of an object without reading it.
	Head(ctx context.Context, key string) (Info, error)
	// List yields what is stored under a prefix, ordered by key. SHA256 and
	// LockedUntil are Head's to tell.
	List(ctx context.Context, prefix string) iter.Seq2[Info, error]
}

// Writer stores objects.
type Writer interface {
	// Put stores a content where nothing is. created is false if the same content
	// was there already; other content there is ErrDiffers.
	Put(ctx context.Context, key string, o Object) (created bool, err error)
	// Replace stores a content whatever is there.
	Replace(ctx context.Context, key string, o Object) error
	// Swap replaces the record whose ETag is etag, or creates it if etag is "".
	// A record that is another one by now is ErrChanged.
	Swap(ctx context.Context, key, etag string, data []byte) (newETag string, err error)
}

// MaxRecord is the largest record that is read; more is ErrTooLarge.
const MaxRecord = 64 << 20

// ErrTooLarge says that a record has more than MaxRecord bytes: none has that is
// written by a vault.
var ErrTooLarge = fmt.Errorf("larger than the %d MiB that a record may have", MaxRecord>>20)

// Record is a small object read whole.
type Record struct {
	Data []byte
	ETag string // names exactly this state, for Swap
}

// Info describes an object.
type Info struct {
	Key         string
	Size        int64
	Modified    time.Time // by the server's clock
	ETag        string    // "" where the place has none
	Version     string    // names these very bytes for ever; "" where the place has none
	SHA256      string    // hex, by the server's own reckoning; "" if it has none
	LockedUntil time.Time // nobody removes this version before; zero: not locked
}

// Object is a content to be stored. Content is read from the start, perhaps
// several times and by several goroutines; the caller closes it afterwards.
type Object struct {
	Size    int64
	Digest  digest.Digest // what the bytes must hash to; required
	Content io.ReaderAt
	// Bulk says that it is read seldom, so it may go to a cheaper class of storage.
	// It is never set for a record, a manifest or an index.
	Bulk bool
}

// Bytes is an Object of bytes in memory, which must not be changed afterwards.
func Bytes(data []byte) Object {
	return Object{Size: int64(len(data)), Digest: digest.FromBytes(data), Content: bytes.NewReader(data)}
}

var (
	// ErrInTurn says that a key is taken when something is created there, and is not when
	// it is asked for: some servers take the marker of a deletion for an object.
	ErrInTurn = errors.New("the server says in turn that it is there and that it is not")
	// ErrDiffers says that a key already holds something else. It is fs.ErrExist as well.
	ErrDiffers error = existsError("the bucket holds other bytes under this name")
	// ErrChanged says that a record is not in the state that a Swap started from.
	ErrChanged = errors.New("changed by someone else meanwhile")
	// ErrFull says that there is no room left.
	ErrFull = errors.New("no space left: free some, or raise the quota, and run again")
)

// ContentError says that an Object's own content cannot be read or is not what
// its digest says. The fault is on the side that the bytes come from.
type ContentError struct {
	Digest digest.Digest
	Err    error
}

func (e *ContentError) Error() string {
	return fmt.Sprintf("local content %s: %v", e.Digest, e.Err)
}

func (e *ContentError) Unwrap() error { return e.Err }
