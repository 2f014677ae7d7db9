package layout

import (
	"regexp"
	"strings"
	"testing"
)

var (
	repositoryName = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagName        = regexp.MustCompile(`^\w[\w.-]{0,127}$`)
)

// FuzzNames holds the checks beside the distribution-spec's expressions.
func FuzzNames(f *testing.F) {
	for _, name := range []string{
		"", "a", "a/b", "a//b", "/a", "a/", "a.b", "a..b", "a_b", "a__b", "a___b", "a-b", "a---b", "a-", "-a", "a.-b", "a_-b", "A", "a/B",
		"a/_manifests", "..", "../a", "a b", "a\n", "é", "docker.io/library/debian", "x_", "a._b", "v1.2-3_x", ".a", "_a",
		strings.Repeat("a", 128), strings.Repeat("a", 129), strings.Repeat("a", 255), strings.Repeat("a", 256), strings.Repeat("a/", 127) + "a", strings.Repeat("a/", 128) + "a",
	} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if got, want := CheckRepository(name) == nil, len(name) <= 255 && repositoryName.MatchString(name); got != want {
			t.Errorf("repository %q: %v, and the expression says %v", name, got, want)
		}
		if got, want := CheckTag(name) == nil, tagName.MatchString(name); got != want {
			t.Errorf("tag %q: %v, and the expression says %v", name, got, want)
		}
	})
}

func BenchmarkCheckRepository(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if err := CheckRepository("docker.io/library/debian"); err != nil {
			b.Fatal(err)
		}
	}
}
