package s3

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	api "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/minio/crc64nvme"
	"golang.org/x/sync/errgroup"

	"lastro/store/vault/bucket"
)

const (
	single       = 200 << 20 // what goes in one request, at most
	partSize     = 64 << 20
	maxParts     = 10_000
	partsAtOnce  = 3
	abortTimeout = 15 * time.Second
)

// putLarge stores an object in parts, under its name only after its hash was found
// right. It looks first: a condition on the last request saves no transfer.
func (r *remote) putLarge(ctx context.Context, key string, o bucket.Object, when condition) (bool, error) {
	if when.absent {
		if err := r.same(ctx, key, o); status(err) != http.StatusNotFound {
			return false, err
		}
	}
	return r.settle(ctx, key, o, func() error {
		id, err := r.begin(ctx, key, r.stored(key, o))
		if err != nil {
			return err
		}
		u := &upload{r: r, key: key, id: id, o: o, part: partSizeFor(o.Size)}
		if err = u.run(ctx, when); err != nil {
			u.abort(ctx)
		}
		return err
	})
}

func partSizeFor(size int64) int64 {
	return max(partSize, (size+maxParts-1)/maxParts)
}

func (r *remote) begin(ctx context.Context, key string, how stored) (id *string, err error) {
	err = retry(ctx, r.o, "begin", key, func(int) error {
		wctx, dog := watch(ctx, r.o.Idle)
		defer dog.stop()
		out, err := r.client.CreateMultipartUpload(wctx, &api.CreateMultipartUploadInput{
			Bucket: &r.bucket, Key: r.key(key),
			ChecksumAlgorithm: types.ChecksumAlgorithmCrc64nvme, ChecksumType: types.ChecksumTypeFullObject,
			StorageClass: how.class, ServerSideEncryption: how.sse, SSEKMSKeyId: how.kmsKey,
			ObjectLockMode: how.lock, ObjectLockRetainUntilDate: how.until,
		})
		if err == nil {
			id = out.UploadId
		}
		return stalled(wctx, err)
	})
	return id, err
}

// upload is one object on its way in parts.
type upload struct {
	r     *remote
	key   string
	id    *string
	o     bucket.Object
	part  int64
	parts []types.CompletedPart
}

// run hashes part after part and sends them a few at a time.
func (u *upload) run(ctx context.Context, when condition) error {
	n := (u.o.Size + u.part - 1) / u.part
	u.parts = make([]types.CompletedPart, n)
	sha, whole := u.o.Digest.Algorithm().Hash(), crc64nvme.New()
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(partsAtOnce)
	for i := range n {
		sum, err := u.hash(i, sha, whole)
		if err != nil || gctx.Err() != nil {
			return errors.Join(err, g.Wait(), ctx.Err())
		}
		g.Go(func() error { return u.send(gctx, i, sum) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if u.o.Digest.Encoded() != hex.EncodeToString(sha.Sum(nil)) {
		return &bucket.ContentError{Digest: u.o.Digest, Err: bucket.ErrWrongBytes}
	}
	return u.complete(ctx, encode(whole.Sum64()), when)
}

func (u *upload) section(i int64) *io.SectionReader {
	return io.NewSectionReader(u.o.Content, i*u.part, min(u.part, u.o.Size-i*u.part))
}

// hash reads a part into the hashes of the whole and returns the part's own.
func (u *upload) hash(i int64, sha, whole hash.Hash) (string, error) {
	own := crc64nvme.New()
	section := u.section(i)
	n, err := io.CopyBuffer(io.MultiWriter(sha, whole, own), onlyReader{section}, make([]byte, 256<<10))
	if err == nil && n < section.Size() {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return "", &bucket.ContentError{Digest: u.o.Digest, Err: err}
	}
	return encode(own.Sum64()), nil
}

type onlyReader struct{ io.Reader }

func (u *upload) send(ctx context.Context, i int64, sum string) error {
	return retry(ctx, u.r.o, "write part of", u.key, func(int) error {
		wctx, dog := watch(ctx, u.r.o.Idle)
		defer dog.stop()
		section := u.section(i)
		out, err := u.r.client.UploadPart(wctx, &api.UploadPartInput{
			Bucket: &u.r.bucket, Key: u.r.key(u.key), UploadId: u.id, PartNumber: aws.Int32(int32(i) + 1),
			Body: kicking{section, dog.kick}, ContentLength: aws.Int64(section.Size()), ChecksumCRC64NVME: &sum,
		}, api.WithAPIOptions(v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware))
		if err != nil {
			return stalled(wctx, err)
		}
		u.parts[i] = types.CompletedPart{ETag: out.ETag, PartNumber: aws.Int32(int32(i) + 1), ChecksumCRC64NVME: &sum}
		return nil
	})
}

// kicking tells the watchdog about progress.
type kicking struct {
	io.ReadSeeker
	kick func()
}

func (k kicking) Read(p []byte) (int, error) {
	k.kick()
	return k.ReadSeeker.Read(p)
}

// complete joins the parts. Sent again after a lost answer it finds no upload any
// more: then what is stored decides.
func (u *upload) complete(ctx context.Context, sum string, when condition) error {
	in := &api.CompleteMultipartUploadInput{
		Bucket: &u.r.bucket, Key: u.r.key(u.key), UploadId: u.id, MpuObjectSize: &u.o.Size,
		MultipartUpload:   &types.CompletedMultipartUpload{Parts: u.parts},
		ChecksumCRC64NVME: &sum, ChecksumType: types.ChecksumTypeFullObject,
	}
	if when.absent {
		in.IfNoneMatch = aws.String("*")
	}
	return retry(ctx, u.r.o, "join", u.key, func(attempt int) error {
		wctx, dog := watch(ctx, u.r.o.Idle)
		defer dog.stop()
		_, err := u.r.client.CompleteMultipartUpload(wctx, in)
		if attempt > 1 && code(err) == "NoSuchUpload" {
			return u.r.same(ctx, u.key, u.o)
		}
		return stalled(wctx, when.refused(err))
	})
}

// abort frees the parts, even when ctx ended.
func (u *upload) abort(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
	defer cancel()
	_, err := u.r.client.AbortMultipartUpload(ctx, &api.AbortMultipartUploadInput{Bucket: &u.r.bucket, Key: u.r.key(u.key), UploadId: u.id})
	if err != nil && code(err) != "NoSuchUpload" {
		u.r.o.Log.Warn("parts of an upload stay behind until the bucket expires them", "key", u.key, "err", err)
	}
}

// crc is the CRC64NVME of the object.
func crcOf(o bucket.Object) (string, error) {
	h := crc64nvme.New()
	_, err := io.CopyBuffer(h, onlyReader{o.Reader(nil)}, make([]byte, 256<<10))
	return encode(h.Sum64()), err
}

// encode writes a checksum as S3 does.
func encode(crc uint64) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, crc))
}
