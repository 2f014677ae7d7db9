package layout

import (
	"context"
	"crypto/sha256"
	"errors"
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
	"golang.org/x/sys/unix"
)

// BenchmarkIngest compares storing content, with the links of a repository, with
// two floors: GET, SHA-256, file, fsync; and the same with the folders and links
// that the layout demands, made by bare system calls, and a syncfs an image in
// place of the fsyncs. What counts are x-floor and x-layout, the ratios of CPU
// time.
func BenchmarkIngest(b *testing.B) {
	for _, c := range []struct {
		name  string
		size  int
		count int
	}{{"128 MiB", 128 << 20, 1}, {"12 KiB", 12 << 10, 220}} {
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
			var ours, floor, demanded time.Duration
			for b.Loop() {
				floor += spent(b, func() error { return writeFloor(web.URL, b.TempDir(), c.count) })
				demanded += spent(b, func() error { return writeLayout(web.URL, b.TempDir(), descs) })
				ours += spent(b, func() error { return ingestAll(b, web.URL, descs) })
			}
			b.SetBytes(int64(c.size * c.count))
			b.ReportMetric(float64(ours)/float64(floor), "x-floor")
			b.ReportMetric(float64(ours)/float64(demanded), "x-layout")
			b.ReportMetric(float64(ours.Microseconds())/float64(b.N*c.count), "cpu-µs/blob")
		})
	}
}

// perImage is how many blobs an image has: they share barriers.
const perImage = 11

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
		err := fetchTo(fmt.Sprintf("%s/%d", url, i), filepath.Join(dir, fmt.Sprint(i)), (*os.File).Sync)
		if err != nil {
			return err
		}
	}
	return nil
}

func fetchTo(url, name string, sync func(*os.File) error) error {
	resp, err := http.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(f, sha256.New())}, struct{ io.Reader }{resp.Body}, make([]byte, bufferSize)); err != nil {
		return err
	}
	return sync(f)
}

// writeLayout makes the files of the layout, durable by image, and no more.
func writeLayout(url, dir string, descs []ocispec.Descriptor) error {
	whole, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer whole.Close()
	if err := os.MkdirAll(filepath.Join(dir, "layers"), 0o700); err != nil {
		return err
	}
	unsynced := func(*os.File) error { return nil }
	for i, desc := range descs {
		part, place := filepath.Join(dir, "part"), filepath.Join(dir, desc.Digest.Encoded())
		link := filepath.Join(dir, "layers", desc.Digest.Encoded())
		err := errors.Join(fetchTo(fmt.Sprintf("%s/%d", url, i), part, unsynced),
			unix.Mkdir(place, 0o700), unix.Rename(part, filepath.Join(place, "data")),
			unix.Mkdir(link, 0o700), os.WriteFile(filepath.Join(link, "link"), []byte(desc.Digest), 0o600))
		if err == nil && i%perImage == perImage-1 {
			err = unix.Syncfs(int(whole.Fd()))
		}
		if err != nil {
			return err
		}
	}
	return unix.Syncfs(int(whole.Fd()))
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
		if i%perImage == perImage-1 || i == len(descs)-1 {
			if err := publish(tree, descs[i-i%perImage:i+1]); err != nil {
				return err
			}
		}
	}
	return nil
}

// publish links the blobs of an image, with the barriers of a publication.
func publish(tree *Tree, descs []ocispec.Descriptor) error {
	err := tree.Barrier()
	for _, desc := range descs {
		err = errors.Join(err, tree.Link(Layer("a", desc.Digest), desc.Digest))
	}
	return errors.Join(err, tree.Barrier(), tree.LinkDurably(Tag("a", "v1"), descs[0].Digest))
}
