package pull

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

type verifiedKey struct{}

// Verified is a context of a request for a part of a blob: the part is given out
// when the whole is here and was found right. Otherwise only who reads to the end
// is sure of that.
func Verified(ctx context.Context) context.Context {
	return context.WithValue(ctx, verifiedKey{}, true)
}

// Blob is a stream of a blob that the snapshot has in a repository; fs.ErrNotExist.
// Nothing is fetched before it is opened.
func (s *Snapshot) Blob(ctx context.Context, repo string, d digest.Digest) (mirror.Stream, error) {
	r, err := s.repository(ctx, repo)
	if err != nil {
		return mirror.Stream{}, err
	}
	desc, ok := r.blob(d)
	if !ok {
		if err := s.walk(ctx, r); err != nil {
			return mirror.Stream{}, err
		}
		if desc, ok = r.blob(d); !ok {
			return mirror.Stream{}, fs.ErrNotExist
		}
	}
	if desc.Size == 0 && d != d.Algorithm().FromBytes(nil) {
		// Whoever has read all of nothing has met no check of it.
		return mirror.Stream{}, s.refused(ctx, repo, d, damaged(errors.New("it is not empty, as its manifest says")))
	}
	return mirror.Stream{Size: desc.Size, Open: func(ctx context.Context, offset int64) (io.ReadCloser, error) {
		body, err := s.open(ctx, desc, offset)
		if err != nil {
			return nil, s.refused(ctx, repo, d, err)
		}
		return body, nil
	}}, nil
}

// open reads a blob that is held, or comes; when it does neither it is sent for.
func (s *Snapshot) open(ctx context.Context, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	if ctx.Value(verifiedKey{}) != nil {
		if err := s.hold(ctx, desc); err != nil {
			return nil, err
		}
	}
	for {
		body, err := s.store.Follow(ctx, desc, offset)
		if !errors.Is(err, fs.ErrNotExist) {
			return body, err
		}
		t, err := s.load(desc)
		if err != nil {
			return nil, err
		}
		select {
		case <-t.begun:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if err := t.ended(); err != nil {
			return nil, err
		}
	}
}

// hold waits until a blob is whole in the store.
func (s *Snapshot) hold(ctx context.Context, desc ocispec.Descriptor) error {
	has, err := s.store.Has(ctx, desc)
	if err != nil || has {
		return err
	}
	t, err := s.load(desc)
	if err != nil {
		return err
	}
	return t.wait(ctx)
}

// ended is the error of a task that has ended.
func (t *task) ended() error {
	select {
	case <-t.done:
		return t.err
	default:
		return nil
	}
}

// load brings a blob into the store.
func (s *Snapshot) load(desc ocispec.Descriptor) (*task, error) {
	return s.share("blob "+desc.Digest.String(), func(ctx context.Context, begun func()) (any, error) {
		leave, err := s.place(ctx)
		if err != nil {
			return nil, err
		}
		defer leave()
		err = s.store.Ingest(ctx, desc, func(ctx context.Context, offset int64) (io.ReadCloser, int64, error) {
			body, err := s.get(ctx, desc, offset)
			begun()
			return body, offset, err
		})
		if err == nil {
			err = s.held(ctx, desc)
		}
		if err != nil && ctx.Err() == nil {
			s.log.Warn("blob not served from the vault", "bucket", s.catalog.Bucket.String(), "object", s.catalog.BlobKey(desc.Digest), "err", err)
		}
		return nil, err
	})
}

func (s *Snapshot) held(ctx context.Context, desc ocispec.Descriptor) error {
	has, err := s.store.Has(ctx, desc)
	if err == nil && !has {
		err = fmt.Errorf("local blob %s went as soon as it had come", desc.Digest)
	}
	return err
}

// get opens a blob in the vault.
func (s *Snapshot) get(ctx context.Context, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	body, info, err := s.catalog.OpenBlob(ctx, desc.Digest, offset)
	if err == nil && info.Size != desc.Size {
		err = errors.Join(damaged(fmt.Errorf("%d bytes, not %d", info.Size, desc.Size)), body.Close())
	}
	return body, err
}
