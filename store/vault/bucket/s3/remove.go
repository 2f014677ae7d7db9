package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	api "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"lastro/store/vault/bucket"
)

// maxDelete is how many objects one DeleteObjects may name.
const maxDelete = 1000

// Remove implements Remover. Requests that name versions only may be sent again: a
// version's name never comes to mean something else. Others are sent once.
func (r *remote) Remove(ctx context.Context, objects []bucket.Info) ([]bucket.Kept, error) {
	versions, plain, kept := split(objects)
	for batch := range slices.Chunk(versions, maxDelete) {
		first := batch[0].Key
		err := retry(ctx, r.o, "remove", first, func(int) error {
			left, err := r.removeBatch(ctx, &batch)
			kept = append(kept, left...)
			return err
		})
		if err != nil {
			return kept, r.fail("remove", first, err)
		}
	}
	for batch := range slices.Chunk(plain, maxDelete) {
		first := batch[0].Key
		left, err := r.removeBatch(ctx, &batch)
		kept = append(kept, left...)
		if err != nil {
			return kept, r.fail("remove", first, err)
		}
	}
	return kept, nil
}

// split keeps what could mean something outside the vault.
func split(objects []bucket.Info) (versions, plain []bucket.Info, kept []bucket.Kept) {
	for _, o := range objects {
		switch {
		case !fs.ValidPath(o.Key) || o.Key == ".":
			kept = append(kept, bucket.Kept{Key: o.Key, Version: o.Version, Err: fs.ErrInvalid})
		case o.Version != "":
			versions = append(versions, o)
		default:
			plain = append(plain, o)
		}
	}
	return versions, plain, kept
}

// removeBatch takes out of the batch what is removed or kept for good. With an
// error, what is left there is open.
func (r *remote) removeBatch(ctx context.Context, batch *[]bucket.Info) ([]bucket.Kept, error) {
	out, err := r.deleteObjects(ctx, *batch)
	if err != nil {
		return nil, err
	}
	settled, refused, err := r.read(out)
	var kept, open []bucket.Info
	for _, o := range *batch {
		id := name{o.Key, o.Version}
		switch {
		case refused[id] != nil:
			kept = append(kept, o)
		case !settled[id]:
			open = append(open, o)
		}
	}
	*batch = open
	if len(open) == 0 {
		err = nil
	} else if err == nil {
		err = fmt.Errorf("the server does not say what became of %d of the objects to remove, %s among them", len(open), open[0].Key)
	}
	return r.reasons(ctx, kept, refused), err
}

func (r *remote) deleteObjects(ctx context.Context, batch []bucket.Info) (*api.DeleteObjectsOutput, error) {
	var ids []types.ObjectIdentifier
	for _, o := range batch {
		id := types.ObjectIdentifier{Key: r.key(o.Key)}
		if o.Version != "" {
			id.VersionId = aws.String(o.Version)
		}
		ids = append(ids, id)
	}
	wctx, dog := watch(ctx, r.o.Idle)
	defer dog.stop()
	out, err := r.client.DeleteObjects(wctx, &api.DeleteObjectsInput{Bucket: &r.bucket, Delete: &types.Delete{Objects: ids}})
	return out, stalled(wctx, err)
}

// name is one version of an object, or what lies under its key.
type name struct{ key, version string }

// read sorts an answer. An error is a fault of the server that concerns some of them.
func (r *remote) read(out *api.DeleteObjectsOutput) (settled map[name]bool, refused map[name]error, err error) {
	settled, refused = map[name]bool{}, map[name]error{}
	for _, d := range out.Deleted {
		settled[name{r.short(d.Key), aws.ToString(d.VersionId)}] = true
	}
	for _, e := range out.Errors {
		id := name{r.short(e.Key), aws.ToString(e.VersionId)}
		switch c := aws.ToString(e.Code); c {
		case "NoSuchKey", "NoSuchVersion":
			settled[id] = true
		case "InternalError", "SlowDown", "ServiceUnavailable", "OperationAborted":
			err = &deleteError{id.key, c, aws.ToString(e.Message)}
		case "AccessDenied":
			refused[id] = fmt.Errorf("%w: %s: give the credentials the right to delete (s3:DeleteObject, s3:DeleteObjectVersion)", fs.ErrPermission, aws.ToString(e.Message))
		default:
			refused[id] = fmt.Errorf("%s: %s", c, aws.ToString(e.Message))
		}
	}
	return settled, refused, err
}

// deleteError is a fault of the server with one of many objects.
type deleteError struct{ key, code, message string }

func (e *deleteError) Error() string { return e.key + ": " + e.code + ": " + e.message }

// reasons says of each refused object why it stays: a lock, if it has one.
func (r *remote) reasons(ctx context.Context, objects []bucket.Info, refused map[name]error) []bucket.Kept {
	kept := make([]bucket.Kept, len(objects))
	var g errgroup.Group
	g.SetLimit(8)
	for i, o := range objects {
		g.Go(func() error {
			kept[i] = bucket.Kept{Key: o.Key, Version: o.Version, Err: refused[name{o.Key, o.Version}]}
			if until := r.lockedUntil(ctx, o); !until.IsZero() {
				kept[i].Err = &bucket.LockedError{Until: until}
			}
			return nil
		})
	}
	_ = g.Wait() // none returns one
	return kept
}

// lockedUntil is zero if there is no lock, or none that can be seen. Some servers
// tell of older versions only when they are asked for the lock itself.
func (r *remote) lockedUntil(ctx context.Context, o bucket.Info) time.Time {
	out, err := r.headVersion(ctx, o.Key, o.Version)
	if err != nil {
		return time.Time{}
	}
	if until := lockOf(out); o.Version == "" || !until.IsZero() {
		return until
	}
	return r.retention(ctx, o)
}

func (r *remote) retention(ctx context.Context, o bucket.Info) time.Time {
	wctx, dog := watch(ctx, r.o.Idle)
	defer dog.stop()
	out, err := r.client.GetObjectRetention(wctx, &api.GetObjectRetentionInput{Bucket: &r.bucket, Key: r.key(o.Key), VersionId: &o.Version})
	if err != nil || out.Retention == nil {
		return time.Time{}
	}
	return aws.ToTime(out.Retention.RetainUntilDate)
}

// forever stands for a legal hold, which has no end of its own.
var forever = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

func lockOf(out *api.HeadObjectOutput) time.Time {
	if out.ObjectLockLegalHoldStatus == types.ObjectLockLegalHoldStatusOn {
		return forever
	}
	return aws.ToTime(out.ObjectLockRetainUntilDate)
}

// removable tells faults of single objects that may be gone at the next try.
func removable(err error) bool {
	_, ok := errors.AsType[*deleteError](err)
	return ok
}
