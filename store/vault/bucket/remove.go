package bucket

import (
	"context"
	"fmt"
	"time"
)

// Remover removes objects.
type Remover interface {
	// Remove removes what is named, and nothing else. With a Version it removes that
	// version for good. Without one it removes what lies under the key at that moment,
	// once: no request is sent again that could meet a newer object. What is not there
	// is done. What stays, with its reason, is in the list; after an error the rest is
	// open, and may be named again.
	Remove(ctx context.Context, objects []Info) ([]Kept, error)
}

// Fenced is a Bucket that removes under a condition, with no moment in between.
type Fenced interface {
	// RemoveWhile removes as Remove does, while the record under a key is in the state
	// that etag names: whoever swaps it keeps everything that was not removed before.
	// ErrChanged has removed nothing.
	RemoveWhile(ctx context.Context, key, etag string, objects []Info) ([]Kept, error)
}

// Kept is an object that Remove had to leave.
type Kept struct {
	Key     string
	Version string
	Err     error // a *LockedError, fs.ErrPermission, or what the place said
}

// LockedError says that a version cannot be removed yet.
type LockedError struct {
	Until time.Time
}

func (e *LockedError) Error() string {
	return fmt.Sprintf("locked until %s: remove it then", e.Until.UTC().Format(time.RFC3339))
}
