package s3

import (
	"context"
	"iter"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	api "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"lastro/store/vault/bucket"
)

// List implements Reader. In a bucket with versions it lists the newest of each
// object with its name, if the credentials allow that.
func (r *remote) List(ctx context.Context, prefix string) iter.Seq2[bucket.Info, error] {
	return func(yield func(bucket.Info, error) bool) {
		versions, err := r.versioned(ctx)
		if err != nil {
			yield(bucket.Info{}, r.fail("list", prefix, err))
			return
		}
		if !versions {
			r.listPlain(ctx, prefix, yield)
			return
		}
		for v, err := range r.versions(ctx, prefix) {
			if err == nil && (!v.latest || v.marker) {
				continue
			}
			if !yield(v.Info, err) || err != nil {
				return
			}
		}
	}
}

func (r *remote) listPlain(ctx context.Context, prefix string, yield func(bucket.Info, error) bool) {
	in := &api.ListObjectsV2Input{Bucket: &r.bucket, Prefix: aws.String(r.under() + prefix)}
	for {
		page, err := r.page(ctx, in)
		if err != nil {
			yield(bucket.Info{}, r.fail("list", prefix, err))
			return
		}
		for _, o := range page.Contents {
			if !yield(bucket.Info{Key: r.short(o.Key), Size: aws.ToInt64(o.Size), Modified: aws.ToTime(o.LastModified), ETag: aws.ToString(o.ETag)}, nil) {
				return
			}
		}
		if !aws.ToBool(page.IsTruncated) || page.NextContinuationToken == nil {
			return
		}
		in.ContinuationToken = page.NextContinuationToken
	}
}

func (r *remote) page(ctx context.Context, in *api.ListObjectsV2Input) (page *api.ListObjectsV2Output, err error) {
	err = retry(ctx, r.o, "list", aws.ToString(in.Prefix), func(int) error {
		wctx, dog := watch(ctx, r.o.Idle)
		defer dog.stop()
		page, err = r.client.ListObjectsV2(wctx, in)
		return stalled(wctx, err)
	})
	return page, err
}

// under is what all keys of the bucket start with.
func (r *remote) under() string {
	if r.prefix == "" {
		return ""
	}
	return r.prefix + "/"
}

// short is the key without what all keys start with.
func (r *remote) short(key *string) string { return strings.TrimPrefix(aws.ToString(key), r.under()) }

// versioned tells whether listings can name versions. It is asked once; credentials
// that may not know list without.
func (r *remote) versioned(ctx context.Context) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.knownVersions != nil {
		return *r.knownVersions, nil
	}
	on, err := r.askVersions(ctx)
	if s := status(err); s == http.StatusForbidden || s == http.StatusNotImplemented || s == http.StatusMethodNotAllowed {
		on, err = false, nil
	}
	if err == nil {
		r.knownVersions = &on
	}
	return on, err
}

func (r *remote) askVersions(ctx context.Context) (on bool, err error) {
	err = retry(ctx, r.o, "look at", "the versioning of the bucket", func(int) error {
		wctx, dog := watch(ctx, r.o.Idle)
		defer dog.stop()
		out, err := r.client.GetBucketVersioning(wctx, &api.GetBucketVersioningInput{Bucket: &r.bucket})
		if err == nil {
			on = out.Status == types.BucketVersioningStatusEnabled
		}
		return stalled(wctx, err)
	})
	return on, err
}

// version is one version of an object, or the mark that it was removed.
type version struct {
	bucket.Info
	latest, marker bool
}

// versions yields all versions of all that lies or lay under a prefix.
func (r *remote) versions(ctx context.Context, prefix string) iter.Seq2[version, error] {
	return func(yield func(version, error) bool) {
		in := &api.ListObjectVersionsInput{Bucket: &r.bucket, Prefix: aws.String(r.under() + prefix)}
		for {
			page, err := r.versionPage(ctx, in)
			if err != nil {
				yield(version{}, r.fail("list versions of", prefix, err))
				return
			}
			for _, v := range r.versionsOf(page) {
				if !yield(v, nil) {
					return
				}
			}
			if !aws.ToBool(page.IsTruncated) || page.NextKeyMarker == nil {
				return
			}
			in.KeyMarker, in.VersionIdMarker = page.NextKeyMarker, page.NextVersionIdMarker
		}
	}
}

func (r *remote) versionPage(ctx context.Context, in *api.ListObjectVersionsInput) (page *api.ListObjectVersionsOutput, err error) {
	err = retry(ctx, r.o, "list versions of", aws.ToString(in.Prefix), func(int) error {
		wctx, dog := watch(ctx, r.o.Idle)
		defer dog.stop()
		page, err = r.client.ListObjectVersions(wctx, in)
		return stalled(wctx, err)
	})
	return page, err
}

func (r *remote) versionsOf(page *api.ListObjectVersionsOutput) (list []version) {
	for _, o := range page.Versions {
		list = append(list, version{bucket.Info{Key: r.short(o.Key), Size: aws.ToInt64(o.Size), Modified: aws.ToTime(o.LastModified),
			ETag: aws.ToString(o.ETag), Version: versionName(o.VersionId)}, aws.ToBool(o.IsLatest), false})
	}
	for _, o := range page.DeleteMarkers {
		list = append(list, version{bucket.Info{Key: r.short(o.Key), Modified: aws.ToTime(o.LastModified), Version: versionName(o.VersionId)}, aws.ToBool(o.IsLatest), true})
	}
	return list
}

// versionName is "" for the version "null", which a later write may replace.
func versionName(id *string) string {
	if aws.ToString(id) == "null" {
		return ""
	}
	return aws.ToString(id)
}
