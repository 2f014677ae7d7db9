package serve

import (
	"fmt"
	"testing"

	"github.com/opencontainers/go-digest"

	"lastro/store/layout"
	"lastro/store/storetest"
)

func TestMemoryIsBoundedAndKeepsWhatIsAskedFor(t *testing.T) {
	var m memory
	named := func(name string) *manifest {
		return &manifest{raw: make([]byte, 1<<20), digest: digest.FromString(name)}
	}
	often := named("often")
	m.put(often)
	for i := range 200 {
		m.put(named(fmt.Sprint(i)))
		if _, ok := m.get(often.digest); !ok {
			t.Fatalf("what is asked for all the time went after %d others", i)
		}
		size := 0
		for _, half := range []map[digest.Digest]*manifest{m.young, m.old} {
			for _, one := range half {
				size += len(one.raw)
			}
		}
		if size > memorySize {
			t.Fatalf("%d bytes after %d", size, i)
		}
	}
	if _, ok := m.get(digest.FromString("0")); ok {
		t.Error("what nobody asked for stayed")
	}
	if _, ok := m.get(digest.FromString("199")); !ok {
		t.Error("the newest went")
	}
	large := &manifest{raw: make([]byte, memoryMost+1), digest: digest.FromString("large")}
	m.put(large)
	if _, ok := m.get(large.digest); ok {
		t.Error("one that is too large is kept")
	}
}

func TestARememberedManifestIsServedByWhoServesIt(t *testing.T) {
	s := opened(t, storetest.Folder(t))
	m := storetest.New("a")
	m.MustPut(t, s, "a", "v1")
	storetest.New("b").MustPut(t, s, "b", "v1")
	h := handler(t, s, Options{})
	root := m.Root.Digest.String()
	for range 2 {
		if w := storetest.Ask(h, "GET", "/v2/a/manifests/"+root); w.Code != 200 {
			t.Fatalf("got %d", w.Code)
		}
		if w := storetest.Ask(h, "GET", "/v2/b/manifests/"+root); w.Code != 404 {
			t.Errorf("a repository that does not serve it: %d", w.Code)
		}
	}
}

func TestAManifestIsReadAndVerifiedOnce(t *testing.T) {
	s := opened(t, storetest.Folder(t))
	m := storetest.New("a")
	m.MustPut(t, s, "a", "v1")
	h := handler(t, s, Options{})
	for range 2 {
		if w := storetest.Ask(h, "GET", "/v2/a/manifests/v1"); w.Code != 200 || w.Body.String() != string(m.Content[m.Root.Digest]) {
			t.Errorf("got %d", w.Code)
		}
		// What was verified is served still.
		if err := s.Driver().PutContent(t.Context(), "/"+layout.Data(m.Root.Digest), []byte("damaged")); err != nil {
			t.Fatal(err)
		}
	}
}
