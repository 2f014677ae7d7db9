package s3

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	api "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/middleware"
	"github.com/opencontainers/go-digest"

	"lastro/store/vault/bucket"
)

// condition is what must hold for a write to take place.
type condition struct {
	absent bool   // nothing there
	etag   string // exactly this state there
}

// refused says so when it is the condition that the server does not know.
func (c condition) refused(err error) error {
	if status(err) == http.StatusNotImplemented && c != (condition{}) {
		return fmt.Errorf("%w: %w", bucket.ErrNoConditions, err)
	}
	return err
}

// Put implements Writer.
func (r *remote) Put(ctx context.Context, key string, o bucket.Object) (bool, error) {
	created, err := r.put(ctx, key, o, condition{absent: true})
	if err != nil {
		return false, r.fail("write", key, err)
	}
	return created, nil
}

// Replace implements Writer.
func (r *remote) Replace(ctx context.Context, key string, o bucket.Object) error {
	if _, err := r.put(ctx, key, o, condition{}); err != nil {
		return r.fail("write", key, err)
	}
	return nil
}

func (r *remote) put(ctx context.Context, key string, o bucket.Object, when condition) (bool, error) {
	if err := o.Check(); err != nil {
		return false, err
	}
	if when.absent && r.lacks().Conditions {
		if err := r.same(ctx, key, o); status(err) != http.StatusNotFound {
			return false, err
		}
		when = condition{}
	}
	if o.Size > single {
		return r.putLarge(ctx, key, o, when)
	}
	sum, err := sha256Of(o)
	if err != nil {
		return false, err
	}
	return r.settle(ctx, key, o, func() error {
		return retry(ctx, r.o, "write", key, func(int) error {
			_, err := r.putOnce(ctx, key, o, sum, when)
			return err
		})
	})
}

// settle runs a create-only write; if something is there already, it says whether
// that is the same. Another process may delete it meanwhile: then it writes again.
func (r *remote) settle(ctx context.Context, key string, o bucket.Object, write func() error) (bool, error) {
	for range attempts {
		err := write()
		if status(err) != http.StatusPreconditionFailed {
			return err == nil, err
		}
		if err = r.same(ctx, key, o); status(err) != http.StatusNotFound {
			return false, err
		}
	}
	return false, bucket.ErrInTurn
}

func (r *remote) putOnce(ctx context.Context, key string, o bucket.Object, sum []byte, when condition) (etag string, err error) {
	out, err := r.sendOnce(ctx, key, o, sum, when, r.stored(key, o))
	if err != nil {
		return "", err
	}
	return aws.ToString(out.ETag), nil
}

func (r *remote) sendOnce(ctx context.Context, key string, o bucket.Object, sum []byte, when condition, how stored) (*api.PutObjectOutput, error) {
	wctx, dog := watch(ctx, r.o.Idle)
	defer dog.stop()
	in := &api.PutObjectInput{
		Bucket: &r.bucket, Key: r.key(key), Body: o.Reader(dog.kick), ContentLength: &o.Size,
		ChecksumSHA256: aws.String(base64.StdEncoding.EncodeToString(sum)),
		StorageClass:   how.class, ServerSideEncryption: how.sse, SSEKMSKeyId: how.kmsKey,
		ObjectLockMode: how.lock, ObjectLockRetainUntilDate: how.until,
	}
	if when.absent {
		in.IfNoneMatch = aws.String("*")
	}
	if when.etag != "" {
		in.IfMatch = &when.etag
	}
	out, err := r.client.PutObject(wctx, in, signedAs(hex.EncodeToString(sum)))
	return out, stalled(wctx, when.refused(err))
}

// signedAs gives the signer the payload's hash, which it would compute once more.
func signedAs(hash string) func(*api.Options) {
	m := middleware.InitializeMiddlewareFunc("KnownPayloadHash", func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
		return next.HandleInitialize(v4.SetPayloadHash(ctx, hash), in)
	})
	return api.WithAPIOptions(func(s *middleware.Stack) error { return s.Initialize.Add(m, middleware.Before) })
}

// sha256 is what the server can check: the digest itself, or one more hash of the
// rare content with a digest of another kind.
func sha256Of(o bucket.Object) ([]byte, error) {
	if o.Digest.Algorithm() == digest.SHA256 {
		return hex.DecodeString(o.Digest.Encoded())
	}
	h := sha256.New()
	_, err := io.Copy(h, o.Reader(nil))
	return h.Sum(nil), err
}

// Swap implements Writer.
func (r *remote) Swap(ctx context.Context, key, old string, data []byte) (etag string, err error) {
	o := bucket.Bytes(data)
	sum := sha256.Sum256(data)
	when := condition{absent: old == "", etag: old}
	if r.lacks().Conditions {
		if err := r.look(ctx, key, old); err != nil {
			return "", r.fail("write", key, err)
		}
		when = condition{}
	}
	err = retry(ctx, r.o, "replace", key, func(attempt int) error {
		etag, err = r.putOnce(ctx, key, o, sum[:], when)
		if s := status(err); s != http.StatusPreconditionFailed && (s != http.StatusNotFound || code(err) == "NoSuchBucket") {
			return err
		}
		if attempt == 1 {
			return bucket.ErrChanged
		}
		etag, err = r.mine(ctx, key, data)
		return err
	})
	if err != nil {
		return "", r.fail("write", key, err)
	}
	return etag, nil
}

// mine settles a Swap whose first answer was lost: the record may be ours.
func (r *remote) mine(ctx context.Context, key string, data []byte) (string, error) {
	rec, err := r.Load(ctx, key)
	if err != nil {
		return "", err
	}
	if string(rec.Data) != string(data) {
		return "", bucket.ErrChanged
	}
	return rec.ETag, nil
}

// same compares what is stored with the object: by the server's checksum, and by
// reading it where the server has none.
func (r *remote) same(ctx context.Context, key string, o bucket.Object) error {
	head, err := r.head(ctx, key)
	if err != nil {
		return err
	}
	if aws.ToInt64(head.ContentLength) != o.Size {
		return bucket.ErrDiffers
	}
	known, ours, err := compare(o, head)
	if err != nil {
		return err
	}
	if known == "" || r.lacks().Checksums {
		return r.sameBytes(ctx, key, o)
	}
	if known != ours {
		return bucket.ErrDiffers
	}
	return nil
}

// compare returns the server's checksum of the whole object, "" if it has none, and ours.
func compare(o bucket.Object, head *api.HeadObjectOutput) (known, ours string, err error) {
	whole := head.ChecksumType != types.ChecksumTypeComposite
	switch sha, crc := aws.ToString(head.ChecksumSHA256), aws.ToString(head.ChecksumCRC64NVME); {
	case whole && sha != "" && !strings.Contains(sha, "-"):
		sum, err := sha256Of(o)
		return sha, base64.StdEncoding.EncodeToString(sum), err
	case whole && crc != "":
		sum, err := crcOf(o)
		return crc, sum, err
	}
	return "", "", nil
}

func (r *remote) sameBytes(ctx context.Context, key string, o bucket.Object) error {
	body, _, err := r.Get(ctx, key, 0)
	if err != nil {
		return err
	}
	defer body.Close()
	v := o.Digest.Verifier()
	if _, err := io.Copy(v, body); err != nil {
		return err
	}
	if !v.Verified() {
		return bucket.ErrDiffers
	}
	return nil
}
