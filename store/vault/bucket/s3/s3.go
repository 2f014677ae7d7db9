package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	api "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"

	"lastro/store/vault/bucket"
)

// remote is a bucket of an S3-compatible server, or a prefix in one.
type remote struct {
	client *api.Client
	bucket string
	prefix string
	set    Settings
	o      Options

	without       atomic.Pointer[bucket.Lacks] // nil: nothing is known
	mu            sync.Mutex
	knownVersions *bool // nil: not asked yet
}

var _ bucket.Bucket = (*remote)(nil)

// Options are what Open can be told. The zero value is fine.
type Options struct {
	Log  *slog.Logger  // nil: nothing is logged
	Idle time.Duration // how long a request may stand still; default two minutes
	Sent func()        // called for each request
	Now  func() time.Time
	// Transport sends the requests; default: a client of the AWS SDK. For tests.
	Transport http.RoundTripper
}

func (o Options) filled() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Idle == 0 {
		o.Idle = 2 * time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Sent == nil {
		o.Sent = func() {}
	}
	return o
}

// Open returns the part of a bucket that lies under a prefix, "" for all of it.
// Nothing is sent yet: a bucket that cannot be reached shows at the first call.
func Open(ctx context.Context, name, prefix string, s Settings, o Options) (bucket.Bucket, error) {
	o = o.filled()
	cfg, err := awsConfig(ctx, s)
	if err != nil {
		return nil, fmt.Errorf("vault s3://%s: AWS configuration of the environment: %w", name, err)
	}
	client := api.NewFromConfig(cfg, func(c *api.Options) {
		c.UsePathStyle = s.PathStyle || pathOnly(s.Endpoint)
		if s.Endpoint != "" {
			c.BaseEndpoint = aws.String(s.Endpoint)
		}
		c.Retryer = aws.NopRetryer{}
		c.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		c.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		c.HTTPClient = counting{sender(c.HTTPClient, o.Transport), o.Sent}
		c.Logger = logging.Nop{}
	})
	return &remote{client: client, bucket: name, prefix: strings.Trim(prefix, "/"), set: s, o: o}, nil
}

func awsConfig(ctx context.Context, s Settings) (aws.Config, error) {
	var with []func(*config.LoadOptions) error
	if s.Region != "" {
		with = append(with, config.WithRegion(s.Region))
	}
	if s.Credentials != (Credentials{}) {
		with = append(with, config.WithCredentialsProvider(
			credentials.NewStaticCredentialsProvider(s.Credentials.AccessKey, s.Credentials.SecretKey, "")))
	}
	with = append(with, config.WithHTTPClient(awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConnsPerHost = 64
		t.WriteBufferSize = 128 << 10
		t.ReadBufferSize = 64 << 10
	})))
	cfg, err := config.LoadDefaultConfig(ctx, with...)
	if err == nil && cfg.Region == "" {
		cfg.Region = "us-east-1"
	}
	return cfg, err
}

// pathOnly endpoints have no names below them that could stand for buckets.
func pathOnly(endpoint string) bool {
	u, err := url.Parse(endpoint)
	if err != nil || endpoint == "" {
		return false
	}
	_, err = netip.ParseAddr(u.Hostname())
	return err == nil || u.Hostname() == "localhost"
}

func sender(c api.HTTPClient, t http.RoundTripper) api.HTTPClient {
	if t == nil {
		return c
	}
	return &http.Client{Transport: t}
}

// counting counts every request that is sent.
type counting struct {
	api.HTTPClient
	sent func()
}

func (c counting) Do(r *http.Request) (*http.Response, error) {
	c.sent()
	return c.HTTPClient.Do(r)
}

func (r *remote) String() string { return "s3://" + path.Join(r.bucket, r.prefix) }

func (r *remote) key(key string) *string { return aws.String(path.Join(r.prefix, key)) }

// fail names the side, the operation and the way out, never a credential.
func (r *remote) fail(op, key string, err error) error {
	if _, ok := errors.AsType[*bucket.ContentError](err); ok {
		return fmt.Errorf("%s %s: %w", op, key, err) // not the vault's fault
	}
	return fmt.Errorf("vault %s: %s %s: %w", r, op, key, r.explain(err))
}

func (r *remote) explain(err error) error {
	c := code(err)
	switch s := status(err); {
	case c == "NoSuchBucket":
		return fmt.Errorf("the bucket %q does not exist: create it, or correct `to`: %w", r.bucket, err)
	case c == "NoSuchKey" || s == http.StatusNotFound:
		return fmt.Errorf("%w (%w)", fs.ErrNotExist, err)
	case c == "RequestTimeTooSkewed":
		return fmt.Errorf("this machine's clock and the server's differ: set the clock: %w", err)
	case c == "PermanentRedirect" || c == "AuthorizationHeaderMalformed":
		return fmt.Errorf("the bucket is in another region: set s3.region: %w", err)
	case strings.HasPrefix(c, "KMS."):
		return fmt.Errorf("check s3.sse.kms-key, and that the credentials may use it (kms:GenerateDataKey, kms:Decrypt): %w", err)
	case r.set.ObjectLock != nil && slices.Contains([]string{"InvalidRequest", "InvalidBucketObjectLockConfiguration", "ObjectLockConfigurationNotFoundError"}, c):
		return fmt.Errorf("%w: %w", errNoLock, err)
	case c == "InvalidStorageClass":
		return fmt.Errorf("the server has no such class: set another s3.storage-class: %w", err)
	case s == http.StatusForbidden || s == http.StatusUnauthorized:
		return fmt.Errorf("%w: check s3.credentials and what they may do with the bucket: %w", fs.ErrPermission, err)
	case full(err):
		return fmt.Errorf("%w: %w", bucket.ErrFull, err)
	case s == http.StatusNotImplemented && !errors.Is(err, bucket.ErrNoConditions):
		return fmt.Errorf("the server lacks something that a vault needs (checksums, multipart uploads), or what s3.sse or s3.storage-class asks: %w", err)
	case s == 0:
		return unreachable(err)
	}
	return err
}

func unreachable(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return fmt.Errorf("the endpoint cannot be reached: check s3.endpoint and the network: %w", op)
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return fmt.Errorf("the endpoint cannot be reached: check s3.endpoint: %w", dns)
	}
	return err
}

func full(err error) bool {
	switch code(err) {
	case "QuotaExceeded", "XMinioStorageFull", "StorageFull", "InsufficientStorage":
		return true
	}
	return status(err) == http.StatusInsufficientStorage
}
