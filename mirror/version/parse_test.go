package version

import (
	"fmt"
	"strings"
	"testing"
)

// read is a version as the table of TestParse has it: the kind, and the parts
// that are there.
func read(v Version) string {
	var b strings.Builder
	b.WriteString(v.Kind().String())
	if v.Ordered() {
		fmt.Fprint(&b, " ", v.Numbers())
	}
	for _, part := range []struct{ name, text string }{
		{"prefix", v.Prefix()}, {"pre", v.Prerelease()}, {"build", v.Build()}, {"variant", v.Variant()},
	} {
		if part.text != "" {
			fmt.Fprintf(&b, " %s=%s", part.name, part.text)
		}
	}
	return b.String()
}

// TestParse reads tags as they are found in registries.
func TestParse(t *testing.T) {
	for _, c := range []struct{ tag, want, line string }{
		// Words.
		{"", "word", ""},
		{"latest", "word", ""},
		{"bookworm-slim", "word", ""},
		{"mainline-alpine3.19", "word", ""},
		{"php8.2-fpm-alpine3.19", "word", ""},
		{"lts-jdk17", "word", ""},
		{"windowsservercore-ltsc2022", "word", ""},
		{"-", "word", ""},
		{"v", "word", ""},
		{"café-1.2", "word", ""},

		{"foo~1.2", "word", ""},
		{"defaced", "word", ""},

		// Hashes.
		{"abc1234", "hash", ""},
		{"1234abc", "hash", ""},
		{"0a1b2c3d4e5f60718293a4b5c6d7e8f901234567", "hash", ""},
		{"sha-abc1234", "hash", ""},
		{"sha-1234567", "hash", ""},
		{"git-1234567-slim", "hash", ""},
		{"main-abc1234-1700000000", "hash", ""},
		{"sha256-" + strings.Repeat("0123456789abcdef", 4) + ".sig", "hash", ""},

		// Debian, Ubuntu, Alpine, Windows.
		{"12.5-slim", "float [12 5] variant=slim", "12.5-slim"},
		{"bookworm-20240102-slim", "date [2024 1 2] prefix=bookworm- variant=slim", "date bookworm-2024.1.*-slim"},
		{"noble-20240423", "date [2024 4 23] prefix=noble-", "date noble-2024.4.*"},
		{"20.04", "float [20 4]", "20.4"},
		{"3", "float [3]", "3"},
		{"3.18", "float [3 18]", "3.18"},
		{"3.18.4", "semver [3 18 4]", "3.18.*"},
		{"1909", "float [1909]", "1909"},
		{"20H2", "float [20] build=H2", "20-H*"},

		// Languages.
		{"1.23rc1-alpine", "float [1 23] pre=rc1 variant=alpine", "1.23-pre-alpine"},
		{"1.22.3-bookworm", "semver [1 22 3] variant=bookworm", "1.22.*-bookworm"},
		{"1.22.3-windowsservercore-ltsc2022", "semver [1 22 3] variant=windowsservercore-ltsc2022", "1.22.*-windowsservercore-ltsc2022"},
		{"1.22.3-windowsservercore-1809", "semver [1 22 3] variant=windowsservercore-1809", "1.22.*-windowsservercore-*"},
		{"3.13.0a1-slim", "semver [3 13 0] pre=a1 variant=slim", "3.13.*-pre-slim"},
		{"3.13.0b2-slim-bookworm", "semver [3 13 0] pre=b2 variant=slim-bookworm", "3.13.*-pre-slim-bookworm"},
		{"1.0.0.dev3", "semver [1 0 0] pre=dev3", "1.0.*-pre"},
		{"20-bookworm-slim", "float [20] variant=bookworm-slim", "20-bookworm-slim"},
		{"21.0.3_9-jdk", "semver [21 0 3] build=9 variant=jdk", "21.0.*-*-jdk"},
		{"21.0.3_9-jre-alpine-3.19", "semver [21 0 3] build=9 variant=jre-alpine-3.19", "21.0.*-*-jre-alpine-*"},
		{"8u402-b06-jdk", "float [8] build=u402-b06 variant=jdk", "8-u*-b*-jdk"},
		{"23-ea-1-jdk", "float [23] pre=ea-1 variant=jdk", "23-pre-jdk"},
		{"6.0.0-preview.7-alpine3.14", "semver [6 0 0] pre=preview.7 variant=alpine3.14", "6.0.*-pre-alpine*"},
		{"1.1.1a", "semver [1 1 1] build=a", "1.1.*-*"},
		{"1.1.1w", "semver [1 1 1] build=w", "1.1.*-*"},

		// Servers.
		{"1.25.3-alpine3.19-perl", "semver [1 25 3] variant=alpine3.19-perl", "1.25.*-alpine*-perl"},
		{"17beta1", "float [17] pre=beta1", "17-pre"},
		{"RELEASE.2024-01-02T03-04-05Z", "date [2024 1 2 3 4 5] prefix=RELEASE.", "date RELEASE.2024.1.*.*.*.*"},
		{"RELEASE.2024-01-02T03-04-05Z.fips", "date [2024 1 2 3 4 5] prefix=RELEASE. variant=fips", "date RELEASE.2024.1.*.*.*.*-fips"},
		{"24.0.4-0", "semver [24 0 4] build=0", "24.0.*-*"},
		{"2.440.1-lts-jdk17", "semver [2 440 1] variant=lts-jdk17", "2.440.*-lts-jdk17"},
		{"7.2.4-alpine3.19", "semver [7 2 4] variant=alpine3.19", "7.2.*-alpine*"},
		{"7.2-rc3-bookworm", "float [7 2] pre=rc3 variant=bookworm", "7.2-pre-bookworm"},
		{"8.0.37-oracle", "semver [8 0 37] variant=oracle", "8.0.*-oracle"},
		{"1.36.1-glibc", "semver [1 36 1] variant=glibc", "1.36.*-glibc"},
		{"11.0.0-ubuntu", "semver [11 0 0] variant=ubuntu", "11.0.*-ubuntu"},
		{"17.0.1-ce.0", "semver [17 0 1] variant=ce.0", "17.0.*-ce.*"},
		{"2019-CU28-ubuntu-20.04", "calendar [2019] build=CU28 variant=ubuntu-20.04", "calendar 2019-CU*-ubuntu-*"},
		{"0.7.0-pg16", "semver [0 7 0] variant=pg16", "0.7.*-pg16"},
		{"6.5.3-php8.2-apache", "semver [6 5 3] variant=php8.2-apache", "6.5.*-php8.2-apache"},
		{"12.4.1-devel-ubuntu22.04", "semver [12 4 1] variant=devel-ubuntu22.04", "12.4.*-devel-ubuntu*"},
		{"1.19.0-scala_2.12-java11", "semver [1 19 0] variant=scala_2.12-java11", "1.19.*-scala_2.12-java11"},
		{"5.3.1.RELEASE", "semver [5 3 1] variant=RELEASE", "5.3.*-RELEASE"},

		// Kubernetes and its kin.
		{"v1.30.0-rc.1", "semver [1 30 0] prefix=v pre=rc.1", "v1.30.*-pre"},
		{"v1.28.9-k3s1-amd64", "semver [1 28 9] prefix=v build=k3s1 variant=amd64", "v1.28.*-k3s*-amd64"},
		{"v0.1.0-3-gabc1234", "semver [0 1 0] prefix=v build=3-gabc1234", "v0.1.*-*-*"},
		{"v1.2.3-abc1234", "semver [1 2 3] prefix=v build=abc1234", "v1.2.*-*"},
		{"1.2.3-debian-12-r4", "semver [1 2 3] variant=debian-12-r4", "1.2.*-debian-*-r*"},
		{"1.2.3-defaced", "semver [1 2 3] variant=defaced", "1.2.*-defaced"},
		{"1.2.3-debian12", "semver [1 2 3] variant=debian12", "1.2.*-debian12"},
		{"1.2.3-alpine-gabc1234", "semver [1 2 3] variant=alpine-gabc1234", "1.2.*-alpine-*"},
		{"1.2.3-alpine-rc1", "semver [1 2 3] pre=rc1 variant=alpine", "1.2.*-pre-alpine"},
		{"1.2.3-m1", "semver [1 2 3] pre=m1", "1.2.*-pre"},

		// Builds.
		{"1.2.3.4", "semver [1 2 3 4]", "1.2.*.*"},
		{"1.2.3.4.5.6.7-8", "semver [1 2 3 4 5 6] build=7-8", "1.2.*.*.*.*-*-*"},
		{"9.5-1738746453", "float [9 5] build=1738746453", "9.5-*"},
		{"1.2.3-4", "semver [1 2 3] build=4", "1.2.*-*"},
		{"1.2.3_4", "semver [1 2 3] build=4", "1.2.*-*"},
		{"1.2.3+build5", "semver [1 2 3] build=build5", "1.2.*-build*"},
		{"1.2.3-r0", "semver [1 2 3] build=r0", "1.2.*-r*"},
		{"1.2.3.post1", "semver [1 2 3] build=post1", "1.2.*-post*"},

		// Prereleases.
		{"1.4.0rc1", "semver [1 4 0] pre=rc1", "1.4.*-pre"},
		{"1.4.0-alpha2", "semver [1 4 0] pre=alpha2", "1.4.*-pre"},
		{"1.4.0-beta.3", "semver [1 4 0] pre=beta.3", "1.4.*-pre"},
		{"1.4.0-dev", "semver [1 4 0] pre=dev", "1.4.*-pre"},
		{"1.4.0-pre", "semver [1 4 0] pre=pre", "1.4.*-pre"},
		{"1.4.0-SNAPSHOT", "semver [1 4 0] pre=SNAPSHOT", "1.4.*-pre"},
		{"1.4.0-nightly-20240102", "semver [1 4 0] pre=nightly-20240102", "1.4.*-pre"},
		{"1.4.0-prettier", "semver [1 4 0] variant=prettier", "1.4.*-prettier"},
		{"nightly-20240102", "date [2024 1 2] prefix=nightly- pre=nightly", "date nightly-2024.1.*-pre"},
		{"pr-123", "float [123] prefix=pr- pre=pr", "pr-123-pre"},

		// Dates and calendar versions.
		{"20240102", "date [2024 1 2]", "date 2024.1.*"},
		{"2024-01-02", "date [2024 1 2]", "date 2024.1.*"},
		{"2024-01", "date [2024 1]", "date 2024.1"},
		{"202401", "date [2024 1]", "date 2024.1"},
		{"20240102-1", "date [2024 1 2] build=1", "date 2024.1.*-*"},
		{"20240102.1", "date [2024 1 2] build=1", "date 2024.1.*-*"},
		{"20240102T153000Z", "date [2024 1 2 153000]", "date 2024.1.*.*"},
		{"202401021530", "date [2024 1 2 1530]", "date 2024.1.*.*"},
		{"2024-13-02", "calendar [2024] build=13-02", "calendar 2024-*-*"},
		{"2024-01-32", "date [2024 1] build=32", "date 2024.1-*"},
		{"1738746453", "date [1738746453]", "date *"},
		{"main-1738746453", "date [1738746453] prefix=main-", "date main-*"},
		{"1234567.1.2", "semver [1234567 1 2]", "1234567.1.*"},
		{"1234567", "date [1234567]", "date *"},
		{"2024.1.2", "calendar [2024 1 2]", "calendar 2024.1.*"},
		{"2024.12.3b1", "calendar [2024 12 3] pre=b1", "calendar 2024.12.*-pre"},
		{"2022-latest", "calendar [2022] variant=latest", "calendar 2022-latest"},
		{"2024.100", "float [2024 100]", "2024.100"},
		{"40.20240102.0", "semver [40 20240102 0]", "40.20240102.*"},

		// Prefixes.
		{"release-1.2.3", "semver [1 2 3] prefix=release-", "release-1.2.*"},
		{"s3-1.2.3", "semver [1 2 3] prefix=s3-", "s3-1.2.*"},
		{"b123", "float [123] prefix=b", "b123"},
		{"ltsc2022", "word", ""},

		// What is no tag.
		{"1..2", "float [1] build=.2", "1-*"},
		{"1.2.3-", "semver [1 2 3]", "1.2.*"},
		{"99999999999999999999999", "date [18446744073709551615]", "date *"},
	} {
		t.Run(c.tag, func(t *testing.T) {
			v := Parse(c.tag)
			if got := read(v); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if got := v.Line(PerMinor); got != c.line {
				t.Errorf("got line %q, want %q", got, c.line)
			}
			if v.Tag() != c.tag || v.String() != c.tag {
				t.Errorf("got tag %q", v.Tag())
			}
		})
	}
}

func TestATextIsReadForItsTag(t *testing.T) {
	v := ParseAs("build-of-1.2.3rc1", "1.2.3rc1")
	if got, want := read(v), "semver [1 2 3] pre=rc1"; got != want || v.Tag() != "build-of-1.2.3rc1" {
		t.Errorf("got %s of %s, want %s", got, v.Tag(), want)
	}
	if v.Compare(ParseAs("another", "1.2.3rc1")) == 0 {
		t.Error("two tags with the same text are the same")
	}
}
