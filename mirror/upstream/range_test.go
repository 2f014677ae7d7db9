package upstream

import (
	"errors"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestAPartOfABlobIsThatPartOrUnsupported(t *testing.T) {
	const content = "0123456789"
	sends := func(rangeHeader, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", rangeHeader)
			refuse(206, body)(w, nil)
		}
	}
	for _, c := range []struct {
		name    string
		handler http.HandlerFunc
		want    string // "": errors.ErrUnsupported
	}{
		{"the part", func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(content))
		}, "3456"},
		{"the part of an unknown total", sends("bytes 3-6/*", "3456"), "3456"},
		{"no more than the part when no length is said", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 3-6/10")
			w.WriteHeader(206)
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, "3456789")
		}, "3456"},
		{"everything", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, content) }, ""},
		{"more", sends("bytes 3-9/10", "3456789"), ""},
		{"less", sends("bytes 3-5/10", "345"), ""},
		{"another part", sends("bytes 2-5/10", "2345"), ""},
		{"a part of which nothing is said", sends("", "3456"), ""},
		{"another length than it says", sends("bytes 3-6/10", "34"), ""},
		{"a 416", refuse(416, ""), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			body, err := serve(t, c.handler).Range(t.Context(), "a", blobOf(content), 3, 4)
			if c.want == "" {
				if !errors.Is(err, errors.ErrUnsupported) || body != nil {
					t.Fatalf("got %v, %v", body, err)
				}
				wantError(t, err, "blobs/"+blobOf(content).Digest.String()+" of a")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer body.Close()
			if got, err := io.ReadAll(body); string(got) != c.want || err != nil {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

func TestAFaultOfAPartIsThatFault(t *testing.T) {
	desc := blobOf("0123456789")
	_, err := serve(t, refuse(404, "")).Range(t.Context(), "a", desc, 0, 10)
	if !errors.Is(err, fs.ErrNotExist) || errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a 404: %v", err)
	}
	_, err = serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Range", "bytes 0-9/20")
		refuse(206, "0123456789")(w, nil)
	}).Range(t.Context(), "a", desc, 0, 10)
	wantError(t, err, "20 bytes where the manifest says 10")
	r := serve(t, refuse(500, ""))
	for _, part := range [][2]int64{{-1, 2}, {0, 0}, {0, 11}, {10, 1}, {1, 1<<63 - 1}} {
		if _, err := r.Range(t.Context(), "a", desc, part[0], part[1]); err == nil || r.Requests() != 0 {
			t.Errorf("%d bytes from %d: %v after %d requests", part[1], part[0], err, r.Requests())
		}
	}
}

func TestClosingAPartGivesItsSlotBack(t *testing.T) {
	r := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader("0123456789"))
	})
	for range 3 * defaultConnections {
		body, err := r.Range(t.Context(), "a", blobOf("0123456789"), 2, 3)
		if err != nil {
			t.Fatal(err)
		}
		body.Close()
	}
	if !r.slots.idle(defaultConnections) {
		t.Error("a slot is held")
	}
}
