package s3

import (
	"cmp"
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"lastro/store/vault/bucket"
)

// stored is how an object is to be stored.
type stored struct {
	class  types.StorageClass
	sse    types.ServerSideEncryption
	kmsKey *string
	lock   types.ObjectLockMode
	until  *time.Time
}

// stored follows the settings. Only bulk goes to another class of storage: records,
// manifests and indexes are read at every turn.
func (r *remote) stored(key string, o bucket.Object) stored {
	s := stored{sse: r.set.SSE.algorithm()}
	if o.Bulk {
		s.class = types.StorageClass(r.set.StorageClass)
	}
	if kms := r.set.SSE.KMSKey; kms != "" {
		s.kmsKey = &kms
	}
	if l := r.set.ObjectLock; l != nil && lockable(key) {
		s.lock, s.until = types.ObjectLockMode(l.mode()), seconds(r.o.Now().Add(l.Retain))
	}
	return s
}

// Asked implements bucket.Server. A class of storage that is not the one only costs
// more; bytes that are not encrypted must not be sent.
func (r *remote) Asked(ctx context.Context, key string) (list []bucket.Asked, err error) {
	want := r.stored("", bucket.Object{Bulk: true})
	if want == (stored{}) {
		return nil, nil
	}
	head, err := r.head(ctx, key)
	if err != nil {
		return nil, r.fail("look at", key, err)
	}
	if want.class != "" {
		list = append(list, bucket.Asked{Setting: "s3.storage-class", Want: string(want.class), Got: string(cmp.Or(head.StorageClass, types.StorageClassStandard))})
	}
	if want.sse != "" {
		list = append(list, bucket.Asked{Setting: "s3.sse", Want: string(want.sse), Got: string(head.ServerSideEncryption), Must: true})
	}
	return list, nil
}
