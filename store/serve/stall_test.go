package serve

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"lastro/store/storetest"
)

// stalled asks for something and then takes nothing. It returns when the
// handler has given up.
func stalled(t *testing.T, h http.Handler, path string) {
	t.Helper()
	ended := make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		h.ServeHTTP(w, r)
	}))
	server.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		c.(*net.TCPConn).SetWriteBuffer(16 << 10)
		return ctx
	}
	server.Start()
	defer server.Close()
	c, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.(*net.TCPConn).SetReadBuffer(16 << 10)
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
	select {
	case <-ended:
	case <-t.Context().Done():
	case <-time.After(20 * time.Second):
		t.Error("a client that takes nothing is served for ever")
	}
}

// padded is an image with a large layer and a large manifest.
func padded(name string, size int) (m *storetest.Image, layer digest.Digest) {
	m = &storetest.Image{}
	data := bytes.Repeat([]byte(name), size/len(name))
	layer = m.Blob("", data).Digest
	m.Manifest(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
		"config":      map[string]any{"mediaType": "x/y", "digest": layer, "size": len(data)},
		"layers":      []any{},
		"annotations": map[string]string{"x": string(bytes.Repeat([]byte("x"), 3<<20))},
	})
	return m, layer
}

func TestAClientThatTakesNothingIsCutOff(t *testing.T) {
	s := opened(t, storetest.Folder(t))
	m, layer := padded("stalled", 8<<20)
	m.MustPut(t, s, "a", "v1")
	h := handler(t, s, Options{Patience: 50 * time.Millisecond})
	far := bytes.Repeat([]byte("x"), 8<<20)
	d := &demand{t: t, blobs: map[digest.Digest][]byte{digest.FromBytes(far): far}}
	t.Run("a file", func(t *testing.T) { stalled(t, h, "/v2/a/blobs/"+layer.String()) })
	t.Run("a manifest", func(t *testing.T) { stalled(t, h, "/v2/a/manifests/v1") })
	t.Run("a stream", func(t *testing.T) {
		stalled(t, handler(t, s, Options{Patience: 50 * time.Millisecond, Demand: d}), "/v2/a/blobs/"+digest.FromBytes(far).String())
	})
}

// slowly gives a few bytes each time, long after the last.
type slowly struct {
	io.Reader
	wait time.Duration
}

func (s slowly) Read(p []byte) (int, error) {
	time.Sleep(s.wait)
	return s.Reader.Read(p[:min(len(p), 1000)])
}

func (slowly) Close() error { return nil }

// deadlined fails as a connection does after its deadline.
type deadlined struct {
	*httptest.ResponseRecorder
	until time.Time
}

func (d *deadlined) SetWriteDeadline(until time.Time) error {
	d.until = until
	return nil
}

func (d *deadlined) Write(p []byte) (int, error) {
	if d.until.IsZero() || !time.Now().Before(d.until) {
		return 0, os.ErrDeadlineExceeded
	}
	return d.ResponseRecorder.Write(p)
}

func TestAClientWaitsForAnUpstreamAsLongAsItTakes(t *testing.T) {
	s := opened(t, storetest.Folder(t))
	synctest.Test(t, func(t *testing.T) {
		data := bytes.Repeat([]byte("slow"), 1000)
		d := &demand{t: t, blobs: map[digest.Digest][]byte{digest.FromBytes(data): data}}
		d.open = func(data []byte, offset int64) (io.ReadCloser, error) {
			return slowly{bytes.NewReader(data[offset:]), 50 * time.Second}, nil
		}
		w := &deadlined{ResponseRecorder: httptest.NewRecorder()}
		handler(t, s, Options{Demand: d}).ServeHTTP(w, httptest.NewRequest("GET", "/v2/a/blobs/"+digest.FromBytes(data).String(), nil))
		if !bytes.Equal(w.Body.Bytes(), data) {
			t.Errorf("got %d bytes", w.Body.Len())
		}
	})
}
