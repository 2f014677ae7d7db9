package serve

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	"lastro/store/layout"
	"lastro/store/ledger"
	"lastro/store/serve/spec"
	"lastro/store/storetest"
)

func TestWhatGoesWithABlob(t *testing.T) {
	s := opened(t, storetest.Folder(t))
	storetest.New("a").MustPut(t, s, "a", "v1")
	h := handler(t, s, Options{})
	d := digest.FromString("shared").String()
	for _, c := range []struct {
		name    string
		headers []string
		status  int
		length  string
	}{
		{"the whole", nil, 200, "6"},
		{"on a condition that holds", []string{"If-Match", `"` + d + `"`}, 200, "6"},
		{"on one without quotes that holds", []string{"If-Match", d}, 200, "6"},
		{"on one that does not", []string{"If-Match", `"x"`}, 412, ""},
		{"that the client has", []string{"If-None-Match", d}, 304, ""},
		{"a part", []string{"Range", "bytes=0-1"}, 206, "2"},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			w := storetest.Ask(h, method, "/v2/a/blobs/"+d, c.headers...)
			head := w.Header()
			if w.Code != c.status || head.Get("Content-Length") != c.length || head.Get("Cache-Control") != "max-age=31536000" || head.Get("Accept-Ranges") != "bytes" || head.Get("Etag") != `"`+d+`"` {
				t.Errorf("%s, %s: %d %v", method, c.name, w.Code, head)
			}
		}
	}
}

// TestABlobThatCannotBeReadIsAnError has a link to itself in the place of its content.
func TestABlobThatCannotBeReadIsAnError(t *testing.T) {
	dir := storetest.Folder(t)
	s := opened(t, dir)
	storetest.New("a").MustPut(t, s, "a", "v1")
	h := handler(t, s, Options{})
	d := digest.FromString("shared")
	file := filepath.Join(dir, "registry", layout.Data(d))
	if err := errors.Join(os.Remove(file), os.Symlink(filepath.Base(file), file)); err != nil {
		t.Fatal(err)
	}
	for _, method := range []string{"GET", "HEAD"} {
		for _, headers := range [][]string{nil, {"Range", "bytes=0-1"}} {
			if w := storetest.Ask(h, method, "/v2/a/blobs/"+d.String(), headers...); w.Code != 500 || method == "GET" && storetest.ErrorCode(t, w) != "UNKNOWN" {
				t.Errorf("%s %v: %d %q", method, headers, w.Code, w.Body)
			}
		}
	}
}

// counting is a body that says when it is closed.
type counting struct {
	io.Reader
	closed *int
}

func (c counting) Close() error {
	*c.closed++
	return nil
}

