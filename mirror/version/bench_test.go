package version

import (
	"fmt"
	"testing"
)

// manyTags are as a registry might have them, after years of building.
func manyTags(n int) []string {
	variants := []string{"", "-alpine", "-alpine3.19", "-slim-bookworm", "-jdk17", "-rc1", "-r4", "-abc1234"}
	tags := make([]string, n)
	for i := range tags {
		tags[i] = fmt.Sprintf("v%d.%d.%d%s", i%7, i/7%40, i/280, variants[i%len(variants)])
	}
	return tags
}

func BenchmarkChoose(b *testing.B) {
	tags := manyTags(100_000)
	b.ReportAllocs()
	for b.Loop() {
		vs := make([]Version, len(tags))
		for i, tag := range tags {
			vs[i] = Parse(tag)
		}
		if len(Newest(vs, 3, PerMinor)) == 0 {
			b.Fatal("nothing chosen")
		}
	}
}

func BenchmarkContains(b *testing.B) {
	r, err := ParseRange(">=1.20 <2 || ^3.1")
	if err != nil {
		b.Fatal(err)
	}
	tags := manyTags(100_000)
	b.ReportAllocs()
	for b.Loop() {
		in := 0
		for _, tag := range tags {
			if r.Match(tag) {
				in++
			}
		}
		if in == 0 {
			b.Fatal("nothing contained")
		}
	}
}
