package push

import (
	"bytes"
	"log/slog"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lastro/store"
	"lastro/store/storetest"
)

func open(t testing.TB) *store.Store {
	t.Helper()
	s, err := store.Open(t.TempDir(), store.Options{Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestPushesAndDeletesAreRefused(t *testing.T) {
	h, err := New(open(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]string{
		{"POST", "/v2/a/blobs/uploads/"}, {"POST", "/v2/a/blobs/uploads/?mount=sha256:x&from=b"}, {"PATCH", "/v2/a/blobs/uploads/x"},
		{"PUT", "/v2/a/manifests/v1"}, {"DELETE", "/v2/a/manifests/v1"},
	} {
		w := storetest.Ask(h, c[0], c[1])
		if code := storetest.ErrorCode(t, w); w.Code != 405 || code != "UNSUPPORTED" || w.Header().Get("Allow") != "GET, HEAD" || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%v: %d %s %v", c, w.Code, code, w.Header())
		}
	}
}

func TestAPanicBecomesAnAnswerOrABrokenConnection(t *testing.T) {
	var log bytes.Buffer
	h := &handler{log: slog.New(slog.NewTextHandler(&log, nil))}
	w := storetest.Ask(h.recovering(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("nil platform") })), "PUT", "/v2/")
	if w.Code != 500 || storetest.ErrorCode(t, w) != "UNKNOWN" || !strings.Contains(log.String(), "nil platform") {
		t.Errorf("got %d %q, log %q", w.Code, w.Body, log.String())
	}
	defer func() {
		if p := recover(); p != http.ErrAbortHandler {
			t.Errorf("a panic after the answer began ends with %v", p)
		}
	}()
	storetest.Ask(h.recovering(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte("half"))
		panic("nil platform")
	})), "PUT", "/v2/")
}

func TestWhatDistributionLogsOfAMissIsOnlyForDebugging(t *testing.T) {
	var log bytes.Buffer
	h := &handler{store: open(t), log: slog.New(slog.NewTextHandler(&log, nil))}
	if err := h.start("key"); err != nil {
		t.Fatal(err)
	}
	storetest.Ask(h.app, "GET", "/v2/nowhere/manifests/v1")
	if log.Len() > 0 {
		t.Errorf("logged %s", log.String())
	}
}

func TestNoTelemetryExporterIsLinked(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for dep := range strings.Lines(string(out)) {
		if strings.Contains(dep, "otlp") || strings.Contains(dep, "google.golang.org/grpc") || strings.Contains(dep, filepath.Join("storage", "driver", "filesystem")) {
			t.Errorf("linked: %s", dep)
		}
	}
}
