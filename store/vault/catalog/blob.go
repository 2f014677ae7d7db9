package catalog

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"lastro/store/vault/bucket"
	"lastro/store/vault/layout"
	"lastro/store/vault/seal"
)

// NameOf is how the records and the keys of the vault call a content: by its digest,
// and in a sealed vault by what only those tell who have its key.
func (v *Catalog) NameOf(d digest.Digest) digest.Digest {
	if v.Sealed == nil {
		return d
	}
	return v.Sealed.nameOf(d)
}

// BlobKey is where a content lies.
func (v *Catalog) BlobKey(d digest.Digest) string { return layout.BlobKey(v.NameOf(d)) }

// OpenBlob opens a content at an offset; the size that comes with it is that of the
// content. It does not hash: the caller does.
func (v *Catalog) OpenBlob(ctx context.Context, d digest.Digest, offset int64) (io.ReadCloser, bucket.Info, error) {
	if v.Sealed == nil {
		return v.Bucket.Get(ctx, v.BlobKey(d), offset)
	}
	if err := v.Sealed.ready(); err != nil {
		return nil, bucket.Info{}, v.fail(err)
	}
	var info bucket.Info
	body, size, err := v.Sealed.Open(func(at int64) (body io.ReadCloser, length int64, err error) {
		body, info, err = v.Bucket.Get(ctx, v.BlobKey(d), at)
		return body, info.Size, err
	}, offset)
	if err != nil {
		return nil, bucket.Info{}, v.unsealed(d, err)
	}
	info.Size, info.SHA256 = size, ""
	return &opened{body, v, d}, info, nil
}

// Unseal opens a content of which the bytes as they lie in the vault are read from
// elsewhere, and how many these are. It takes over the body.
func (v *Catalog) Unseal(d digest.Digest, body io.ReadCloser, length int64) (io.ReadCloser, error) {
	if v.Sealed == nil {
		return body, nil
	}
	plain, _, err := v.Sealed.Open(func(int64) (io.ReadCloser, int64, error) { return body, length, nil }, 0)
	if err != nil {
		return nil, v.unsealed(d, err)
	}
	return &opened{plain, v, d}, nil
}

// opened says of what was not sealed so that it is damaged.
type opened struct {
	io.ReadCloser
	v *Catalog
	d digest.Digest
}

func (o *opened) Read(p []byte) (int, error) {
	n, err := o.ReadCloser.Read(p)
	return n, o.v.unsealed(o.d, err)
}

func (v *Catalog) unsealed(d digest.Digest, err error) error {
	switch {
	case errors.Is(err, seal.ErrDamaged), errors.Is(err, seal.ErrOthers):
		return v.damaged("blob", d, err)
	case errors.Is(err, seal.ErrNoIdentity):
		return v.fail(err)
	}
	return err
}

// PutBlob stores a content as bucket.Writer.Put does. In a sealed vault what is there
// already is taken for the same if its length can be right: nobody can compare more
// without opening it.
func (v *Catalog) PutBlob(ctx context.Context, d digest.Digest, o bucket.Object) (created bool, err error) {
	if v.Sealed == nil {
		return v.Bucket.Put(ctx, v.BlobKey(d), o)
	}
	sealed, err := v.Sealed.object(o)
	if err != nil {
		return false, v.fail(err)
	}
	created, err = v.Bucket.Put(ctx, v.BlobKey(d), sealed)
	if errors.Is(err, bucket.ErrDiffers) {
		info, failed := v.Bucket.Head(ctx, v.BlobKey(d))
		if failed != nil {
			return false, failed
		}
		if v.Fits(info.Size, o.Size) {
			return false, nil
		}
	}
	return created, err
}

// ReplaceBlob stores a content whatever lies in its place.
func (v *Catalog) ReplaceBlob(ctx context.Context, d digest.Digest, o bucket.Object) error {
	if v.Sealed == nil {
		return v.Bucket.Replace(ctx, v.BlobKey(d), o)
	}
	sealed, err := v.Sealed.object(o)
	if err != nil {
		return v.fail(err)
	}
	return v.Bucket.Replace(ctx, v.BlobKey(d), sealed)
}

// Fits tells whether an object of that length can be a content of that size.
func (v *Catalog) Fits(stored, size int64) bool {
	if v.Sealed == nil {
		return stored == size
	}
	return seal.Fits(stored, size)
}

func (v *Catalog) fail(err error) error {
	return fmt.Errorf("vault %s at %s: %w", v.Name, v.Bucket, err)
}
