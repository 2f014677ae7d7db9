package push

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"lastro/store/storetest"
)

// session begins an upload and sends the first part of it.
func (c *client) session(repo, part string) (location string) {
	c.Helper()
	location = c.must(202, "POST", "/v2/"+repo+"/blobs/uploads/", "").Header().Get("Location")
	return c.must(202, "PATCH", location, part).Header().Get("Location")
}

// finish sends the rest.
func (c *client) finish(location string, d digest.Digest, rest string) *httptest.ResponseRecorder {
	return c.do("PUT", location+"&digest="+d.String(), rest)
}

// sessionFolder is where the one session of a repository lies.
func sessionFolder(t testing.TB, dir, repo string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "registry/docker/registry/v2/repositories", repo, "_uploads/*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("sessions %v, %v", found, err)
	}
	return found[0]
}

func TestAPushGoesOnAfterARestart(t *testing.T) {
	for _, d := range []digest.Digest{digest.FromString("one two"), digest.SHA512.FromString("one two")} {
		dir := storetest.Folder(t)
		c := newClient(t, dir, everybody())
		location := c.session("a", "one ")
		c.store.Close()
		c = newClient(t, dir, everybody())
		status := c.must(204, "GET", location, "")
		if status.Header().Get("Range") != "0-3" {
			t.Errorf("the session is at %v", status.Header())
		}
		if w := c.finish(status.Header().Get("Location"), d, "two"); w.Code != 201 || w.Header().Get("Docker-Content-Digest") != d.String() {
			t.Fatalf("%d %s %v", w.Code, w.Body, w.Header())
		}
		if got := c.must(200, "GET", blobPath("a", d), ""); got.Body.String() != "one two" {
			t.Errorf("served %q", got.Body)
		}
	}
}

func TestTheKeyOfUploadsIsMadeOnceAndForNobodyElse(t *testing.T) {
	dir := storetest.Folder(t)
	c := newClient(t, dir, everybody())
	name := filepath.Join(dir, "upload.key")
	info, err := os.Stat(name)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	key, err := c.store.UploadKey()
	if err != nil || len(key) != 64 {
		t.Fatalf("%q, %v", key, err)
	}
	if other, err := newClient(t, storetest.Folder(t), everybody()).store.UploadKey(); err != nil || other == key {
		t.Errorf("two folders have the key %q, %v", other, err)
	}
	// What is no key is none: uploads begin anew.
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if again, err := c.store.UploadKey(); err != nil || len(again) != 64 || again == key {
		t.Errorf("%q, %v", again, err)
	}
}

