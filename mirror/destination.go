package mirror

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ErrContent says that content is not what its descriptor says: it has another
// digest or another length. Of Ingest, the side that the content came from is at fault.
var ErrContent = errors.New("content is not what its descriptor says")

// Destination is the local registry as the copy engine needs it.
type Destination interface {
	// Resolve returns what the local tag points at; fs.ErrNotExist when there is none.
	Resolve(ctx context.Context, repo, tag string) (digest.Digest, error)
	// Manifest returns a manifest that repo holds ("": any repository), verified; fs.ErrNotExist.
	Manifest(ctx context.Context, repo string, d digest.Digest) (ocispec.Descriptor, []byte, error)
	// Has reports whether this content, with this size, is held; it is
	// durable and named from the next Publish on.
	Has(ctx context.Context, desc ocispec.Descriptor) (bool, error)
	// Linked reports whether repo serves this content, whole.
	Linked(ctx context.Context, repo string, desc ocispec.Descriptor, manifest bool) (bool, error)
	// Ingest stores verified bytes: held, and durable and named from the next
	// Publish on. Nothing becomes visible. It fetches nothing when the content
	// is there, and continues what an earlier call began.
	Ingest(ctx context.Context, desc ocispec.Descriptor, fetch Fetch) error
	// Publish makes an image visible, its tag last.
	Publish(ctx context.Context, p Publication) (Published, error)
	// ReferrersChecked is when an upstream was last asked for the referrers of
	// a digest; the zero time means never.
	ReferrersChecked(ctx context.Context, repo string, d digest.Digest) (time.Time, error)
}

// Fetch opens content from an offset. It may begin earlier and says where. The
// caller closes body. It may be called more than once.
type Fetch func(ctx context.Context, offset int64) (body io.ReadCloser, start int64, err error)

// Publication is an image whose content is all stored, and that is to become visible.
type Publication struct {
	Repo, Tag  string // no tag: by digest only
	Root       ocispec.Descriptor
	Manifests  []Manifest      // the closure: children before parents, referrers after their subjects
	Absent     []digest.Digest // children that a platform filter left out
	Checked    bool            // the upstream was asked for referrers just now
	By, Reason string          // for the event
	Kind       string          // the event; "": seen or moved
}

// Published is what a publication changed.
type Published struct {
	Previous digest.Digest
	Changed  bool
}

// Progress hears how far work is. Its methods may be called from many
// goroutines; totals only grow.
type Progress interface {
	Plan(items int, bytes int64)
	Bytes(n int64)
	Done(item string, err error)
}