func TestPartsOfAStreamAreWhatTheyAreCalledAndItsBodiesAreClosed(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789"), 10_000)
	far := digest.FromBytes(data)
	opens, closes := 0, 0
	d := &demand{t: t, blobs: map[digest.Digest][]byte{far: data}}
	d.opens(func(data []byte, offset int64) (io.ReadCloser, error) {
		opens++
		return counting{bytes.NewReader(data[offset:]), &closes}, nil
	})
	h := handler(t, opened(t, storetest.Folder(t)), Options{Demand: d})
	w := storetest.Ask(h, "GET", "/v2/a/blobs/"+far.String(), "Range", "bytes=3-5,70001-70004,-2")
	_, params, err := mime.ParseMediaType(w.Header().Get("Content-Type"))
	if err != nil || w.Code != 206 {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	parts := multipart.NewReader(w.Body, params["boundary"])
	for _, want := range []string{"345", "1234", "89"} {
		part, err := parts.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(part); string(got) != want || err != nil {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	storetest.Ask(h, "GET", "/v2/a/blobs/"+far.String())
	if opens == 0 || opens != closes {
		t.Errorf("%d bodies were opened, and %d closed", opens, closes)
	}
}

func TestAStreamIsNotSoughtBeforeItsBeginning(t *testing.T) {
	s := &streamed{Stream: mirror.Stream{Size: 10}}
	if at, err := s.Seek(-3, io.SeekEnd); at != 7 || err != nil {
		t.Errorf("at %d, %v", at, err)
	}
	if _, err := s.Seek(-8, io.SeekCurrent); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("before the beginning: %v", err)
	}
	if at, err := s.Seek(2, io.SeekCurrent); at != 9 || err != nil {
		t.Errorf("at %d, %v", at, err)
	}
}

// TestWhatBreaksOffIsAborted looks at what the handler does, whatever a server
// would make of it: over HTTP/2 a short answer may look whole.
func TestWhatBreaksOffIsAborted(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789"), 10_000)
	far := digest.FromBytes(data)
	d := &demand{t: t, blobs: map[digest.Digest][]byte{far: data}}
	d.opens(breaking)
	h := handler(t, opened(t, storetest.Folder(t)), Options{Demand: d})
	for _, part := range []string{"", "bytes=100-", "bytes=1-2000,5000-9000"} {
		r := httptest.NewRequest("GET", "/v2/a/blobs/"+far.String(), nil)
		if part != "" {
			r.Header.Set("Range", part)
		}
		func() {
			defer func() {
				if p := recover(); p != http.ErrAbortHandler {
					t.Errorf("range %q ended with %v", part, p)
				}
			}()
			h.ServeHTTP(httptest.NewRecorder(), r)
		}()
	}
}

func TestFilesThatWereServedAreClosed(t *testing.T) {
	dir := storetest.Folder(t)
	s := opened(t, dir)
	m, layer := padded("closed", 1<<20)
	m.MustPut(t, s, "a", "v1")
	h := handler(t, s, Options{})
	for range 5 {
		storetest.Ask(h, "GET", "/v2/a/blobs/"+layer.String())
		storetest.Ask(h, "GET", "/v2/a/blobs/"+layer.String(), "Range", "bytes=1-2")
		storetest.Ask(h, "HEAD", "/v2/a/blobs/"+layer.String(), "If-None-Match", "*")
	}
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("skipped: this system does not tell what is open")
	}
	for _, f := range open {
		if to, err := os.Readlink("/proc/self/fd/" + f.Name()); err == nil && strings.Contains(to, layer.Encoded()) {
			t.Errorf("%s is open", to)
		}
	}
}

func TestManyTagsComeAtOnceToWhoAsksForNoNumber(t *testing.T) {
	s := opened(t, storetest.Folder(t))
	m := storetest.New("a")
	m.MustPut(t, s, "a", "v1")
	for i := range maxPage {
		e := ledger.Event{Time: storetest.Now(), Repo: "a", Tag: fmt.Sprintf("v1-%04d", i), Digest: m.Root.Digest, Event: ledger.Seen}
		if err := s.Ledger().RecordEvent(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	h := handler(t, s, Options{})
	for query, want := range map[string]int{"": 1, "?n=5000": 2, "?n=1001": 2, "?n=1000": 2} {
		if names, pages := follow(t, h, "/v2/a/tags/list"+query, "tags"); len(names) != maxPage+1 || pages != want {
			t.Errorf("%q: %d tags in %d pages, want %d", query, len(names), pages, want)
		}
	}
}

// hiding shows all repositories but one.
type hiding string

func (hiding) Allow(*http.Request, string, spec.Action) error { return nil }

func (h hiding) Visible(_ *http.Request, repo string) bool { return repo != string(h) }

func TestAPageIsNoLongerForWhatItHides(t *testing.T) {
	s := opened(t, storetest.Folder(t))
	m := storetest.New("a")
	for _, repo := range []string{"a", "b", "c", "d", "e"} {
		m.MustPut(t, s, repo, "v1")
	}
	h := handler(t, s, Options{Access: hiding("b")})
	if w := storetest.Ask(h, "GET", "/v2/_catalog?n=2"); w.Body.String() != `{"repositories":["a","c"]}`+"\n" {
		t.Errorf("got %s", w.Body)
	}
	if names, pages := follow(t, h, "/v2/_catalog?n=2", "repositories"); len(names) != 4 || pages != 2 {
		t.Errorf("%v in %d pages", names, pages)
	}
}

func TestADescriptorThatIsTooLongForAnAnswerComesAlone(t *testing.T) {
	long := ocispec.Descriptor{Annotations: map[string]string{"x": strings.Repeat("x", referrersSize)}}
	for _, c := range []struct {
		list []ocispec.Descriptor
		part int
		more bool
	}{{nil, 0, false}, {[]ocispec.Descriptor{long}, 1, false}, {[]ocispec.Descriptor{long, long}, 1, true}} {
		part, more, err := fit(c.list)
		if len(part) != c.part || part == nil || more != c.more || err != nil {
			t.Errorf("of %d: %d, %t, %v", len(c.list), len(part), more, err)
		}
	}
}
