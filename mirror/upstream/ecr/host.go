package ecr

import (
	"regexp"
	"strings"
)

// Registry is what the name of an ECR host says.
type Registry struct {
	Public    bool   // public.ecr.aws
	Account   string // "" for the public registry
	Region    string // where the API is that gives logins
	FIPS      bool
	DualStack bool
}

// privateHost has the domains of all partitions of AWS. Nobody else can have a
// host in them, and so nobody else is given a password.
var privateHost = regexp.MustCompile(`^([0-9]{12})\.dkr[.-]ecr(-fips)?\.([a-z0-9]+(?:-[a-z0-9]+)+)\.` +
	`(amazonaws\.com|amazonaws\.com\.cn|amazonaws\.eu|on\.aws|on\.amazonwebservices\.com\.cn|` +
	`c2s\.ic\.gov|sc2s\.sgov\.gov|cloud\.adc-e\.uk|csp\.hci\.ic\.gov)$`)

// publicRegion is where the API of the public registry is.
const publicRegion = "us-east-1"

// Host reads the name of a host of ECR. It reports false for all others.
func Host(host string) (Registry, bool) {
	host = strings.ToLower(host)
	switch host {
	case "public.ecr.aws":
		return Registry{Public: true, Region: publicRegion}, true
	case "ecr-public.aws.com":
		return Registry{Public: true, Region: publicRegion, DualStack: true}, true
	}
	m := privateHost.FindStringSubmatch(host)
	if m == nil {
		return Registry{}, false
	}
	return Registry{Account: m[1], Region: m[3], FIPS: m[2] != "", DualStack: strings.HasPrefix(m[4], "on.")}, true
}
