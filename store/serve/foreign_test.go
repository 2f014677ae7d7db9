package serve

import (
	"testing"

	"github.com/opencontainers/go-digest"

	"lastro/store/storetest"
)

// TestARepositoryServesWhatIsItsOwn asks one repository for what another one
// serves, which is held, and remembered since it was asked for.
func TestARepositoryServesWhatIsItsOwn(t *testing.T) {
	s := opened(t, storetest.Folder(t))
	storetest.New("a").MustPut(t, s, "open", "v1")
	secret := storetest.New("b")
	secret.MustPut(t, s, "secret", "v1")
	h := handler(t, s, Options{})
	for _, path := range []string{
		"/manifests/" + secret.Root.Digest.String(),
		"/manifests/" + secret.Manifests[0].Descriptor.Digest.String(),
		"/blobs/" + digest.FromString("layer of b-amd64").String(),
	} {
		for _, method := range []string{"GET", "HEAD"} {
			if w := storetest.Ask(h, method, "/v2/secret"+path); w.Code != 200 {
				t.Errorf("%s %s: %d where it is", method, path, w.Code)
			}
			if w := storetest.Ask(h, method, "/v2/open"+path); w.Code != 404 || w.Header().Get("Content-Length") != "" || w.Header().Get("Etag") != "" {
				t.Errorf("%s %s: %d %v where it is not", method, path, w.Code, w.Header())
			}
			if w := storetest.Ask(h, method, "/v2/open"+path, "Range", "bytes=0-1", "If-None-Match", "*"); w.Code != 404 {
				t.Errorf("%s %s: %d on a condition where it is not", method, path, w.Code)
			}
		}
	}
	if others := index(t, h, "/v2/open/referrers/"+secret.Root.Digest.String()).Manifests; len(others) > 0 {
		t.Errorf("referrers of another repository: %+v", others)
	}
}
