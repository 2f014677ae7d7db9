package s3

import (
	"fmt"
	"os"
	"testing"

	api "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"lastro/store/vault/bucket/buckettest"
)

func TestMain(m *testing.M) { os.Exit(buckettest.Main(m)) }

func TestAnS3ServerIsABucket(t *testing.T) {
	t.Parallel()
	s := startGateway(t)
	for _, prefix := range []string{"", "some/prefix"} {
		t.Run("prefix "+prefix, func(t *testing.T) {
			buckettest.Acceptance(t, openNew(t, s, "b-"+fmt.Sprint(len(prefix)), prefix, Options{}))
		})
	}
}

func TestABucketWithVersionsIsABucket(t *testing.T) {
	t.Parallel()
	b := openNew(t, startGateway(t), "versions", "p", Options{})
	enableVersions(t, b)
	buckettest.Acceptance(t, b)
}

func enableVersions(t *testing.T, b *remote) {
	t.Helper()
	_, err := b.client.PutBucketVersioning(t.Context(), &api.PutBucketVersioningInput{Bucket: &b.bucket,
		VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled}})
	if err != nil {
		t.Fatal(err)
	}
}

// startGateway runs a real S3 server.
func startGateway(t *testing.T) Settings {
	t.Helper()
	endpoint, _ := buckettest.Gateway(t)
	return Settings{Endpoint: endpoint, Credentials: Credentials{AccessKey: buckettest.AccessKey, SecretKey: buckettest.SecretKey}}
}

// openNew makes a bucket on the server.
func openNew(t *testing.T, s Settings, name, prefix string, o Options) *remote {
	t.Helper()
	b, err := Open(t.Context(), name, prefix, s, o)
	if err != nil {
		t.Fatal(err)
	}
	r := b.(*remote)
	if _, err := r.client.CreateBucket(t.Context(), &api.CreateBucketInput{Bucket: &name}); err != nil {
		t.Fatal(err)
	}
	return r
}
