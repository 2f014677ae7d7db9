package catalog

import (
	"context"
	"io"

	"github.com/opencontainers/go-digest"

	"lastro/store/vault/bucket"
	"lastro/store/vault/layout"
)

// NameOf is how the records and the keys of the vault call a content.
func (v *Catalog) NameOf(d digest.Digest) digest.Digest { return d }

// BlobKey is where a content lies.
func (v *Catalog) BlobKey(d digest.Digest) string { return layout.BlobKey(v.NameOf(d)) }

// OpenBlob opens a content at an offset; the size that comes with it is that of the
// content. It does not hash: the caller does.
func (v *Catalog) OpenBlob(ctx context.Context, d digest.Digest, offset int64) (io.ReadCloser, bucket.Info, error) {
	return v.Bucket.Get(ctx, v.BlobKey(d), offset)
}

// PutBlob stores a content as bucket.Writer.Put does.
func (v *Catalog) PutBlob(ctx context.Context, d digest.Digest, o bucket.Object) (created bool, err error) {
	return v.Bucket.Put(ctx, v.BlobKey(d), o)
}

// ReplaceBlob stores a content whatever lies in its place.
func (v *Catalog) ReplaceBlob(ctx context.Context, d digest.Digest, o bucket.Object) error {
	return v.Bucket.Replace(ctx, v.BlobKey(d), o)
}

// Fits tells whether an object of that length can be a content of that size.
func (v *Catalog) Fits(stored, size int64) bool { return stored == size }
