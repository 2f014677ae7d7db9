package s3

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

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

// startGateway runs a real S3 server, versitygw, built by the Go tool if need be.
func startGateway(t *testing.T) Settings {
	t.Helper()
	cmd := exec.Command("go", "tool", "-n", "-modfile=.ci/tools.mod", "versitygw")
	cmd.Dir = "../../../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("building versitygw: %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	dir := t.TempDir()
	for _, d := range []string{"data", "versions"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	server := exec.CommandContext(ctx, strings.TrimSpace(string(out)), "--port", address, "posix", "--versioning-dir", filepath.Join(dir, "versions"), filepath.Join(dir, "data"))
	server.Env = append(os.Environ(), "ROOT_ACCESS_KEY=k", "ROOT_SECRET_KEY=hush-hush")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = server.Wait() })
	waitFor(t, address)
	return Settings{Endpoint: "http://" + address, Credentials: Credentials{AccessKey: "k", SecretKey: "hush-hush"}}
}

func waitFor(t *testing.T, address string) {
	t.Helper()
	for tick := range time.Tick(20 * time.Millisecond) {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
			return
		}
		if d, ok := t.Deadline(); ok && tick.After(d.Add(-10*time.Second)) {
			t.Fatal(err)
		}
	}
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
