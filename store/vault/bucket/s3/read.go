package s3

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	api "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"lastro/store/vault/bucket"
)

// Load implements Reader. The SDK checks the bytes against the stored checksum.
func (r *remote) Load(ctx context.Context, key string) (rec bucket.Record, err error) {
	err = retry(ctx, r.o, "read", key, func(int) error {
		wctx, dog := watch(ctx, r.o.Idle)
		defer dog.stop()
		out, err := r.client.GetObject(wctx, &api.GetObjectInput{Bucket: &r.bucket, Key: r.key(key), ChecksumMode: types.ChecksumModeEnabled})
		if err != nil {
			return stalled(wctx, err)
		}
		defer out.Body.Close()
		rec = bucket.Record{ETag: aws.ToString(out.ETag)}
		if aws.ToInt64(out.ContentLength) > bucket.MaxRecord {
			return bucket.ErrTooLarge
		}
		rec.Data, err = io.ReadAll(io.LimitReader(out.Body, bucket.MaxRecord+1))
		if len(rec.Data) > bucket.MaxRecord {
			return bucket.ErrTooLarge // the server had not said so
		}
		return stalled(wctx, err)
	})
	if err != nil {
		return bucket.Record{ETag: rec.ETag}, r.fail("read", key, err)
	}
	return rec, nil
}

// Get implements Reader.
func (r *remote) Get(ctx context.Context, key string, offset int64) (io.ReadCloser, bucket.Info, error) {
	b := &body{r: r, ctx: ctx, key: key, pos: offset}
	err := retry(ctx, r.o, "read", key, func(int) error { return b.open() })
	if err != nil {
		return nil, bucket.Info{}, r.fail("read", key, err)
	}
	return b, b.info, nil
}

// GetVersion implements bucket.Server.
func (r *remote) GetVersion(ctx context.Context, v bucket.Info) (io.ReadCloser, error) {
	b := &body{r: r, ctx: ctx, key: v.Key, version: v.Version}
	err := retry(ctx, r.o, "read a version of", v.Key, func(int) error { return b.open() })
	if err != nil {
		return nil, r.fail("read a version of", v.Key, err)
	}
	return b, nil
}

// body is the stream of a content. When the connection breaks it goes on where it
// was, as long as the object is the same one and some bytes came in between.
type body struct {
	r    *remote
	ctx  context.Context // the stream's own life time, as with an HTTP body
	key  string
	pos  int64
	info bucket.Info
	etag string

	version string // "": the one that is there

	wctx   context.Context
	dog    *watchdog
	stream io.ReadCloser
}

func (b *body) open() error {
	b.shut()
	b.wctx, b.dog = watch(b.ctx, b.r.o.Idle)
	in := &api.GetObjectInput{Bucket: &b.r.bucket, Key: b.r.key(b.key)}
	if b.pos > 0 {
		in.Range = aws.String(fmt.Sprintf("bytes=%d-", b.pos))
	}
	if b.version != "" {
		in.VersionId = &b.version
	}
	if b.etag != "" {
		in.IfMatch = &b.etag
	}
	out, err := b.r.client.GetObject(b.wctx, in)
	if status(err) == http.StatusRequestedRangeNotSatisfiable {
		b.stream = http.NoBody
		return nil
	}
	if err != nil {
		err = stalled(b.wctx, err)
		b.shut()
		return err
	}
	return b.accept(out)
}

func (b *body) accept(out *api.GetObjectOutput) error {
	b.stream = out.Body
	if out.ContentLength == nil {
		return errors.New("the server does not say how long the object is")
	}
	size := *out.ContentLength
	if b.pos > 0 && out.ContentRange == nil { // a server without ranges
		if _, err := io.CopyN(io.Discard, out.Body, min(b.pos, size)); err != nil {
			return stalled(b.wctx, err)
		}
	} else {
		size += b.pos
	}
	b.etag = aws.ToString(out.ETag)
	b.info = bucket.Info{Key: b.key, Size: size, Modified: aws.ToTime(out.LastModified), ETag: b.etag, Version: versionName(out.VersionId)}
	return nil
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.read(p)
	if err == nil || err == io.EOF {
		return n, err
	}
	if n > 0 {
		return n, nil // the fault comes again with the next call
	}
	err = retry(b.ctx, b.r.o, "read", b.key, func(attempt int) error {
		if attempt == 1 {
			return err
		}
		if err := b.open(); err != nil {
			return err
		}
		n, err = b.read(p)
		if err == io.EOF {
			return nil
		}
		return err
	})
	if err != nil {
		return n, b.r.fail("read", b.key, err)
	}
	if n == 0 && b.pos >= b.info.Size {
		return 0, io.EOF
	}
	return n, nil
}

func (b *body) read(p []byte) (int, error) {
	if b.stream == nil {
		return 0, errors.New("closed")
	}
	n, err := b.stream.Read(p)
	b.pos += int64(n)
	b.dog.kick()
	if err == io.EOF && b.pos < b.info.Size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil && err != io.EOF && b.ctx.Err() == nil {
		err = errors.Join(errBroken, stalled(b.wctx, err))
	}
	return n, err
}

func (b *body) shut() {
	if b.stream != nil {
		_ = b.stream.Close() // only reading; nothing can be lost
		b.stream = nil
	}
	if b.dog != nil {
		b.dog.stop()
	}
}

// Close implements io.Closer.
func (b *body) Close() error {
	b.shut()
	return nil
}

// Head implements Reader.
func (r *remote) Head(ctx context.Context, key string) (bucket.Info, error) {
	out, err := r.head(ctx, key)
	if err != nil {
		return bucket.Info{}, r.fail("look at", key, err)
	}
	return bucket.Info{
		Key: key, Size: aws.ToInt64(out.ContentLength), Modified: aws.ToTime(out.LastModified), ETag: aws.ToString(out.ETag),
		Version: versionName(out.VersionId), SHA256: sha256Known(out), LockedUntil: lockOf(out),
	}, nil
}

// sha256Known is the server's SHA-256 of the whole object in hex, "" if it has none.
func sha256Known(out *api.HeadObjectOutput) string {
	sum, err := base64.StdEncoding.DecodeString(aws.ToString(out.ChecksumSHA256))
	if err != nil || len(sum) != sha256.Size || out.ChecksumType == types.ChecksumTypeComposite {
		return ""
	}
	return hex.EncodeToString(sum)
}

// head is what the server knows of an object.
func (r *remote) head(ctx context.Context, key string) (*api.HeadObjectOutput, error) {
	return r.headVersion(ctx, key, "")
}

func (r *remote) headVersion(ctx context.Context, key, version string) (out *api.HeadObjectOutput, err error) {
	in := &api.HeadObjectInput{Bucket: &r.bucket, Key: r.key(key), ChecksumMode: types.ChecksumModeEnabled}
	if version != "" {
		in.VersionId = &version
	}
	err = retry(ctx, r.o, "look at", key, func(int) error {
		wctx, dog := watch(ctx, r.o.Idle)
		defer dog.stop()
		out, err = r.client.HeadObject(wctx, in)
		return stalled(wctx, err)
	})
	return out, err
}
