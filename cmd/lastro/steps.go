package main

import (
	"context"

	"lastro/store/vault/bucket"
)

// steppingBucket announces every change before it is made, so that a test can
// end the process there.
type steppingBucket struct {
	bucket.Bucket
	step func(op, subject string)
}

func (b steppingBucket) Put(ctx context.Context, key string, o bucket.Object) (bool, error) {
	b.step("put", key)
	return b.Bucket.Put(ctx, key, o)
}

func (b steppingBucket) Replace(ctx context.Context, key string, o bucket.Object) error {
	b.step("replace", key)
	return b.Bucket.Replace(ctx, key, o)
}

func (b steppingBucket) Swap(ctx context.Context, key, etag string, data []byte) (string, error) {
	b.step("swap", key)
	return b.Bucket.Swap(ctx, key, etag, data)
}

func (b steppingBucket) Remove(ctx context.Context, objects []bucket.Info) ([]bucket.Kept, error) {
	for _, o := range objects {
		b.step("remove", o.Key)
	}
	return b.Bucket.Remove(ctx, objects)
}
