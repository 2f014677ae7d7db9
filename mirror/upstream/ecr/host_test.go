package ecr

import (
	"strings"
	"testing"
)

func TestHostsOfECRAreTold(t *testing.T) {
	const account = "123456789012"
	for _, c := range []struct {
		host string
		want Registry
		ok   bool
	}{
		{"123456789012.dkr.ecr.eu-central-1.amazonaws.com", Registry{Account: account, Region: "eu-central-1"}, true},
		{"123456789012.DKR.ecr.eu-central-1.amazonaws.com", Registry{Account: account, Region: "eu-central-1"}, true},
		{"123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com", Registry{Account: account, Region: "us-gov-west-1", FIPS: true}, true},
		{"123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", Registry{Account: account, Region: "cn-north-1"}, true},
		{"123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu", Registry{Account: account, Region: "eusc-de-east-1"}, true},
		{"123456789012.dkr-ecr.us-west-2.on.aws", Registry{Account: account, Region: "us-west-2", DualStack: true}, true},
		{"123456789012.dkr-ecr-fips.us-west-2.on.aws", Registry{Account: account, Region: "us-west-2", FIPS: true, DualStack: true}, true},
		{"123456789012.dkr-ecr.cn-north-1.on.amazonwebservices.com.cn", Registry{Account: account, Region: "cn-north-1", DualStack: true}, true},
		{"123456789012.dkr.ecr.us-iso-east-1.c2s.ic.gov", Registry{Account: account, Region: "us-iso-east-1"}, true},
		{"public.ecr.aws", Registry{Public: true, Region: "us-east-1"}, true},
		{"ecr-public.aws.com", Registry{Public: true, Region: "us-east-1", DualStack: true}, true},
		{"12345678901.dkr.ecr.eu-central-1.amazonaws.com", Registry{}, false},
		{"123456789012.dkr.ecr.eu-central-1.amazonaws.com.evil.test", Registry{}, false},
		{"123456789012.dkr.ecr.eu-central-1.amazonaws.com:443", Registry{}, false},
		{"evil.test/123456789012.dkr.ecr.eu-central-1.amazonaws.com", Registry{}, false},
		{"123456789012.dkr.ecr.eu-central-1.amazonaws-com", Registry{}, false},
		{"123456789012.dkr.ecr.eu.evil.test.amazonaws.com", Registry{}, false},
		{"123456789012.dkr.s3.eu-central-1.amazonaws.com", Registry{}, false},
		{"x.public.ecr.aws", Registry{}, false},
		{"docker.io", Registry{}, false},
		{"", Registry{}, false},
	} {
		if got, ok := Host(c.host); got != c.want || ok != c.ok {
			t.Errorf("Host(%q) = %+v, %v", c.host, got, ok)
		}
	}
}

func TestSettingsSayWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		name string
		s    Settings
		want string
	}{
		{"nothing set", Settings{}, ""},
		{"all set", Settings{Profile: "p", Role: "arn:aws-cn:iam::123456789012:role/path/mirror+x", Region: "cn-north-1", Endpoint: "https://vpce.test:8443"}, ""},
		{"a name in place of an ARN", Settings{Role: "mirror"}, `role: "mirror" is not the ARN`},
		{"the ARN of a user", Settings{Role: "arn:aws:iam::123456789012:user/me"}, "role: "},
		{"a region that is none", Settings{Region: "Frankfurt"}, `region: "Frankfurt" is not a region`},
		{"a region that would lead elsewhere", Settings{Region: "eu-central-1.evil.test"}, "region: "},
		{"an endpoint without a scheme", Settings{Endpoint: "vpce.test"}, "endpoint: "},
		{"an endpoint with a password", Settings{Endpoint: "https://me:secret@vpce.test"}, "endpoint: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.s.Validate()
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), c.want)) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestAllFaultsOfSettingsComeAtOnce(t *testing.T) {
	err := Settings{Role: "x", Region: "x", Endpoint: "x"}.Validate()
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("got %v", err)
	}
}
