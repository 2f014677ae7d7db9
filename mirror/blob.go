package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// maxStalls is how often in a row a download may break off without having
	// come further.
	maxStalls = 3
	// leastProgress is what counts as further. Less of it, again and again, is
	// a server that will never bring the blob.
	leastProgress = 64 << 10
)

// blob stores one blob that was not there. Who finds another at work on it
// waits without taking the place of a download.
func (g *graph) blob(ctx context.Context, b missingBlob) error {
	return g.traffic().do(ctx, claim{b.Digest, b.image == urgent}, func(f *flight) error {
		if err := g.downloads.enter(ctx, b.image, f.now); err != nil {
			return err
		}
		defer g.downloads.leave()
		return g.download(f.hurrying(ctx), b)
	})
}

// download fetches one blob. A body that breaks off is continued where it did, for
// as long as each attempt comes further: this is the one place where bodies
// are tried again, as the upstream's is for requests.
func (g *graph) download(ctx context.Context, b missingBlob) error {
	desc := b.Descriptor
	dl := &fetching{graph: g, desc: desc, room: b.room}
	for stalls := 0; ; {
		before := dl.furthest.Load()
		err := g.Dest.Ingest(ctx, desc, dl.fetch)
		broken, ok := errors.AsType[*bodyError](err)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, ErrContent):
			return fmt.Errorf("upstream %s: blob %s: %w", g.rule.host, desc.Digest, err)
		case !ok || ctx.Err() != nil:
			return fmt.Errorf("blob %s: %w", desc.Digest, err)
		case dl.furthest.Load() >= before+leastProgress:
			stalls = 0
		default:
			stalls++
		}
		if stalls >= maxStalls {
			return fmt.Errorf("upstream %s: blob %s of %d bytes: %w", g.rule.host, desc.Digest, desc.Size, broken)
		}
	}
}

// fetching is one blob on its way, over all attempts.
type fetching struct {
	*graph
	desc     ocispec.Descriptor
	room     *promise
	announce sync.Once
	furthest atomic.Int64 // how much of the blob any attempt reached
	narrow   bool         // one stream only
}

// fetch opens the blob upstream and counts what comes.
func (d *fetching) fetch(ctx context.Context, offset int64) (io.ReadCloser, int64, error) {
	d.traffic().begins(d.desc.Digest)
	body, start, err := d.openLarge(ctx, offset)
	if err != nil {
		return nil, 0, fmt.Errorf("upstream %s: %w", d.rule.host, err)
	}
	d.announce.Do(func() { d.progress().Plan(0, d.desc.Size-start) })
	return &counted{body, d, start}, start, nil
}

// counted is an upstream's body. Its errors say that they are the body's.
type counted struct {
	io.ReadCloser
	d        *fetching
	position int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.position += int64(n)
	c.d.furthest.Store(max(c.d.furthest.Load(), c.position))
	c.d.room.keep(c.d.desc.Size - c.position)
	c.d.transferred.Add(int64(n))
	c.d.progress().Bytes(int64(n))
	if err != nil && err != io.EOF {
		err = &bodyError{err}
	}
	return n, err
}

// bodyError is a body that broke off.
type bodyError struct{ err error }

func (e *bodyError) Error() string { return "the download broke off: " + e.err.Error() }
func (e *bodyError) Unwrap() error { return e.err }
