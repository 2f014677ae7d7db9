package push

import (
	"errors"
	"io"
	"io/fs"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"lastro/store/storetest"
)

// aged lets a session look as if nobody had written to it for a week.
func aged(t *testing.T, folder string) {
	t.Helper()
	weekAgo := time.Now().Add(-sessionAge - time.Hour)
	if err := errors.Join(os.Chtimes(folder+"/data", weekAgo, weekAgo), os.Chtimes(folder, weekAgo, weekAgo)); err != nil {
		t.Fatal(err)
	}
}

func (c *client) purge(want int) {
	c.Helper()
	if n, err := c.pushes.Purge(c.Context()); err != nil || n != want {
		c.Errorf("%d purged, %v, want %d", n, err, want)
	}
}

func TestAnUploadThatNobodyWroteToForAWeekIsRemoved(t *testing.T) {
	dir := storetest.Folder(t)
	c := newClient(t, dir, everybody())
	old := c.session("a", "old")
	folder := sessionFolder(t, dir, "a")
	aged(t, folder)
	young := c.session("b", "young")
	c.purge(1)
	c.must(404, "GET", old, "")
	c.must(204, "GET", young, "")
	if _, err := os.Stat(folder); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder is there: %v", err)
	}
	// One whose folder is old and that was written to since stays.
	weekAgo := time.Now().Add(-sessionAge - time.Hour)
	if err := os.Chtimes(sessionFolder(t, dir, "b"), weekAgo, weekAgo); err != nil {
		t.Fatal(err)
	}
	c.purge(0)
	c.must(204, "GET", young, "")
}

func TestAnUploadThatIsBeingWrittenToIsNotRemoved(t *testing.T) {
	for _, c := range []struct {
		name string
		path func(c *client) (method, target string)
		ends int
	}{
		{"of a session", func(c *client) (string, string) {
			return "PATCH", c.must(202, "POST", "/v2/a/blobs/uploads/", "").Header().Get("Location")
		}, 202},
		{"at once", func(*client) (string, string) {
			return "POST", "/v2/a/blobs/uploads/?digest=" + digest.FromString("one").String()
		}, 201},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := storetest.Folder(t)
			cl := newClient(t, dir, everybody())
			method, target := c.path(cl)
			r, w := io.Pipe()
			ended := make(chan *httptest.ResponseRecorder)
			go func() {
				answer := httptest.NewRecorder()
				cl.ServeHTTP(answer, httptest.NewRequest(method, target, r))
				ended <- answer
			}()
			if _, err := w.Write([]byte("one")); err != nil { // it is being written to from now on
				t.Fatal(err)
			}
			aged(t, sessionFolder(t, dir, "a"))
			cl.purge(0)
			w.Close()
			if answer := <-ended; answer.Code != c.ends {
				t.Errorf("%d %s", answer.Code, answer.Body)
			}
			if method == "PATCH" {
				aged(t, sessionFolder(t, dir, "a"))
				cl.purge(1)
			}
		})
	}
}
