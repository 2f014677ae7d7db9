package s3

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	api "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"lastro/store/vault/bucket"
	"lastro/store/vault/layout"
)

var errNoLock = errors.New("s3.object-lock is set, and the bucket has no Object Lock: take a bucket that was made with it, or take the setting out")

// lockable is what a vault cannot do without. What other programs read, receipts and
// the probe's are rewritten or removed.
func lockable(key string) bool {
	return strings.HasPrefix(key, layout.DirBlobs) || strings.HasPrefix(key, layout.DirSnapshots) || key == layout.KeyConfig || key == layout.KeyHead
}

// seconds is what servers keep of a time.
func seconds(t time.Time) *time.Time { return aws.Time(t.UTC().Truncate(time.Second)) }

// Retain implements bucket.Server.
func (r *remote) Retain(ctx context.Context, versions []bucket.Info, until time.Time) error {
	if r.set.ObjectLock == nil {
		return errors.New("no s3.object-lock is configured")
	}
	var g errgroup.Group
	g.SetLimit(8)
	for _, v := range versions {
		g.Go(func() error {
			if err := r.retain(ctx, v, until); err != nil {
				return r.fail("lock", v.Key, err)
			}
			return nil
		})
	}
	return g.Wait()
}

func (r *remote) retain(ctx context.Context, v bucket.Info, until time.Time) error {
	in := &api.PutObjectRetentionInput{Bucket: &r.bucket, Key: r.key(v.Key), Retention: &types.ObjectLockRetention{
		Mode: types.ObjectLockRetentionMode(r.set.ObjectLock.mode()), RetainUntilDate: seconds(until)}}
	if v.Version != "" {
		in.VersionId = &v.Version
	}
	err := retry(ctx, r.o, "lock", v.Key, func(int) error {
		wctx, dog := watch(ctx, r.o.Idle)
		defer dog.stop()
		_, err := r.client.PutObjectRetention(wctx, in)
		return stalled(wctx, err)
	})
	switch status(err) {
	case http.StatusNotFound, http.StatusMethodNotAllowed: // removed, or the mark of that
		if code(err) != "NoSuchBucket" {
			return nil
		}
	case http.StatusForbidden, http.StatusBadRequest:
		if at := r.lockedUntil(ctx, v); !at.Before(*seconds(until)) {
			return nil
		}
	}
	return err
}

// tryFor is how long an object of the probe stays locked: longer than clocks differ.
const tryFor = 10 * time.Minute

// Locks implements bucket.Server.
func (r *remote) Locks(ctx context.Context, key string) (wanted, kept bool, err error) {
	if r.set.ObjectLock == nil {
		return false, false, nil
	}
	version, err := r.putLocked(ctx, key)
	if err != nil {
		return true, false, r.fail("write", key, err)
	}
	left, err := r.Remove(ctx, []bucket.Info{{Key: key, Version: version}})
	if err != nil {
		return true, false, err
	}
	for _, k := range left {
		if _, kept = errors.AsType[*bucket.LockedError](k.Err); !kept {
			return true, false, k.Err
		}
	}
	return true, kept && version != "", nil
}

func (r *remote) putLocked(ctx context.Context, key string) (version string, err error) {
	o := bucket.Bytes([]byte("locked for some minutes, to see whether that keeps"))
	sum, err := sha256Of(o)
	if err != nil {
		return "", err
	}
	how := r.stored(key, o)
	how.lock, how.until = types.ObjectLockMode(r.set.ObjectLock.mode()), seconds(r.o.Now().Add(tryFor))
	err = retry(ctx, r.o, "write", key, func(int) error {
		out, err := r.sendOnce(ctx, key, o, sum, condition{}, how)
		if err == nil {
			version = versionName(out.VersionId)
		}
		return err
	})
	return version, err
}
