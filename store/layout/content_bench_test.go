package layout

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// BenchmarkIngest compares storing content with the floor: GET, SHA-256, file,
// fsync. What counts is x-floor, the ratio of CPU time.
func BenchmarkIngest(b *testing.B) {
	for _, c := range []struct {
		name  string
		size  int
		count int
	}{{"128 MiB", 128 << 20, 1}, {"12 KiB", 12 << 10, 200}} {
		b.Run(c.name, func(b *testing.B) {
			data, descs := make([][]byte, c.count), make([]ocispec.Descriptor, c.count)
			for i := range data {
				data[i] = random(c.size + i)
				descs[i] = describe(data[i])
			}
			web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				var i int
				fmt.Sscan(strings.Trim(r.URL.Path, "/"), &i)
				w.Header().Set("Content-Length", fmt.Sprint(len(data[i])))
				w.Write(data[i])
			}))
			defer web.Close()
			var ours, floor time.Duration
			for b.Loop() {
				floor += spent(b, func() error { return writeFloor(web.URL, b.TempDir(), c.count) })
				ours += spent(b, func() error { return ingestAll(b, web.URL, descs) })
			}
			b.SetBytes(int64(c.size * c.count))
			b.ReportMetric(float64(ours)/float64(floor), "x-floor")
		})
	}
}

// spent is the CPU time that fn takes of this process.
func spent(b *testing.B, fn func() error) time.Duration {
	b.Helper()
	before := cpu()
	if err := fn(); err != nil {
		b.Fatal(err)
	}
	return cpu() - before
}

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func writeFloor(url, dir string, count int) error {
	for i := range count {
		resp, err := http.Get(fmt.Sprintf("%s/%d", url, i))
		if err != nil {
			return err
		}
		f, err := os.Create(filepath.Join(dir, fmt.Sprint(i)))
		if err != nil {
			return err
		}
		h := sha256.New()
		_, err = io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(f, h)}, struct{ io.Reader }{resp.Body}, make([]byte, 1<<20))
		if err == nil {
			err = f.Sync()
		}
		f.Close()
		resp.Body.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func ingestAll(b *testing.B, url string, descs []ocispec.Descriptor) error {
	tree := open(b, b.TempDir(), Options{})
	for i, desc := range descs {
		fetch := func(context.Context, int64) (io.ReadCloser, int64, error) {
			resp, err := http.Get(fmt.Sprintf("%s/%d", url, i))
			if err != nil {
				return nil, 0, err
			}
			return resp.Body, 0, nil
		}
		if err := tree.Ingest(b.Context(), desc, fetch); err != nil {
			return err
		}
	}
	return tree.Barrier()
}
