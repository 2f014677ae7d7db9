package push

import (
	"net/http"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"lastro/store"
	"lastro/store/collect"
	"lastro/store/storetest"
)

// TestABlobThatIsUploadedWhileItIsCondemnedStaysForAGraceAndThenGoes is about what
// is told by 201.
func TestABlobThatIsUploadedWhileItIsCondemnedStaysForAGraceAndThenGoes(t *testing.T) {
	const content, grace = "layer of one", 24 * time.Hour
	d := digest.FromString(content)
	to := "/v2/a/blobs/uploads/"
	for name, upload := range map[string]func(c *client){
		"at once": func(c *client) { c.blob("a", content) },
		"in a session": func(c *client) {
			at := c.must(202, "POST", to, "").Header().Get("Location")
			c.must(201, "PUT", at+"&digest="+d.String(), content)
		},
		"in parts": func(c *client) {
			at := c.must(202, "POST", to, "").Header().Get("Location")
			at = c.must(202, "PATCH", at, content).Header().Get("Location")
			c.must(201, "PUT", at+"&digest="+d.String(), "")
		},
		"by a mount": func(c *client) { c.must(201, "POST", to+"?mount="+d.String()+"&from=a", "") },
	} {
		t.Run(name, func(t *testing.T) {
			now := storetest.Now()
			clock := func() time.Time { return now }
			s, err := store.Open(storetest.Folder(t), store.Options{Now: clock})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			c := clientOf(t, s, everybody())
			after := func(passed time.Duration) {
				t.Helper()
				now = now.Add(passed)
				r, err := collect.Run(t.Context(), s, collect.Options{Grace: grace, Undo: grace, Now: clock})
				if err != nil || r.KeptByDoubt > 0 {
					t.Fatal(err, r.Problems)
				}
			}
			after(0)
			c.push("a", "v1", "one")
			c.must(http.StatusAccepted, "DELETE", "/v2/a/manifests/v1", "")
			after(0)
			now = now.Add(grace - time.Minute)
			upload(c)
			after(2 * time.Minute) // all else goes
			after(grace - 3*time.Minute)
			c.must(200, "GET", blobPath("a", d), "")
			now = now.Add(grace)
			after(0)
			after(grace)
			after(grace)
			c.must(404, "GET", blobPath("a", d), "")
			if left, err := s.Stock(t.Context()); err != nil || left.Blobs > 0 {
				t.Errorf("left: %+v %v", left, err)
			}
		})
	}
}
