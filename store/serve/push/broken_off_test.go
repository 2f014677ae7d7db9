package push

import (
	"context"
	"io"
	"net"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"lastro/store/storetest"
)

func TestABlobThatBreaksOffLeavesNoSessionThatNobodyKnows(t *testing.T) {
	dir := storetest.Folder(t)
	c := newClient(t, dir, everybody())
	for _, d := range []digest.Digest{digest.FromString("one two"), digest.SHA512.FromString("one two")} {
		r := httptest.NewRequest("POST", "/v2/a/blobs/uploads/?digest="+d.String(), io.MultiReader(strings.NewReader("one "), brokenOff{}))
		w := httptest.NewRecorder()
		c.ServeHTTP(w, r)
		if w.Code < 400 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		c.must(404, "GET", blobPath("a", d), "")
		if left, err := filepath.Glob(filepath.Join(dir, "registry/docker/registry/v2/repositories/a/_uploads/*")); err != nil || len(left) > 0 {
			t.Errorf("left are %v, %v", left, err)
		}
	}
}

func TestAClientThatSendsNoMoreIsNotToldThatAllIsWell(t *testing.T) {
	o := everybody()
	o.Keep = func(ctx context.Context, _, _ string, _ digest.Digest) (string, error) {
		<-ctx.Done()
		return "", ctx.Err()
	}
	c := newClient(t, storetest.Folder(t), o)
	c.push("a", "v1", "a")
	server := httptest.NewServer(c)
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(conn, "DELETE /v2/a/manifests/v1 HTTP/1.1\r\nHost: x\r\n\r\n")
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(conn); len(answer) > 0 {
		t.Errorf("%q, %v", answer, err)
	}
	c.must(200, "GET", "/v2/a/manifests/v1", "")
}
