package mirror

import (
	"context"
	"fmt"
	"sync"
)

// margin is what a sync leaves free on the disk, for the ledger and others.
const margin = 64 << 20

// room is how much of the disk the images on their way have been promised.
type room struct {
	mu       sync.Mutex
	promised int64
}

// promise sets bytes aside for an image, or says that the disk has not that
// much room. Whoever got the promise gives it back, blob by blob or at once.
func (a *applying) promise(ctx context.Context, bytes int64) error {
	if a.Room == nil || bytes == 0 {
		return nil
	}
	a.room.mu.Lock()
	defer a.room.mu.Unlock()
	free, err := a.Room(ctx)
	if err != nil {
		return fmt.Errorf("local registry: free space: %w", err)
	}
	if left := free - a.room.promised - margin; bytes > left {
		return fmt.Errorf("local registry: %d bytes are to be fetched, and the disk has room for %d: free some space, or move the data folder to a larger disk, and sync again", bytes, max(0, left))
	}
	a.room.promised += bytes
	return nil
}

func (a *applying) giveBack(bytes int64) {
	if a.Room == nil {
		return
	}
	a.room.mu.Lock()
	defer a.room.mu.Unlock()
	a.room.promised -= bytes
}
