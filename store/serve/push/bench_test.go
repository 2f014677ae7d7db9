package push

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/store"
)

// BenchmarkPush pushes images of eleven small blobs, each POST and PUT, as
// distribution answers over our driver and as we do.
func BenchmarkPush(b *testing.B) {
	for _, name := range []string{"distribution", "lastro"} {
		b.Run(name, func(b *testing.B) {
			var syncs atomic.Int64
			s, err := store.Open(b.TempDir(), store.Options{Now: time.Now, Step: func(op, _ string) {
				if op == "fdatasync" || op == "fsync" || op == "syncfs" {
					syncs.Add(1)
				}
			}})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			h, err := newHandler(s, everybody())
			if err != nil {
				b.Fatal(err)
			}
			c := &client{TB: b, store: s, Handler: h}
			if name == "distribution" {
				c.Handler = h.app
			}
			syncs.Store(0)
			before := cpu(b)
			for i := 0; b.Loop(); i++ {
				c.pushSmall(i)
			}
			b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
			b.ReportMetric(float64(syncs.Load())/float64(b.N), "syncs/op")
		})
	}
}

// pushSmall pushes the image of a number.
func (c *client) pushSmall(i int) {
	d := document{MediaType: ocispec.MediaTypeImageManifest}
	for n := range 11 {
		content := fmt.Sprintf(`{"blob":%d,"image":%d,"text":"%04096d"}`, n, i, i)
		location := c.must(http.StatusAccepted, "POST", "/v2/a/blobs/uploads/", "").Header().Get("Location")
		desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromString(content), Size: int64(len(content))}
		if w := c.finish(location, desc.Digest, content); w.Code != http.StatusCreated {
			c.Fatalf("%d %s", w.Code, w.Body)
		}
		d.Layers = append(d.Layers, desc)
	}
	config := d.Layers[0]
	config.MediaType = ocispec.MediaTypeImageConfig
	d.Config, d.Layers = &config, d.Layers[1:]
	if w := c.put("a", fmt.Sprint("v", i), d); w.Code != http.StatusCreated {
		c.Fatalf("%d %s", w.Code, w.Body)
	}
}

// cpu is what this process has spent.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
