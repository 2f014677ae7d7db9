package mirror

import (
	"context"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Download fetches one blob as an image does.
func Download(ctx context.Context, src Source, dest Destination, desc ocispec.Descriptor) error {
	e := &Engine{Dest: dest, Now: time.Now}
	a := &applying{Engine: e, downloads: newTurnstile(1)}
	return a.graph(src, &rule{}, change{}).blob(ctx, missingBlob{desc, desc.Size, &promise{}})
}