// TestAfterAnUncleanStopWhatWasHashedIsHashedAgain changes the beginning of an
// upload on disk, as a power cut may: with what distribution knows of its hash,
// it would be taken.
func TestAfterAnUncleanStopWhatWasHashedIsHashedAgain(t *testing.T) {
	for _, c := range []struct {
		name    string
		damaged bool
		status  int
	}{{"a damaged upload is refused", true, 400}, {"one that is not goes on", false, 201}} {
		t.Run(c.name, func(t *testing.T) {
			dir, after := storetest.Folder(t), storetest.Folder(t)
			cl := newClient(t, dir, everybody())
			location := cl.session("a", "one ")
			// Of the store that is still open, a copy is what a kill leaves.
			if err := os.CopyFS(after, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			if c.damaged {
				data := filepath.Join(sessionFolder(t, after, "a"), "data")
				if err := errors.Join(os.Chmod(data, 0o600), os.WriteFile(data, make([]byte, 4), 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			cl = newClient(t, after, everybody())
			d := digest.FromString("one two")
			if w := cl.finish(location, d, "two"); w.Code != c.status {
				t.Errorf("%d %s, want %d", w.Code, w.Body, c.status)
			}
		})
	}
}

func TestOneRequestAtATimeWritesToASession(t *testing.T) {
	c := newClient(t, storetest.Folder(t), everybody())
	location := c.must(202, "POST", "/v2/a/blobs/uploads/", "").Header().Get("Location")
	r, w := io.Pipe()
	first := make(chan int)
	go func() {
		answer := httptest.NewRecorder()
		c.ServeHTTP(answer, httptest.NewRequest("PATCH", location, r))
		first <- answer.Code
	}()
	if _, err := w.Write([]byte("one")); err != nil { // the first is writing from now on
		t.Fatal(err)
	}
	for _, d := range []digest.Digest{digest.FromString("one"), digest.SHA512.FromString("one")} {
		if answer := c.finish(location, d, ""); answer.Code != 409 || storetest.ErrorCode(t, answer) != "BLOB_UPLOAD_INVALID" {
			t.Errorf("a second: %d %s", answer.Code, answer.Body)
		}
	}
	w.Close()
	if status := <-first; status != 202 {
		t.Errorf("the first: %d", status)
	}
}

func TestWhatIsNotSHA256IsKeptUnderItsOwnName(t *testing.T) {
	c := newClient(t, storetest.Folder(t), everybody())
	d := digest.SHA512.FromString("one two")
	for name, push := range map[string]func() *httptest.ResponseRecorder{
		"at once": func() *httptest.ResponseRecorder {
			return c.do("POST", "/v2/a/blobs/uploads/?digest="+d.String(), "one two")
		},
		"in one part":  func() *httptest.ResponseRecorder { return c.finish(c.session("b", "one two"), d, "") },
		"in two parts": func() *httptest.ResponseRecorder { return c.finish(c.session("c", "one "), d, "two") },
		"with a hint": func() *httptest.ResponseRecorder {
			location := c.must(202, "POST", "/v2/d/blobs/uploads/?digest-algorithm=sha512", "").Header().Get("Location")
			return c.finish(location, d, "one two")
		},
	} {
		w := push()
		if w.Code != 201 || w.Header().Get("Docker-Content-Digest") != d.String() {
			t.Fatalf("%s: %d %s %v", name, w.Code, w.Body, w.Header())
		}
		if got := c.must(200, "GET", w.Header().Get("Location"), ""); got.Body.String() != "one two" {
			t.Errorf("%s: served %q", name, got.Body)
		}
	}
	empty := digest.SHA512.FromString("")
	c.must(201, "POST", "/v2/a/blobs/uploads/?digest="+empty.String(), "")
	c.must(200, "GET", blobPath("a", empty), "")
}

func TestWhatWasUploadedIsWhatItIsCalled(t *testing.T) {
	c := newClient(t, storetest.Folder(t), everybody())
	for _, d := range []digest.Digest{digest.FromString("other"), digest.SHA512.FromString("other")} {
		location := c.session("a", "one")
		if w := c.finish(location, d, ""); w.Code != 400 || storetest.ErrorCode(t, w) != "DIGEST_INVALID" {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		c.must(404, "GET", location, "")
		c.must(404, "GET", blobPath("a", d), "")
		c.refused(400, "DIGEST_INVALID", "POST", "/v2/a/blobs/uploads/?digest="+d.String(), "one")
	}
	for _, text := range []string{"", "sha256:bad", digest.SHA384.FromString("one").String()} {
		if w := c.finish(c.session("a", "one"), digest.Digest(text), ""); w.Code != 400 || storetest.ErrorCode(t, w) != "DIGEST_INVALID" {
			t.Errorf("%q: %d %s", text, w.Code, w.Body)
		}
	}
}

func TestASessionGoesOnWhereItIs(t *testing.T) {
	c := newClient(t, storetest.Folder(t), everybody())
	d := digest.SHA512.FromString("one two")
	location := c.session("a", "one ")
	w := c.do("PUT", location+"&digest="+d.String(), "two", "Content-Range", "5-7")
	if w.Code != 416 || storetest.ErrorCode(t, w) != "RANGE_INVALID" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := c.finish(location, d, "two"); w.Code != 201 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	c.refused(404, "BLOB_UPLOAD_UNKNOWN", "PATCH", location, "more")
	for _, bad := range []string{"?", "?_state=forged"} {
		path, _, _ := strings.Cut(c.session("a", "one"), "?")
		for _, d := range []digest.Digest{digest.FromString("one"), digest.SHA512.FromString("one")} {
			c.refused(404, "BLOB_UPLOAD_INVALID", "PUT", path+bad+"&digest="+d.String(), "")
		}
	}
}

func TestABlobIsMountedOnlyFromWhereItMayBePulled(t *testing.T) {
	o := everybody()
	o.MayPull = func(_ *http.Request, repo string) bool { return repo != "secret" }
	for _, c := range []struct {
		name, from string
		holders    []string
		status     int
	}{
		{"from a repository that serves it", "b", []string{"b"}, 201},
		{"from one that may not be pulled from", "secret", []string{"secret"}, 202},
		{"from one that does not serve it", "b", []string{"c"}, 202},
		{"from none that is", "B", []string{"b"}, 202},
		{"from anywhere", "", []string{"deep/down/here"}, 201},
		{"from anywhere, and it is nowhere to be pulled", "", []string{"secret"}, 202},
		{"from anywhere, and it is here", "", []string{"a"}, 201},
	} {
		t.Run(c.name, func(t *testing.T) {
			cl := newClient(t, storetest.Folder(t), o)
			for _, repo := range c.holders {
				cl.blob(repo, "layer")
			}
			for _, d := range []digest.Digest{digest.FromString("layer")} {
				query := url.Values{"mount": {d.String()}}
				if c.from != "" {
					query.Set("from", c.from)
				}
				w := cl.must(c.status, "POST", "/v2/a/blobs/uploads/?"+query.Encode(), "")
				if c.status == 202 {
					cl.must(404, "GET", blobPath("a", d), "")
					continue
				}
				if got := cl.must(200, "GET", w.Header().Get("Location"), ""); got.Body.String() != "layer" || w.Header().Get("Docker-Content-Digest") != d.String() {
					t.Errorf("served %q", got.Body)
				}
			}
		})
	}
}

func TestAFormMountsNothing(t *testing.T) {
	o := everybody()
	o.MayPull = func(*http.Request, string) bool { return false }
	c := newClient(t, storetest.Folder(t), o)
	d := c.blob("secret", "layer").Digest
	c.must(202, "POST", "/v2/a/blobs/uploads/", "from=secret&mount="+d.String(), "Content-Type", "application/x-www-form-urlencoded")
	c.must(404, "GET", blobPath("a", d), "")
	c.refused(400, "DIGEST_INVALID", "POST", "/v2/a/blobs/uploads/?mount=sha256:bad&from=secret", "")
}

func TestAFormIsContentAndNothingElse(t *testing.T) {
	c := newClient(t, storetest.Folder(t), everybody())
	wide := digest.SHA512.FromString("one")
	w := c.do("PUT", c.session("a", "one")+"&digest="+digest.FromString("one").String(), "digest="+wide.String(), "Content-Type", "application/x-www-form-urlencoded")
	if w.Code != 400 || storetest.ErrorCode(t, w) != "DIGEST_INVALID" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	c.must(404, "GET", blobPath("a", wide), "")
}

func TestAManifestThatBreaksOffIsNotThere(t *testing.T) {
	c := newClient(t, storetest.Folder(t), everybody())
	d := c.image("a", "a")
	raw := d.raw()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := httptest.NewRequestWithContext(ctx, "PUT", "/v2/a/manifests/v1", io.MultiReader(strings.NewReader(raw), brokenOff{}))
	w := httptest.NewRecorder()
	c.ServeHTTP(w, r)
	if w.Code != 400 || storetest.ErrorCode(t, w) != "MANIFEST_INVALID" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	c.must(404, "GET", byDigest("a", d), "")
}

type brokenOff struct{}

func (brokenOff) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
