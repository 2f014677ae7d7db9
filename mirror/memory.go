package mirror

import (
	"context"
	"iter"
	"time"

	"github.com/opencontainers/go-digest"
)

// Memory is what the engine wants to know of earlier runs. Times are those of
// the local clock; a zero time is never.
type Memory interface {
	// Known is when the upstream of a local repository was first seen to have a digest.
	Known(ctx context.Context, repo string, d digest.Digest) (time.Time, error)
	// Asked is when the upstream was last asked for an immutable tag.
	Asked(ctx context.Context, repo, tag string) (time.Time, error)
	// Remember records, as of now, the tags that were asked for and the digests that were seen.
	Remember(ctx context.Context, repo string, asked []string, seen []digest.Digest) error
	// Had is when a tag last left a digest.
	Had(ctx context.Context, repo, tag string, d digest.Digest) (time.Time, error)
	// Mirrored yields the tags that a local repository serves.
	Mirrored(ctx context.Context, repo string) iter.Seq2[string, error]
	// Note records an event that moves no tag, unless it is the tag's newest already.
	Note(ctx context.Context, repo, tag, event, reason string) error
	// Retire removes a tag; what it pointed at stays until it is collected.
	Retire(ctx context.Context, repo, tag, reason string) error
}

// The events that the engine notes.
const (
	EventHeld     = "held"     // the upstream has a digest that is not published yet
	EventAlarm    = "alarm"    // the upstream did what it never should
	EventVanished = "vanished" // the upstream has the tag, or its digest, no more
)
