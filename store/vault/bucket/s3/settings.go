package s3

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// Settings say how an S3-compatible server is reached. The zero value is AWS,
// with everything from the environment.
type Settings struct {
	Endpoint    string      `yaml:"endpoint" doc:"Address of an S3-compatible server; empty means AWS." example:"https://s3.example.com" kind:"url"`
	Region      string      `yaml:"region" doc:"Region that requests are signed for; default: from the environment, or us-east-1 with an endpoint." example:"eu-central-1"`
	PathStyle   bool        `yaml:"path-style" doc:"Put the bucket's name into the path instead of the host name." default:"false"`
	Credentials Credentials `yaml:"credentials" doc:"\"environment\" for the AWS chain (variables, profile, role), or access-key and secret-key." default:"environment"`

	StorageClass string `yaml:"storage-class" doc:"Class of storage for contents of more than 8 MiB (layers); default: the bucket's. Records, manifests and indexes never go there. It must be one that is read without thawing." example:"STANDARD_IA"`
	SSE          SSE    `yaml:"sse" doc:"Encryption by the server: \"aes256\", or kms-key for a key of KMS; default: what the bucket does by itself." example:"aes256"`

	ObjectLock *ObjectLock `yaml:"object-lock" doc:"Locks what is written, so that nobody removes it before its time, and extends the locks of what snapshots need. The bucket must have Object Lock."`
}

// ObjectLock says how what is written is locked.
type ObjectLock struct {
	Mode   string        `yaml:"mode" kind:"locking" doc:"governance (who has a special right may unlock) or compliance (nobody may)." default:"governance" example:"compliance"`
	Retain time.Duration `yaml:"retain" doc:"How long an object stays locked from its writing or its last extension. A backup extends the locks of what snapshots need when less than half of it is left." default:"30d" example:"30d"`
}

func (l ObjectLock) validate() error {
	var errs []error
	if l.Mode != "governance" && l.Mode != "compliance" {
		errs = append(errs, fmt.Errorf("object-lock.mode: %q is not governance or compliance", l.Mode))
	}
	if l.Retain < 48*time.Hour {
		errs = append(errs, errors.New("object-lock.retain: must be two days or more, so that a backup a day extends in time (example: 30d)"))
	}
	return errors.Join(errs...)
}

func (l ObjectLock) mode() string { return strings.ToUpper(l.Mode) }

// SSE is the encryption that the server is asked for; the zero value asks nothing.
type SSE struct {
	AES256 bool   `yaml:"-"`
	KMSKey string `yaml:"kms-key" doc:"Id, ARN or alias of the key." example:"alias/backups" required:"true"`
}

// UnmarshalText takes the one scalar form, "aes256".
func (e *SSE) UnmarshalText(text []byte) error {
	if string(text) != "aes256" {
		return errors.New(`must be "aes256", or a mapping with kms-key`)
	}
	*e = SSE{AES256: true}
	return nil
}

func (e SSE) algorithm() types.ServerSideEncryption {
	switch {
	case e.KMSKey != "":
		return types.ServerSideEncryptionAwsKms
	case e.AES256:
		return types.ServerSideEncryptionAes256
	}
	return ""
}

// thawed are classes from which nothing is read at once.
var thawed = []types.StorageClass{types.StorageClassGlacier, types.StorageClassDeepArchive}

// Credentials are a static key pair; the zero value means the environment.
type Credentials struct {
	AccessKey string `yaml:"access-key" doc:"Access key id." example:"AKIAIOSFODNN7EXAMPLE"`
	SecretKey string `yaml:"secret-key" doc:"Secret key." example:"${env:S3_SECRET_KEY}" kind:"secret"`
}

// UnmarshalText takes the one scalar form, "environment".
func (c *Credentials) UnmarshalText(text []byte) error {
	if string(text) != "environment" {
		return errors.New(`must be "environment", or a mapping with access-key and secret-key`)
	}
	*c = Credentials{}
	return nil
}

// Validate reports all faults, each starting with its key.
func (s Settings) Validate() error {
	var errs []error
	if s.Endpoint != "" {
		u, err := url.Parse(s.Endpoint)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil {
			errs = append(errs, fmt.Errorf("endpoint: not the address of a server (example: \"https://s3.example.com\")"))
		}
	}
	if (s.Credentials.AccessKey == "") != (s.Credentials.SecretKey == "") {
		errs = append(errs, errors.New("credentials: access-key and secret-key belong together"))
	}
	if s.ObjectLock != nil {
		errs = append(errs, s.ObjectLock.validate())
	}
	if slices.Contains(thawed, types.StorageClass(s.StorageClass)) {
		errs = append(errs, fmt.Errorf("storage-class: what lies in %s must be thawed before it is read: no restore and no verification would work (example: \"STANDARD_IA\" or \"GLACIER_IR\")", s.StorageClass))
	}
	return errors.Join(errs...)
}
