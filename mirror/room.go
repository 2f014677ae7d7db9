package mirror

import (
	"context"
	"fmt"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// margin is what a sync leaves free on the disk, for the ledger and others.
const margin = 64 << 20

// room is how much of the disk the images on their way were promised and have
// not written.
type room struct {
	mu       sync.Mutex
	promised int64
}

// promise is room for one blob. It shrinks as the blob comes, because what came
// is no longer free. The zero promise is of nothing.
type promise struct {
	room *room
	left int64
}

// promise sets room for blobs aside, or says that the disk has not that much.
// Whoever got the promises ends them.
func (a *applying) promise(ctx context.Context, blobs []ocispec.Descriptor) ([]*promise, error) {
	promises := make([]*promise, len(blobs))
	var bytes int64
	for i, desc := range blobs {
		promises[i] = &promise{&a.room, desc.Size}
		bytes += desc.Size
	}
	a.room.mu.Lock()
	defer a.room.mu.Unlock()
	if a.Room != nil && bytes > 0 {
		free, err := a.Room(ctx)
		if err != nil {
			return nil, fmt.Errorf("local registry: free space: %w", err)
		}
		if left := free - a.room.promised - margin; bytes > left {
			return nil, fmt.Errorf("local registry: %d bytes are to be fetched, and the disk has room for %d: free some space, or move the data folder to a larger disk, and sync again", bytes, max(0, left))
		}
	}
	a.room.promised += bytes
	return promises, nil
}

// keep leaves at most so many bytes of the promise.
func (p *promise) keep(left int64) {
	if p.room == nil {
		return
	}
	p.room.mu.Lock()
	defer p.room.mu.Unlock()
	if less := p.left - max(0, left); less > 0 {
		p.left -= less
		p.room.promised -= less
	}
}

func (p *promise) end() { p.keep(0) }
