package s3

import (
	"errors"
	"fmt"
	"net/url"
)

// Settings say how an S3-compatible server is reached. The zero value is AWS,
// with everything from the environment.
type Settings struct {
	Endpoint    string      `yaml:"endpoint" doc:"Address of an S3-compatible server; empty means AWS." example:"https://s3.example.com" kind:"url"`
	Region      string      `yaml:"region" doc:"Region that requests are signed for; default: from the environment, or us-east-1 with an endpoint." example:"eu-central-1"`
	PathStyle   bool        `yaml:"path-style" doc:"Put the bucket's name into the path instead of the host name." default:"false"`
	Credentials Credentials `yaml:"credentials" doc:"\"environment\" for the AWS chain (variables, profile, role), or access-key and secret-key." default:"environment"`
}

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
	return errors.Join(errs...)
}
