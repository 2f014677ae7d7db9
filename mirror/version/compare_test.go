package version

import (
	"strings"
	"testing"
)

// TestOrder has tags with the oldest first; each is compared with all others.
func TestOrder(t *testing.T) {
	for _, c := range []struct{ name, tags string }{
		{"kinds do not mix", "edge latest abc1234 20240102 1738746453 2024.1 1.2 3"},
		{"numbers are numbers", "1.2.3 1.2.9 1.2.10 1.10.0 2.0.0 10.0.0"},
		{"the fourth counts", "1.2.3.4 1.2.3.10"},
		{"so does the seventh", "1.2.3.4.5.6.7 1.2.3.4.5.6.10"},
		{"what is shorter floats, and is newer", "1.25.3 1.25.4 1.25 1.26.0 1.26 1 2"},
		{"leading zeros are nothing", "20.04 20.10 22.04 22.10 24.04"},
		{"a release is newer than its prereleases", "1.4.0-rc1 1.4.0"},
		{"prereleases have ranks", "1.4.0-dev 1.4.0-SNAPSHOT.2 1.4.0-alpha 1.4.0-beta 1.4.0-preview 1.4.0-rc"},
		{"however they are written", "1.4.0.dev3 1.4.0a1 1.4.0-alpha2 1.4.0-M1 1.4.0b2 1.4.0-beta.3 1.4.0c1 1.4.0-RC2 1.4.0rc3 1.4.0-rc.10"},
		{"a development of a prerelease is before it", "1.0a1.dev3 1.0a1"},
		{"builds are numbers", "1.2.3-4 1.2.3_5 1.2.3-10 1.2.3"},
		{"with leading zeros too", "1.2.3-009 1.2.3-10"},
		{"times are builds too", "9.5-1738746453 9.5-1738746999 9.5"},
		{"revisions count", "1.2.3-r0 1.2.3-r2 1.2.3-r10"},
		{"letters count", "1.1.1a 1.1.1w"},
		{"updates count", "8u40-jdk 8u402-jdk"},
		{"dates are of any form", "2023-12-31 20240101 2024-01-02 20240103-1 20240103"},
		{"times of day count", "RELEASE.2024-01-02T03-04-05Z RELEASE.2024-01-02T03-04-06Z RELEASE.2024-01-02T13-00-00Z"},
		{"calendar versions", "2023.12.1 2024.1.9 2024.1.10 2024.02 2024.10.0"},
		{"a variant's version is of the order", "1.2.3-alpine3.9 1.2.3-alpine3.19"},
		{"but after the numbers", "1.2.3-alpine3.19 1.2.4-alpine3.18"},
		{"variants of a version are beside each other", "1.2.3 1.2.3-alpine 1.2.3-slim 1.2.4 1.2.4-alpine"},
		{"tags decide last", "1.2.3 release-1.2.3 v1.2.3"},
		{"too large is the largest", "1.2.3 1.99999999999999999999.1 1.99999999999999999999.2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tags := strings.Fields(c.tags)
			for i, a := range tags {
				for j, b := range tags {
					if got := Parse(a).Compare(Parse(b)); sign(got) != sign(i-j) {
						t.Errorf("%s against %s: got %d", a, b, got)
					}
				}
			}
		})
	}
}

func sign(n int) int {
	switch {
	case n < 0:
		return -1
	case n > 0:
		return 1
	}
	return 0
}
