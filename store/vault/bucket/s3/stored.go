package s3

import (
	"cmp"
	"context"

	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"lastro/store/vault/bucket"
)

// stored is how an object is to be stored.
type stored struct {
	class  types.StorageClass
	sse    types.ServerSideEncryption
	kmsKey *string
}

// stored follows the settings. Only bulk goes to another class of storage: records,
// manifests and indexes are read at every turn.
func (r *remote) stored(o bucket.Object) stored {
	s := stored{sse: r.set.SSE.algorithm()}
	if o.Bulk {
		s.class = types.StorageClass(r.set.StorageClass)
	}
	if key := r.set.SSE.KMSKey; key != "" {
		s.kmsKey = &key
	}
	return s
}

// Asked implements bucket.Server. A class of storage that is not the one only costs
// more; bytes that are not encrypted must not be sent.
func (r *remote) Asked(ctx context.Context, key string) (list []bucket.Asked, err error) {
	want := r.stored(bucket.Object{Bulk: true})
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
