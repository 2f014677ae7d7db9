package serve

import (
	"context"
	"io"
	"net"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	"lastro/store/storetest"
)

// waiting brings nothing, and ends with the client.
type waiting struct{}

func (waiting) Manifest(ctx context.Context, _, _ string) (ocispec.Descriptor, []byte, error) {
	<-ctx.Done()
	return ocispec.Descriptor{}, nil, ctx.Err()
}

func (waiting) Blob(ctx context.Context, _ string, _ digest.Digest) (mirror.Stream, error) {
	<-ctx.Done()
	return mirror.Stream{}, ctx.Err()
}

// TestAClientThatSendsNoMoreIsNotToldAnEmptyAnswer closes half of a connection:
// for the server that is a client which has gone, and it may read still.
func TestAClientThatSendsNoMoreIsNotToldAnEmptyAnswer(t *testing.T) {
	server := httptest.NewServer(handler(t, opened(t, storetest.Folder(t)), Options{Demand: waiting{}}))
	defer server.Close()
	for _, path := range []string{"/v2/a/manifests/v1", "/v2/a/blobs/" + digest.FromString("x").String()} {
		c, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n")
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if answer, err := io.ReadAll(c); len(answer) > 0 {
			t.Errorf("%s: %q, %v", path, answer, err)
		}
	}
}
