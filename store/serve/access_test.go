package serve

import (
	"bytes"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"lastro/store/serve/spec"
	"lastro/store/storetest"
)

// keeper lets nobody near what is secret, and notes what it was asked.
type keeper struct{ asked []string }

func (k *keeper) Allow(_ *http.Request, repo string, a spec.Action) error {
	k.asked = append(k.asked, string(a)+" "+repo)
	if strings.HasPrefix(repo, "secret") {
		return &spec.Refusal{Status: 401, Code: spec.Unauthorized, Message: "log in", Header: http.Header{"Www-Authenticate": {`Basic realm="x"`}}}
	}
	return nil
}

func (k *keeper) Visible(_ *http.Request, repo string) bool {
	return !strings.HasPrefix(repo, "secret")
}

func TestAccessIsAskedBeforeAnythingIsLookedAt(t *testing.T) {
	s := opened(t, storetest.Folder(t))
	m := storetest.New("a")
	m.MustPut(t, s, "secret/a", "v1")
	m.MustPut(t, s, "open", "v1")
	m.MustPut(t, s, "secret/b", "v1")
	k, pushed := &keeper{}, 0
	h := handler(t, s, Options{Access: k, Demand: &demand{t: t}, Push: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { pushed++ })})
	d := m.Root.Digest.String()
	for _, c := range []struct {
		method, path string
		want         string
		status       int
	}{
		{"GET", "/v2/", "pull ", 200},
		{"GET", "/v2/_catalog", "pull ", 200},
		{"GET", "/v2/open/tags/list", "pull open", 200},
		{"GET", "/v2/secret/a/manifests/v1", "pull secret/a", 401},
		{"HEAD", "/v2/secret/a/manifests/" + d, "pull secret/a", 401},
		{"GET", "/v2/secret/nothing/manifests/v1", "pull secret/nothing", 401},
		{"GET", "/v2/secret/a/tags/list", "pull secret/a", 401},
		{"GET", "/v2/secret/a/blobs/sha256:nonsense", "pull secret/a", 401},
		{"GET", "/v2/secret/a/referrers/" + d, "pull secret/a", 401},
		{"PUT", "/v2/secret/a/manifests/v1", "push secret/a", 401},
		{"POST", "/v2/secret/a/blobs/uploads/", "push secret/a", 401},
		{"GET", "/v2/secret/a/blobs/uploads/1", "push secret/a", 401},
		{"DELETE", "/v2/secret/a/manifests/v1", "delete secret/a", 401},
	} {
		k.asked = nil
		w := storetest.Ask(h, c.method, c.path)
		if w.Code != c.status || !slices.Equal(k.asked, []string{c.want}) {
			t.Errorf("%s %s: %d, asked %q", c.method, c.path, w.Code, k.asked)
		}
		if w.Code == 401 && w.Header().Get("Www-Authenticate") == "" {
			t.Errorf("%s %s: %v", c.method, c.path, w.Header())
		}
	}
	if pushed > 0 {
		t.Errorf("%d pushes came through", pushed)
	}
	if storetest.Ask(h, "PUT", "/v2/open/manifests/v1"); pushed != 1 {
		t.Errorf("%d pushes came through", pushed)
	}
}

func TestTheCatalogShowsWhatTheClientMaySee(t *testing.T) {
	s := opened(t, storetest.Folder(t))
	m := storetest.New("a")
	for _, repo := range []string{"a", "secret/a", "secret/b", "z"} {
		m.MustPut(t, s, repo, "v1")
	}
	// The ledger knows of a repository whose publication was cut short.
	if err := s.Ledger().RecordGraph(t.Context(), "cut/short", m.Manifests, nil); err != nil {
		t.Fatal(err)
	}
	h := handler(t, s, Options{Access: &keeper{}})
	for _, n := range []string{"", "?n=1", "?n=2"} {
		names, _ := follow(t, h, "/v2/_catalog"+n, "repositories")
		if diff := cmp.Diff([]string{"a", "z"}, names); diff != "" {
			t.Errorf("%s: %s", n, diff)
		}
	}
}

func TestNamesSayWhichRepositoryIsMeant(t *testing.T) {
	s := opened(t, storetest.Folder(t))
	m := storetest.New("a")
	m.MustPut(t, s, "docker.io/library/a", "v1")
	m.MustPut(t, s, "docker.io/library/a", "v2")
	for _, repo := range []string{"local"} {
		m.MustPut(t, s, repo, "v1")
	}
	h := handler(t, s, Options{Names: func(ns, name string) (string, bool) {
		switch {
		case ns == "docker.io":
			return "docker.io/" + name, true
		case ns != "":
			return "", false
		}
		return name, true
	}})
	root := m.Root.Digest.String()
	for _, c := range []struct {
		path   string
		status int
		code   string
	}{
		{"/v2/library/a/manifests/v1?ns=docker.io", 200, ""},
		{"/v2/library/a/manifests/v1?x=1&ns=docker%2Eio", 200, ""},
		{"/v2/library/a/blobs/" + digest.FromString("shared").String() + "?ns=docker.io", 200, ""},
		{"/v2/library/a/referrers/" + root + "?ns=docker.io", 200, ""},
		{"/v2/local/manifests/v1", 200, ""},
		{"/v2/library/a/manifests/v1", 404, spec.ManifestUnknown},
		{"/v2/library/a/manifests/v1?ns=quay.io", 404, spec.NameUnknown},
		{"/v2/local/tags/list?ns=quay.io", 404, spec.NameUnknown},
		{"/v2/local/blobs/" + root + "?ns=quay.io", 404, spec.NameUnknown},
	} {
		w := storetest.Ask(h, "GET", c.path)
		if w.Code != c.status || c.code != "" && storetest.ErrorCode(t, w) != c.code {
			t.Errorf("%s: %d %s", c.path, w.Code, w.Body)
		}
	}
	w := storetest.Ask(h, "GET", "/v2/library/a/tags/list?ns=docker.io&n=1")
	if body := w.Body.String(); body != `{"name":"library/a","tags":["v1"]}`+"\n" {
		t.Errorf("the list is under another name than was asked for: %s", body)
	}
	if link := w.Header().Get("Link"); link != `</v2/library/a/tags/list?last=v1&n=1&ns=docker.io>; rel="next"` {
		t.Errorf("the next page is %s", link)
	}
}

func TestAPanicBecomesAnAnswerOrABrokenConnection(t *testing.T) {
	var log bytes.Buffer
	o := Options{Log: slog.New(slog.NewTextHandler(&log, nil)), Names: func(_, name string) (string, bool) {
		if name == "early" {
			panic("nil platform")
		}
		return name, true
	}}
	o.Push = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte("half"))
		panic("nil platform")
	})
	h := handler(t, opened(t, storetest.Folder(t)), o)
	w := storetest.Ask(h, "GET", "/v2/early/manifests/v1")
	if w.Code != 500 || storetest.ErrorCode(t, w) != "UNKNOWN" || !strings.Contains(log.String(), "nil platform") || strings.Contains(w.Body.String(), "platform") {
		t.Errorf("got %d %q, log %q", w.Code, w.Body, log.String())
	}
	defer func() {
		if p := recover(); p != http.ErrAbortHandler {
			t.Errorf("a panic after the answer began ends with %v", p)
		}
	}()
	storetest.Ask(h, "PUT", "/v2/late/manifests/v1")
}
