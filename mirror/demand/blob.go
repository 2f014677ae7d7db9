package demand

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
)

// task is work that several clients wait for.
type task struct {
	done chan struct{}
	size int64
	err  error
}

// share starts work, or joins who started the same. It goes on when clients leave.
func (d *Demand) share(key string, work func(context.Context) (int64, error)) (*task, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if t := d.tasks[key]; t != nil {
		return t, nil
	}
	switch {
	case d.closed:
		return nil, errClosed
	case len(d.tasks) >= d.o.Waiting:
		return nil, errBusy
	}
	t := &task{done: make(chan struct{})}
	d.tasks[key] = t
	d.work.Go(func() {
		t.size, t.err = work(d.ctx)
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.tasks, key)
		close(t.done)
	})
	return t, nil
}

// Blob is a stream of a blob of an image that is on its way, or else of one
// that the upstream repository has. fs.ErrNotExist, *[mirror.ThrottledError].
// Nothing is fetched before the stream is opened. The Destination has to be a
// [mirror.Follower]: without one there are no streams.
func (d *Demand) Blob(ctx context.Context, repo string, b digest.Digest) (mirror.Stream, error) {
	origins := d.rules().Origins(repo)
	follower, ok := d.engine().Dest.(mirror.Follower)
	if len(origins) == 0 || !ok {
		return mirror.Stream{}, fs.ErrNotExist
	}
	origin, desc, err := d.describe(ctx, repo, onDemand(origins), b)
	if err == nil && desc.Size == 0 && b != b.Algorithm().FromBytes(nil) {
		// Whoever has read all of nothing has met no check of it.
		err = fmt.Errorf("upstream %s says that blob %s is empty, which it is not", origin.Upstream, b)
	}
	if err != nil {
		return mirror.Stream{}, err
	}
	return mirror.Stream{Size: desc.Size, Open: func(ctx context.Context, offset int64) (io.ReadCloser, error) {
		return d.open(ctx, follower, origin, desc, offset)
	}}, nil
}

// describe finds the size of a blob, and where it comes from.
func (d *Demand) describe(ctx context.Context, repo string, o mirror.Origin, b digest.Digest) (mirror.Origin, ocispec.Descriptor, error) {
	for _, r := range d.recent(repo) {
		if desc, ok := r.lookUp(r.blobs, b); ok {
			return r.origin, desc, nil
		}
	}
	if !o.Rule().OnDemand {
		return o, ocispec.Descriptor{}, fs.ErrNotExist
	}
	size, err := d.size(ctx, o, b)
	return o, ocispec.Descriptor{MediaType: "application/octet-stream", Digest: b, Size: size}, err
}

// size asks the upstream repository for a blob.
func (d *Demand) size(ctx context.Context, o mirror.Origin, b digest.Digest) (int64, error) {
	key := "size " + o.Local + "@" + b.String()
	now := d.engine().Now()
	d.mu.Lock()
	err, refused := d.refused.get(key, now)
	d.mu.Unlock()
	if refused {
		return 0, err
	}
	t, err := d.share(key, func(ctx context.Context) (int64, error) {
		size, err := d.engine().Size(ctx, o, b)
		if err != nil && ctx.Err() == nil {
			now := d.engine().Now()
			d.mu.Lock()
			defer d.mu.Unlock()
			d.refused.put(key, err, now, now.Add(refusal(err, now)))
		}
		return size, err
	})
	if err != nil {
		return 0, err
	}
	select {
	case <-t.done:
		return t.size, t.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// open reads a blob that is held, or comes; when it does neither it is sent for.
func (d *Demand) open(ctx context.Context, f mirror.Follower, o mirror.Origin, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	for {
		changed, release := d.engine().Watch(desc.Digest)
		body, err := f.Follow(ctx, desc, offset)
		if !errors.Is(err, fs.ErrNotExist) {
			release()
			return body, err
		}
		t, err := d.load(o, desc)
		if err == nil {
			err = d.news(ctx, t, changed, desc)
		}
		release()
		if err != nil {
			return nil, err
		}
	}
}

// news waits until it is worth looking for a blob again.
func (d *Demand) news(ctx context.Context, t *task, changed <-chan struct{}, desc ocispec.Descriptor) error {
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-t.done:
	}
	if t.err != nil {
		return t.err
	}
	has, err := d.engine().Dest.Has(ctx, desc)
	if err == nil && !has {
		err = fmt.Errorf("local blob %s went as soon as it had come", desc.Digest)
	}
	return err
}

// load brings a blob, ahead of what waits.
func (d *Demand) load(o mirror.Origin, desc ocispec.Descriptor) (*task, error) {
	return d.share("load "+o.Local+"@"+desc.Digest.String(), func(ctx context.Context) (int64, error) {
		err := d.engine().Fetch(ctx, o, desc)
		if err != nil && ctx.Err() == nil {
			d.o.Log.Warn("blob not pulled through", "repo", o.Local, "digest", desc.Digest, "upstream", o.Upstream.Host, "err", err)
		}
		return desc.Size, err
	})
}
