package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxStalls is how often in a row a download may break off without having
// brought a byte.
const maxStalls = 3

// blob stores one blob. A body that breaks off is continued where it did, for
// as long as each attempt brings something: this is the one place where bodies
// are tried again, as the upstream's is for requests.
func (g *graph) blob(ctx context.Context, desc ocispec.Descriptor) error {
	has, err := g.Dest.Has(ctx, desc)
	if err != nil {
		return fmt.Errorf("local blob %s: %w", desc.Digest, err)
	}
	if has {
		return nil
	}
	if err := g.blobs.Acquire(ctx, 1); err != nil {
		return err
	}
	defer g.blobs.Release(1)
	g.progress().Plan(0, desc.Size)
	var got atomic.Int64
	for stalls := 0; ; {
		before := got.Load()
		err := g.Dest.Ingest(ctx, desc, g.fetch(desc, &got))
		broken, ok := errors.AsType[*bodyError](err)
		switch {
		case err == nil:
			return nil
		case !ok || ctx.Err() != nil:
			return fmt.Errorf("blob %s: %w", desc.Digest, err)
		case got.Load() > before:
			stalls = 0
		default:
			stalls++
		}
		if stalls >= maxStalls {
			return fmt.Errorf("upstream %s: blob %s of %d bytes: %w", g.rule.host, desc.Digest, desc.Size, broken)
		}
	}
}

// fetch opens the blob upstream and counts what comes.
func (g *graph) fetch(desc ocispec.Descriptor, got *atomic.Int64) Fetch {
	return func(ctx context.Context, offset int64) (io.ReadCloser, int64, error) {
		body, start, err := g.src.Blob(ctx, g.change.repository, desc, offset)
		if err != nil {
			return nil, 0, fmt.Errorf("upstream %s: %w", g.rule.host, err)
		}
		return &counted{body, g, got}, start, nil
	}
}

// counted is an upstream's body. Its errors say that they are the body's.
type counted struct {
	io.ReadCloser
	g   *graph
	got *atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.got.Add(int64(n))
	c.g.transferred.Add(int64(n))
	c.g.progress().Bytes(int64(n))
	if err != nil && err != io.EOF {
		err = &bodyError{err}
	}
	return n, err
}

// bodyError is a body that broke off.
type bodyError struct{ err error }

func (e *bodyError) Error() string { return "the download broke off: " + e.err.Error() }
func (e *bodyError) Unwrap() error { return e.err }
