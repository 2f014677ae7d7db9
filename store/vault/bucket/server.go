package bucket

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"
)

// Server is what a Bucket on somebody's server can do beside, found by type assertion.
type Server interface {
	// Features tells what is switched on for the bucket.
	Features(ctx context.Context) (Features, error)
	// RefusesWrong sends bytes under a SHA-256 that is not theirs, and tells whether
	// they were refused. If not, they lie under the key.
	RefusesWrong(ctx context.Context, key string) (bool, error)
	// Versions yields every version of all that lies or lay under a prefix, marks of
	// removal among them.
	Versions(ctx context.Context, prefix string) iter.Seq2[Info, error]
	// GetVersion opens one of them from its start. The caller closes the stream and
	// checks the bytes.
	GetVersion(ctx context.Context, version Info) (io.ReadCloser, error)
	// Asked tells what the settings ask of how a content is stored, and how the one
	// under a key, which was written as Bulk, is stored.
	Asked(ctx context.Context, key string) ([]Asked, error)
	// Locks tells whether the settings want locks, and if so, whether one keeps: it
	// locks a small object for some minutes and tries to remove it.
	Locks(ctx context.Context, key string) (wanted, kept bool, err error)
	// Retain locks versions until a time. A later lock stays, and what is not there any
	// more is passed over. It returns the first error, after all were tried.
	Retain(ctx context.Context, versions []Info, until time.Time) error
	// Adapt makes do without what the server was found not to do. It replaces what an
	// earlier call said.
	Adapt(Lacks)
}

// Features are what a bucket was switched to.
type Features struct {
	Versions bool
	Lock     bool
}

// Asked is what a setting wants, and what there is.
type Asked struct {
	Setting   string
	Want, Got string
	Must      bool // nothing may be written where it is not so
}

// Lacks is what a server was found not to do. Without conditions one of several
// writers may overwrite another: then let there be one.
type Lacks struct {
	Conditions bool // it refuses to write under conditions: look first, then write
	Checksums  bool // what it says of a content's hash proves nothing: compare by reading
}

// ErrNoConditions says that a server refuses to write under conditions at all.
var ErrNoConditions = errors.New("the server takes no writes under conditions (If-None-Match, If-Match): run `lastro backup init`, which finds out how to do without")
