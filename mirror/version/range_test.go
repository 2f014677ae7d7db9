package version

import (
	"strings"
	"testing"
)

func TestContains(t *testing.T) {
	for _, c := range []struct{ name, text, in, out string }{
		{"comparisons", ">=1.20 <2", "1.20 1.20.0 1.99.9 v1.25.3 release-1.25", "1.19.9 2 2.0.0 1 latest abc1234"},
		{"commas are the same as spaces", ">=1.20, <2", "1.20", "2"},
		{"spaces after operators", ">= 1.20 < 2", "1.20", "2"},
		{"caret", "^1.2", "1.2 1.2.3 1.9", "1.1 2.0"},
		{"tilde", "~3.18", "3.18 3.18.4", "3.19.0 3.17.9"},
		{"x", "1.x", "1 1.2 1.2.3", "2 0.9"},
		{"star", "*", "0.1 1 17.0.1", "2024.1 20240102"},
		{"from to", "1.2 - 1.5", "1.2 1.5 1.5.9", "1.1 1.6"},
		{"or", "^1.2 || ~3.18", "1.9 3.18.1", "2.0 3.19"},
		{"not", ">=1 !=1.5.0", "1.4.0 1.5.1", "1.5.0"},
		{"exactly", "=1.2.3", "1.2.3 1.2.3-alpine 1.2.3-4", "1.2.4 1.2.3-rc1"},

		{"variants do not matter", "^1.2", "1.2.3-alpine3.19 1.25-bookworm 1.2.3-slim 1.2.3-alpine-r4 1.9.0-lts-jdk17", "2.0.0-alpine"},
		{"nor do builds", ">=9.5", "9.5-1738746453 9.5.1-4 9.5.1_4 9.5.1-r0 9.5.1.4", "9.4-1738746453"},
		{"prereleases are out", ">=1.2", "1.3.0", "1.4.0-rc1 1.4.0rc1 1.4.0-rc1-alpine v1.30.0-rc.1 1.4.0-dev nightly-1.4.0 pr-123"},
		{"unless they are named", ">=1.2-0", "1.4.0-rc1 1.2.0-dev 1.4.0a1-slim", "1.1.9 1.1.9-rc1"},
		{"named ones have an order", ">=1.4.0-rc9 <2", "1.4.0-rc9 1.4.0rc10 1.4.0-rc.11 1.4.0", "1.4.0-rc8 1.4.0-beta10 1.4.0a1"},

		{"a date is no huge version", ">=1.20", "1.20", "20240102 2024-01-02 20240102-1 noble-20240423 202401 RELEASE.2024-01-02T03-04-05Z 1738746453 1234567"},
		{"nor is a calendar version", ">=1.20", "1.20", "2024.1.2 2024 2022-latest"},
		{"years find them", ">=2024", "2024.1.2 2024 20240102 2024-01-02 RELEASE.2024-01-02T03-04-05Z", "2023.12.1 20231231 1.20 1738746453"},
		{"months find them", ">=2024.02", "2024.2.1 20240201 2024.10", "2024.1.9 20240131"},
		{"dates find them", ">=20240102 <20240201", "20240102 2024-01-31 2024.1.31", "20240101 20240201 2024-02-01"},
		{"dashed dates find them", ">=2024-01-02", "20240102 2024-01-31", "20240101"},
		{"long numbers find each other", ">=1700000000", "1738746453 main-1738746453", "1600000000 20240102 9.5 2024.1"},
		{"and nothing else", "<1800000000", "1738746453 1.20", "2024.1.1 20240101"},
		{"words have no number", "<2024.5", "2024.1 1.20", "latest abc1234 lts-jdk17"},
		{"each alternative for itself", ">=1.20 || >=2024.2", "1.20 2024.2", "2024.1 20240101"},

		{"leading zeros", ">=22.04", "22.04 22.10 24.04", "20.04 20.10 22.03"},
		{"and before them", ">=022.04", "22.04", "20.10"},
		{"windows", ">=1809", "1809 1909", "1803"},
		{"nothing is in no range", "", "", "1.2.3 latest 2024"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r Range
			if c.text != "" {
				r = parsed(t, c.text)
			}
			for tag := range strings.FieldsSeq(c.in) {
				if !r.Match(tag) {
					t.Errorf("%s is not in %q", tag, r)
				}
			}
			for tag := range strings.FieldsSeq(c.out) {
				if r.Match(tag) {
					t.Errorf("%s is in %q", tag, r)
				}
			}
		})
	}
}

func parsed(t *testing.T, text string) Range {
	t.Helper()
	r, err := ParseRange(text)
	if err != nil {
		t.Fatal(err)
	}
	if r.String() != text {
		t.Errorf("got %q, want %q", r, text)
	}
	return r
}

func TestRangesThatAreNone(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", `"" is not a version range: it is empty (example: ">=1.20 <2")`},
		{"nothing after or", "1.2 ||", `"1.2 ||" is not a version range: it is empty (example: ">=1.20 <2")`},
		{"letters", "1.x.y", `"1.x.y" is not a version range (example: ">=1.20 <2")`},
		{"a word", "latest", `"latest" is not a version range (example: ">=1.20 <2")`},
		{"four numbers", ">=1.2.3.4", `">=1.2.3.4" is not a version range (example: ">=1.20 <2")`},
		{"a number beyond all", ">=99999999999999999999", `">=99999999999999999999" is not a version range (example: ">=1.20 <2")`},
		{"a variant", "1.2.3-alpine", `"1.2.3-alpine" is not a version range: "alpine" is not a prerelease (example: ">=1.20 <2")`},
		{"from to without spaces", "1.2-1.5", `"1.2-1.5" is not a version range: "1.5" is not a prerelease (example: ">=1.20 <2")`},
		{"an operator alone", ">=", `">=" is not a version range (example: ">=1.20 <2")`},
		{"too many alternatives of one", ">=1" + strings.Repeat(" <2", 200), `">=1` + strings.Repeat(" <2", 200) + `" is not a version range (example: ">=1.20 <2")`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := ParseRange(c.text); err == nil || err.Error() != c.want {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}
