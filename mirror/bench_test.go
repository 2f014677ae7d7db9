package mirror_test

import (
	"fmt"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// BenchmarkSmallBlobs copies a hundred images of ten small layers.
func BenchmarkSmallBlobs(b *testing.B) {
	up := newShelf()
	for i := range 100 {
		var layers []ocispec.Descriptor
		for j := range 10 {
			layers = append(layers, up.layer(fmt.Sprint(i, j), 1000*(j+1)))
		}
		up.tag("app", fmt.Sprint(i), up.image("app", fmt.Sprint(i), layers...).Digest)
	}
	for b.Loop() {
		s := newSite(b, up)
		if r, err := s.sync(b.Context(), everything); err != nil || r.Failed() > 0 {
			b.Fatal(r, err)
		}
	}
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N)/1100*1e6, "µs/blob")
}

// BenchmarkNothingNew is a sync of 2000 tags of which none moved.
func BenchmarkNothingNew(b *testing.B) {
	const tags = 2000
	up := newShelf()
	up.referrers = false // it would be slow to find them
	for i := range tags {
		up.tag("app", fmt.Sprint(i), up.image("app", fmt.Sprint(i), up.layer(fmt.Sprint(i, "a"), 300), up.layer(fmt.Sprint(i, "b"), 300)).Digest)
	}
	s := newSite(b, up)
	for b.Loop() {
		if r, err := s.sync(b.Context(), everything); err != nil || r.Failed() > 0 {
			b.Fatal(r, err)
		}
	}
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N)/tags*1e6, "µs/tag")
}
