package mirror

import (
	"context"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Stream is content that can be read while it comes.
type Stream struct {
	Size int64
	// Open reads from an offset on. The reader waits for bytes and ends with ctx.
	Open func(ctx context.Context, offset int64) (io.ReadCloser, error)
}

// Follower is a Destination whose content can be read while Ingest brings it.
type Follower interface {
	// Follow opens content from an offset: content that is held, or that an
	// Ingest is bringing just now, from before it calls its Fetch on; it reads as
	// bytes arrive. The end comes only when the whole was verified. If the
	// Ingest ends with an error the reader ends with it, unless another one
	// continues the content at once. fs.ErrNotExist: neither held nor coming.
	Follow(ctx context.Context, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error)
}

// Sizer is a Source that tells how large a blob is without its content.
type Sizer interface {
	// Size asks for a blob of a repository; fs.ErrNotExist.
	Size(ctx context.Context, repo string, d digest.Digest) (int64, error)
}

// WithheldError says that the upstream has an image that is not published here.
type WithheldError struct {
	Repo, Tag string
	Digest    digest.Digest
	Until     time.Time // zero: it is not known
	Reason    string    // and what to do about it
}

func (e *WithheldError) Error() string {
	if e.Tag == "" {
		return e.Repo + "@" + e.Digest.String() + ": " + e.Reason
	}
	return e.Repo + ":" + e.Tag + ": " + e.Reason
}
