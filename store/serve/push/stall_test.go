package push

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"lastro/store/serve/access/limit"
	"lastro/store/storetest"
)

// TestAClientThatStallsIsGivenUp serves as the daemon does, where limits have the
// say over how long a body may take.
func TestAClientThatStallsIsGivenUp(t *testing.T) {
	c := newClient(t, storetest.Folder(t), everybody())
	settings := limit.Defaults()
	settings.BodyTimeout = 50 * time.Millisecond
	limits := limit.New(settings, false)
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := limits.Server(c, slog.New(slog.DiscardHandler))
	go server.Serve(limits.Listener(inner))
	defer server.Close()
	stalling := func(method, path string) {
		t.Helper()
		conn, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\none", method, path)
		answer, err := io.ReadAll(conn)
		if err != nil || bytes.HasPrefix(answer, []byte("HTTP/1.1 2")) {
			t.Errorf("%s %.60s: it was told %q, %v", method, path, answer, err)
		}
	}
	location := c.must(202, "POST", "/v2/a/blobs/uploads/", "").Header().Get("Location")
	stalling("PATCH", location)
	stalling("PUT", "/v2/a/manifests/v1")
	stalling("POST", "/v2/a/blobs/uploads/?digest="+digest.FromString("one two").String())
	server.Close()
	// What it sent is there, and another may go on.
	status := c.must(204, "GET", location, "")
	if status.Header().Get("Range") != "0-2" {
		t.Errorf("the session is at %v", status.Header())
	}
	if w := c.finish(status.Header().Get("Location"), digest.FromString("one two"), " two"); w.Code != 201 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
