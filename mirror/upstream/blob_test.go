package upstream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func blobOf(content string) ocispec.Descriptor {
	return ocispec.Descriptor{Digest: digest.FromString(content), Size: int64(len(content))}
}

func TestABlobBeginsWhereTheUpstreamCan(t *testing.T) {
	const content = "0123456789"
	partial := func(rangeHeader, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") == "" {
				_, _ = io.WriteString(w, content)
				return
			}
			w.Header().Set("Content-Range", rangeHeader)
			refuse(206, body)(w, r)
		}
	}
	for _, c := range []struct {
		name    string
		handler http.HandlerFunc
		offset  int64
		start   int64
		want    string
		err     string
	}{
		{"at the offset", func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(content))
		}, 4, 4, "456789", ""},
		{"with an unknown total", partial("bytes 4-9/*", "456789"), 4, 4, "456789", ""},
		{"at 0 for 200 instead of 206", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, content) }, 4, 0, content, ""},
		{"at 0 for another range", partial("bytes 3-9/10", "3456789"), 4, 0, content, ""},
		{"at 0 for a range that goes too far", partial("bytes 4-99/*", "456789"), 4, 0, content, ""},
		{"at 0 for a stream that goes too far", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "" {
				w.Header().Set("Content-Range", "bytes 4-99/*")
				w.WriteHeader(206)
				_ = http.NewResponseController(w).Flush() // so that no length is known
			}
			_, _ = io.WriteString(w, content)
		}, 4, 0, content, ""},
		{"at 0 without Content-Range", partial("", "456789"), 4, 0, content, ""},
		{"at 0 when range and length differ", partial("bytes 4-9/10", "4567"), 4, 0, content, ""},
		{"at 0 after 416", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "" {
				refuse(416, "")(w, r)
				return
			}
			_, _ = io.WriteString(w, content)
		}, 4, 0, content, ""},
		{"nowhere when another length is there", partial("bytes 4-19/20", "4567"), 4, 0, "", "wrong length"},
		{"nowhere when the whole has another length", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, content+"!") }, 0, 0, "", "11 bytes where the manifest says 10"},
		{"nowhere in a web page", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>log in</html>") }, 0, 0, "", "web page"},
		{"at its end without a request", refuse(500, ""), 10, 10, "", ""},
		{"at 0 for an offset behind its end", partial("", ""), 11, 0, content, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			body, start, err := serve(t, c.handler).Blob(t.Context(), "a", blobOf(content), c.offset)
			if c.err != "" {
				wantError(t, err, c.err, "blobs/"+blobOf(content).Digest.String()+" of a")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer body.Close()
			got, err := io.ReadAll(body)
			if string(got) != c.want || start != c.start || err != nil {
				t.Errorf("got %q from %d, %v", got, start, err)
			}
		})
	}
}

func TestARangeIsClosed(t *testing.T) {
	var asked string
	r := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked = r.Header.Get("Range")
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader("0123456789"))
	})
	body, _, err := r.Blob(t.Context(), "a", blobOf("0123456789"), 3)
	if err != nil || asked != "bytes=3-9" {
		t.Fatalf("asked %q, %v", asked, err)
	}
	body.Close()
}

func TestABodyThatBreaksOffIsAnErrorAndNotTriedAgain(t *testing.T) {
	r := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "10")
		_, _ = io.WriteString(w, "0123")
	})
	body, _, err := r.Blob(t.Context(), "a", blobOf("0123456789"), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	got, err := io.ReadAll(body)
	if string(got) != "0123" || !errors.Is(err, io.ErrUnexpectedEOF) || r.Requests() != 1 {
		t.Errorf("got %q, %v after %d requests", got, err, r.Requests())
	}
}

// stalling is an upstream whose bodies bring a few bytes and then nothing,
// until the request ends.
func stalling(r *Registry, first string) *Registry {
	r.transport = roundTrip(func(req *http.Request) (*http.Response, error) {
		pr, pw := io.Pipe()
		go func() {
			_, _ = io.WriteString(pw, first)
			<-req.Context().Done()
			pw.CloseWithError(req.Context().Err())
		}()
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: pr, ContentLength: -1, Request: req}, nil
	})
	return r
}

func TestAStreamThatBringsNothingIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := stalling(inProcess(nil), "0123")
		body, _, err := r.Blob(t.Context(), "a", blobOf("0123456789"), 0)
		if err != nil {
			t.Fatal(err)
		}
		defer body.Close()
		p := make([]byte, 4)
		if _, err := io.ReadFull(body, p); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour) // a slow reader is not the upstream's fault
		start := time.Now()
		_, err = body.Read(p)
		if took := time.Since(start); took != stallTimeout {
			t.Errorf("cut after %v", took)
		}
		wantError(t, err, "only 4 bytes came in 1m0s")
		if errors.Is(err, context.Canceled) {
			t.Error("the error looks as if the caller had ended it")
		}
	})
}

func TestACancelledStreamEndsAsTheCallerSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		body, _, err := stalling(inProcess(nil), "").Blob(ctx, "a", blobOf("0123456789"), 0)
		if err != nil {
			t.Fatal(err)
		}
		defer body.Close()
		time.AfterFunc(time.Second, func() { cancel(errors.New("a sibling failed")) })
		if _, err := io.ReadAll(body); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

func TestStreamsCountAsRequestsUntilTheyAreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := stalling(inProcess(nil), "")
		var open []io.Closer
		for range defaultConnections {
			body, _, err := r.Blob(t.Context(), "a", blobOf("x"), 0)
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, body)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := r.Blob(ctx, "a", blobOf("x"), 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("a ninth stream: %v", err)
		}
		for _, c := range open {
			c.Close()
			c.Close() // twice gives back once
		}
		if !r.slots.idle(defaultConnections) {
			t.Error("the slots are not as before")
		}
	})
}

func TestRedirectsHaveLimits(t *testing.T) {
	for _, c := range []struct{ name, to, want string }{
		{"a circle", "/v2/a/again?signature=secret", "more than 10 redirects"},
		{"another scheme", "ftp://a.test/?signature=secret", "ftp://a.test, which is refused"},
		{"no address", "http://%zz/?signature=secret", "cannot be used"},
		{"a user", "http://u:secret@a.test/", "cannot be used"},
		{"nothing", "", "cannot be used"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", c.to)
				w.WriteHeader(307)
			})
			_, _, err := r.Blob(t.Context(), "a", blobOf("x"), 0)
			wantError(t, err, c.want)
			if r.Requests() > 11 {
				t.Errorf("%d requests", r.Requests())
			}
		})
	}
}

func TestAContentServerThatFailsKeepsItsQuerySecret(t *testing.T) {
	r := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://127.0.0.1:1/x?signature=secret", http.StatusFound)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, _, err := r.Blob(ctx, "a", blobOf("x"), 0)
	wantError(t, err, "blobs/")
}

func TestAMissingBlobIsNotThere(t *testing.T) {
	_, _, err := serve(t, refuse(404, `{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown"}]}`)).Blob(t.Context(), "a", blobOf("x"), 0)
	wantError(t, err, "404 Not Found: BLOB_UNKNOWN: blob unknown")
	if !errors.Is(err, fs.ErrNotExist) {
		t.Error("it is not fs.ErrNotExist")
	}
}

func TestBytesComeAsTheyAreStored(t *testing.T) {
	zipped := []byte("\x1f\x8b\x08 not even gzip")
	var asked atomic.Value
	r := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Store(r.Header.Get("Accept-Encoding"))
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(zipped)
	})
	body, _, err := r.Blob(t.Context(), "a", blobOf(string(zipped)), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if got, err := io.ReadAll(body); !bytes.Equal(got, zipped) || err != nil || asked.Load() != "identity" {
		t.Errorf("got %q, %v; asked for %v", got, err, asked.Load())
	}
}

func TestTheSizeOfABlobIsAskedWithoutItsContent(t *testing.T) {
	const content = "0123456789"
	whole := func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(content))
	}
	for _, c := range []struct {
		name    string
		handler http.HandlerFunc
		methods string
		err     error
	}{
		{"by HEAD", whole, "HEAD", nil},
		{"by GET where HEAD is not signed for", func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodHead {
				refuse(403, "")(w, r)
				return
			}
			whole(w, r)
		}, "HEAD GET", nil},
		{"by GET where HEAD has no length", func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodHead {
				_ = http.NewResponseController(w).Flush()
				return
			}
			whole(w, r)
		}, "HEAD GET", nil},
		{"not of what is not there", refuse(404, ""), "HEAD", fs.ErrNotExist},
	} {
		t.Run(c.name, func(t *testing.T) {
			var methods []string
			r := serve(t, func(w http.ResponseWriter, r *http.Request) {
				methods = append(methods, r.Method)
				c.handler(w, r)
			})
			size, err := r.Size(t.Context(), "a", blobOf(content).Digest)
			if c.err != nil && !errors.Is(err, c.err) || c.err == nil && (err != nil || size != int64(len(content))) {
				t.Errorf("got %d, %v", size, err)
			}
			if got := strings.Join(methods, " "); got != c.methods {
				t.Errorf("asked by %s", got)
			}
		})
	}
}
