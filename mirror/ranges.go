package mirror

import (
	"context"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Ranger is a Source that can open a part of a blob.
type Ranger interface {
	// Range opens length bytes of a blob from offset on. An upstream that
	// does not answer with this part is errors.ErrUnsupported. The caller
	// closes the body.
	Range(ctx context.Context, repo string, desc ocispec.Descriptor, offset, length int64) (io.ReadCloser, error)
}
