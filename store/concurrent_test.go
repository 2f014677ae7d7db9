package store

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"lastro/store/storetest"
)

// counter counts the barriers.
type counter struct{ barriers atomic.Int64 }

func (c *counter) step(op, _ string) {
	if op == "syncfs" || op == "fsync" {
		c.barriers.Add(1)
	}
}

// Sixteen goroutines publish small images.
func BenchmarkPublishTogether(b *testing.B) {
	var c counter
	s := open(b, b.TempDir(), Options{Step: c.step})
	images := 0
	for b.Loop() {
		var next atomic.Int64
		var all sync.WaitGroup
		for range 16 {
			all.Go(func() {
				for i := next.Add(1); i <= 500; i = next.Add(1) {
					name := fmt.Sprint(images, "-", i)
					p := storetest.New(name)
					if err := p.Ingest(b.Context(), s); err != nil {
						b.Error(err)
					}
					publication := p.Publication(fmt.Sprint("r", i%50), name)
					publication.Checked = true
					if _, err := s.Publish(b.Context(), publication); err != nil {
						b.Error(err)
					}
				}
			})
		}
		all.Wait()
		images += 500
	}
	b.ReportMetric(float64(c.barriers.Load())/float64(images), "syncs/image")
	b.ReportMetric(b.Elapsed().Seconds()*1000/float64(images), "ms/image")
}
