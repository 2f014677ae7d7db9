package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestKindOfARequest(t *testing.T) {
	for path, want := range map[string]string{
		"/v2/":                                   "base",
		"/v2":                                    "base",
		"/v2/_catalog":                           "catalog",
		"/v2/library/debian/manifests/12":        "manifest",
		"/v2/debian/blobs/sha256:0123":           "blob",
		"/v2/debian/tags/list":                   "tags",
		"/v2/a/b/c/referrers/sha256:0123":        "referrers",
		"/v2/debian/blobs/uploads/":              "upload",
		"/v2/debian/blobs/uploads/0b1c":          "upload",
		"/v2/manifests/manifests/manifests/1":    "manifest",
		"/v2/blobs/uploads/manifests/latest":     "manifest",
		"/v2/tags/list/blobs/sha256:0123":        "blob",
		"/v2/a/manifests":                        "other",
		"/v2/manifests/latest":                   "other",
		"/v2//":                                  "base",
		"/":                                      "other",
		"":                                       "other",
		"/v1/search":                             "other",
		"/v2/a/../../etc/passwd":                 "other",
		"/v2/" + strings.Repeat("a/", 9) + "b/c": "other",
	} {
		if got := kindOf(path); got != want {
			t.Errorf("%q: got %s, want %s", path, got, want)
		}
	}
}

// ask sends one request through the counting of s to a handler.
func ask(t *testing.T, s *Server, method, path string, w http.ResponseWriter, h http.HandlerFunc) {
	t.Helper()
	s.Instrument(h).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, nil))
}

func TestRequestsAreCountedByMethodKindAndCode(t *testing.T) {
	for _, c := range []struct {
		name, method string
		answer       http.HandlerFunc
		code         string
		bytes        float64
	}{
		{"an answer without a word is 200", "GET", func(http.ResponseWriter, *http.Request) {}, "200", 0},
		{"a body is 200", "GET", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "12345") }, "200", 5},
		{"what is written to HEAD is not sent", "HEAD", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "12345") }, "200", 0},
		{"a code is kept", "GET", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", 404) }, "404", 3},
		{"the first code counts", "GET", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(206); w.WriteHeader(500) }, "206", 0},
		{"one for information does not", "GET", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(103); w.WriteHeader(304) }, "304", 0},
		{"one that nobody knows is other", "GET", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(799) }, "other", 0},
		{"a method that nobody knows is other", "BREW", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(405) }, "405", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := New(Options{Now: fixed})
			ask(t, s, c.method, "/v2/a/manifests/1", httptest.NewRecorder(), c.answer)
			method := c.method
			if method == "BREW" {
				method = other
			}
			if got := value(t, s, "lastro_registry_requests_total", "code="+c.code, "kind=manifest", "method="+method); got != 1 {
				t.Errorf("requests: got %v, want 1 in %v", got, gathered(t, s)["lastro_registry_requests_total"])
			}
			if got := value(t, s, "lastro_registry_request_duration_seconds", "kind=manifest", "method="+method); got != 1 {
				t.Errorf("durations: got %v, want 1", got)
			}
			if got := max(value(t, s, "lastro_registry_response_bytes_total", "kind=manifest"), 0); got != c.bytes {
				t.Errorf("bytes: got %v, want %v", got, c.bytes)
			}
			if got := value(t, s, "lastro_registry_requests_in_flight", "kind=manifest"); got != 0 {
				t.Errorf("in flight afterwards: got %v, want 0", got)
			}
		})
	}
}

func TestARequestIsInFlightWhileItIsAnswered(t *testing.T) {
	s := New(Options{Now: fixed})
	ask(t, s, "GET", "/v2/a/blobs/sha256:0", httptest.NewRecorder(), func(http.ResponseWriter, *http.Request) {
		if got := value(t, s, "lastro_registry_requests_in_flight", "kind=blob"); got != 1 {
			t.Errorf("got %v, want 1", got)
		}
	})
}

// deaf is a client that has gone.
type deaf struct{ http.ResponseWriter }

func (deaf) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestBrokenAnswersAreCountedAsAborted(t *testing.T) {
	s := New(Options{Now: fixed})
	ask(t, s, "GET", "/v2/a/blobs/sha256:0", deaf{httptest.NewRecorder()}, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "layer") })
	func() {
		defer func() {
			if got := recover(); got != http.ErrAbortHandler {
				t.Errorf("the panic became %v", got)
			}
		}()
		ask(t, s, "GET", "/v2/a/blobs/sha256:0", httptest.NewRecorder(), func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	}()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	request := httptest.NewRequestWithContext(gone, http.MethodGet, "/v2/a/blobs/sha256:0", nil)
	s.Instrument(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).ServeHTTP(httptest.NewRecorder(), request)
	if got := value(t, s, "lastro_registry_requests_total", "code=aborted", "kind=blob", "method=GET"); got != 3 {
		t.Errorf("got %v, want 3", got)
	}
	if got := value(t, s, "lastro_registry_requests_in_flight", "kind=blob"); got != 0 {
		t.Errorf("in flight afterwards: got %v, want 0", got)
	}
}

// kernel is a writer that can be handed a file.
type kernel struct {
	http.ResponseWriter
	files int
}

func (k *kernel) ReadFrom(r io.Reader) (int64, error) {
	if l, ok := r.(*io.LimitedReader); ok {
		r = l.R
	}
	if _, ok := r.(*os.File); ok {
		k.files++
	}
	return io.Copy(io.Discard, r)
}

func TestAFileIsStillHandedToTheKernel(t *testing.T) {
	path := filepath.Join(t.TempDir(), "layer")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	s, k := New(Options{Now: fixed}), &kernel{ResponseWriter: httptest.NewRecorder()}
	ask(t, s, "GET", "/v2/a/blobs/sha256:0", k, func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, path) })
	if got, want := k.files, 1; got != want {
		t.Errorf("files handed over: got %d, want %d", got, want)
	}
	if got, want := value(t, s, "lastro_registry_response_bytes_total", "kind=blob"), float64(1<<20); got != want {
		t.Errorf("bytes: got %v, want %v", got, want)
	}
}

func TestWhatTheServersWriterCanDoIsStillThere(t *testing.T) {
	s, w := New(Options{Now: fixed}), httptest.NewRecorder()
	ask(t, s, "GET", "/v2/", w, func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush()
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
	})
	if !w.Flushed {
		t.Error("nothing was flushed")
	}
}

func TestClientsCannotMakeSeriesWithoutEnd(t *testing.T) {
	s := New(Options{Now: fixed})
	s.Jobs([]Job{{"sync", "debian"}})
	for i := range 2000 {
		ask(t, s, fmt.Sprint("M", i), fmt.Sprintf("/v2/r%d/x%d/%d", i, i%7, i), httptest.NewRecorder(), func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(200 + i%700)
		})
		s.Ended(Run{Job: Job{"sync", fmt.Sprint("rule", i)}})
	}
	series := map[string]int{}
	for name, f := range gathered(t, s) {
		series[name] = len(f.GetMetric())
		if n := len(f.GetMetric()); n > 100 {
			t.Errorf("%s has %d series", name, n)
		}
	}
	want := map[string]int{"lastro_registry_request_duration_seconds": 1, "lastro_registry_requests_in_flight": 1, "lastro_job_last_end_timestamp_seconds": 1}
	for name, n := range want {
		if d := cmp.Diff(n, series[name]); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}
