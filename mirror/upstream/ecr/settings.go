package ecr

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
)

// Settings say with which AWS identity to log in. The zero value is the AWS
// SDK's default chain.
type Settings struct {
	Profile  string `yaml:"profile" doc:"Profile in AWS's configuration files; default: the SDK's chain (variables, AWS_PROFILE, web identity, the machine's role)." example:"mirror"`
	Role     string `yaml:"role" doc:"ARN of a role to assume with those credentials." example:"arn:aws:iam::123456789012:role/mirror"`
	Region   string `yaml:"region" doc:"Region whose API is asked for logins; default: the one in the host's name, us-east-1 for public.ecr.aws." example:"eu-central-1"`
	Endpoint string `yaml:"endpoint" doc:"Address of the API that gives logins, for a VPC endpoint; default: AWS's own." example:"https://api.ecr.eu-central-1.amazonaws.com" kind:"url"`
}

var (
	roleARN = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]+$`)
	region  = regexp.MustCompile(`^[a-z0-9]+(?:-[a-z0-9]+)+$`)
)

// Validate reports all faults, each starting with its key.
func (s Settings) Validate() error {
	var errs []error
	if s.Role != "" && !roleARN.MatchString(s.Role) {
		errs = append(errs, fmt.Errorf("role: %q is not the ARN of a role (example: arn:aws:iam::123456789012:role/mirror)", s.Role))
	}
	if s.Region != "" && !region.MatchString(s.Region) {
		errs = append(errs, fmt.Errorf("region: %q is not a region of AWS (example: eu-central-1)", s.Region))
	}
	if s.Endpoint != "" {
		u, err := url.Parse(s.Endpoint)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
			errs = append(errs, errors.New(`endpoint: not the address of a server (example: "https://api.ecr.eu-central-1.amazonaws.com")`))
		}
	}
	return errors.Join(errs...)
}
