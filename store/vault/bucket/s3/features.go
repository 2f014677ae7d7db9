package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"iter"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	api "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"lastro/store/vault/bucket"
)

var _ bucket.Server = (*remote)(nil)

// Features implements bucket.Server. What the credentials may not ask, or the server
// does not know, is off.
func (r *remote) Features(ctx context.Context) (f bucket.Features, err error) {
	if f.Versions, err = r.versioned(ctx); err != nil {
		return f, r.fail("look at", "the versioning of the bucket", err)
	}
	if f.Lock, err = r.locking(ctx); err != nil {
		return f, r.fail("look at", "the Object Lock of the bucket", err)
	}
	return f, nil
}

func (r *remote) locking(ctx context.Context) (on bool, err error) {
	err = retry(ctx, r.o, "look at", "the Object Lock of the bucket", func(int) error {
		wctx, dog := watch(ctx, r.o.Idle)
		defer dog.stop()
		out, err := r.client.GetObjectLockConfiguration(wctx, &api.GetObjectLockConfigurationInput{Bucket: &r.bucket})
		if err == nil && out.ObjectLockConfiguration != nil {
			on = out.ObjectLockConfiguration.ObjectLockEnabled == types.ObjectLockEnabledEnabled
		}
		return stalled(wctx, err)
	})
	if code(err) != "NoSuchBucket" && unasked(err) {
		return false, nil
	}
	return on, err
}

// unasked is the answer to a question that the server does not know or allow.
func unasked(err error) bool {
	switch status(err) {
	case http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return true
	}
	return false
}

// RefusesWrong implements bucket.Server.
func (r *remote) RefusesWrong(ctx context.Context, key string) (refused bool, err error) {
	err = retry(ctx, r.o, "write", key, func(int) error {
		err := r.putWrong(ctx, key)
		if s := status(err); s == http.StatusPreconditionFailed || s == http.StatusBadRequest && code(err) != "RequestTimeout" {
			refused, err = true, nil
		}
		return err
	})
	if err != nil {
		return false, r.fail("write", key, err)
	}
	return refused, nil
}

// Both have the same length.
const (
	wrongSent  = "the bytes that are sent"
	wrongMeant = "the bytes that we meant"
)

func (r *remote) putWrong(ctx context.Context, key string) error {
	data, meant := []byte(wrongSent), sha256.Sum256([]byte(wrongMeant))
	own := sha256.Sum256(data)
	wctx, dog := watch(ctx, r.o.Idle)
	defer dog.stop()
	_, err := r.client.PutObject(wctx, &api.PutObjectInput{
		Bucket: &r.bucket, Key: r.key(key), Body: bytes.NewReader(data), ContentLength: aws.Int64(int64(len(data))),
		ChecksumSHA256: aws.String(base64.StdEncoding.EncodeToString(meant[:])),
	}, signedAs(hex.EncodeToString(own[:])))
	return stalled(wctx, err)
}

// Versions implements bucket.Server.
func (r *remote) Versions(ctx context.Context, prefix string) iter.Seq2[bucket.Info, error] {
	return func(yield func(bucket.Info, error) bool) {
		for v, err := range r.versions(ctx, prefix) {
			if !yield(v.Info, err) {
				return
			}
		}
	}
}

// Adapt implements bucket.Server.
func (r *remote) Adapt(l bucket.Lacks) { r.without.Store(&l) }

func (r *remote) lacks() bucket.Lacks {
	if l := r.without.Load(); l != nil {
		return *l
	}
	return bucket.Lacks{}
}

// look says whether a condition holds, for servers that take none: then nothing
// keeps another writer from coming between the look and the write.
func (r *remote) look(ctx context.Context, key, etag string) error {
	now := ""
	head, err := r.head(ctx, key)
	switch {
	case err == nil:
		now = aws.ToString(head.ETag)
	case status(err) != http.StatusNotFound:
		return err
	}
	if now != etag {
		return bucket.ErrChanged
	}
	return nil
}
