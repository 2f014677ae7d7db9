package version

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func parseAll(tags string) (vs []Version) {
	for tag := range strings.FieldsSeq(tags) {
		vs = append(vs, Parse(tag))
	}
	return vs
}

func tagsOf(vs []Version) string {
	var tags []string
	for _, v := range vs {
		tags = append(tags, v.Tag())
	}
	return strings.Join(tags, " ")
}

func TestNewest(t *testing.T) {
	for _, c := range []struct {
		name string
		n    int
		per  Per
		tags string
		want string
	}{
		{"none of none", 3, PerMinor, "", ""},
		{"no words, no hashes", 3, PerVariant, "latest edge abc1234 sha-abc1234 lts-jdk17 1.2.3", "1.2.3"},
		{"of nothing nothing", 0, PerVariant, "1.2.3", ""},
		{"the newest of all", 2, PerVariant, "1.2.3 1.10.0 1.9.0 0.1.0", "1.10.0 1.9.0"},
		{"of each major", 1, PerMajor, "1.2.3 1.10.0 2.0.0 2.0.1", "2.0.1 1.10.0"},
		{"of each minor", 2, PerMinor, "1.2.3 1.2.4 1.2.5 1.3.0", "1.3.0 1.2.5 1.2.4"},
		{"of each patch", 1, PerPatch, "1.2.3-1 1.2.3-2 1.2.4-1", "1.2.4-1 1.2.3-2"},
		{"of each variant", 1, PerVariant, "1.2.3 1.2.4 1.2.3-alpine 1.2.2-alpine 1.2.1-slim", "1.2.4 1.2.3-alpine 1.2.1-slim"},
		{"variants move on", 1, PerVariant, "1.25.1-alpine3.18 1.25.2-alpine3.19 1.25-alpine 1.25.2-alpine", "1.25-alpine 1.25.2-alpine3.19 1.25.2-alpine"},
		{"choices stay apart", 1, PerVariant, "2.1.0-jdk17 2.1.0-jdk21 2.0.0-jdk17 2.0.0-php8.2 1.0.0-php8.3", "2.1.0-jdk21 2.1.0-jdk17 2.0.0-php8.2 1.0.0-php8.3"},
		{"floating tags are for themselves", 1, PerVariant, "1 1.2 1.2.3 1.2.4 1.1", "1 1.2 1.2.4"},
		{"dates never win", 1, PerVariant, "1.2.3 20240102 20240103 2024.1.1 1738746453", "1.2.3 2024.1.1 1738746453 20240103"},
		{"prereleases never win", 1, PerMajor, "1.4.0-rc1 1.4.0-rc2 1.3.0 1.2.0", "1.4.0-rc2 1.3.0"},
		{"prefixes are lines", 1, PerVariant, "v1.2.3 v1.2.4 1.2.3 release-1.2.2", "v1.2.4 1.2.3 release-1.2.2"},
		{"release names are prefixes", 1, PerVariant, "noble-20240423 noble-20240501 jammy-20240401", "noble-20240501 jammy-20240401"},
		{"long numbers are one line", 1, PerMinor, "1738746453 1738746454 1234567", "1738746454"},
		{"commits are one line", 1, PerMinor, "1.2.3-abc1234 1.2.4-def5678", "1.2.4-def5678"},
		{"a tag counts once", 2, PerVariant, "1.2.3 1.2.3 1.2.2 1.2.1", "1.2.3 1.2.2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			given := parseAll(c.tags)
			was := slices.Clone(given)
			if got := tagsOf(Newest(given, c.n, c.per)); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if !slices.Equal(given, was) {
				t.Error("the tags given are in another order now")
			}
		})
	}
}

func TestLines(t *testing.T) {
	got := map[string]string{}
	for line, vs := range Lines(parseAll("1.25.1 1.25.2 1.26.0 1.26.0-rc1 1.25-alpine latest 2024-01-02"), PerMinor) {
		got[line] = tagsOf(vs)
	}
	want := map[string]string{
		"1.25.*": "1.25.2 1.25.1", "1.26.*": "1.26.0", "1.26.*-pre": "1.26.0-rc1",
		"1.25-alpine": "1.25-alpine", "date 2024.1.*": "2024-01-02",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestLinePer(t *testing.T) {
	for _, c := range []struct{ tag, per, want string }{
		{"v1.25.3-alpine3.19", "", "v*.*.*-alpine*"},
		{"v1.25.3-alpine3.19", "variant", "v*.*.*-alpine*"},
		{"v1.25.3-alpine3.19", "major", "v1.*.*-alpine*"},
		{"v1.25.3-alpine3.19", "minor", "v1.25.*-alpine*"},
		{"v1.25.3-alpine3.19", "patch", "v1.25.3-alpine*"},
		{"2024.1.2", "", "calendar *.*.*"},
		{"2024-01-02", "", "date *.*.*"},
	} {
		var per Per
		if err := per.UnmarshalText([]byte(c.per)); err != nil {
			t.Fatal(err)
		}
		if c.per != "" && per.String() != c.per {
			t.Errorf("got %s, want %s", per, c.per)
		}
		if got := Parse(c.tag).Line(per); got != c.want {
			t.Errorf("%s per %s: got %s, want %s", c.tag, per, got, c.want)
		}
	}
}

func TestPerThatIsNone(t *testing.T) {
	var per Per
	err := per.UnmarshalText([]byte("tag"))
	if want := `"tag" is not one of variant, major, minor, patch (example: minor)`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
