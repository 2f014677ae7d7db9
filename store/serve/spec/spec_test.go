package spec

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestAPathIsReadFromItsEnd(t *testing.T) {
	d := digest.FromString("a").String()
	for path, want := range map[string]Request{
		"/v2":                                  {Kind: Base},
		"/v2/":                                 {Kind: Base},
		"/v2/_catalog":                         {Kind: Catalog},
		"/v2/a/tags/list":                      {Tags, "a", ""},
		"/v2/a/manifests/tags/list":            {Tags, "a/manifests", ""},
		"/v2/a/b/manifests/v1":                 {Manifests, "a/b", "v1"},
		"/v2/manifests/manifests/manifests":    {Manifests, "manifests", "manifests"},
		"/v2/a/manifests/" + d:                 {Manifests, "a", d},
		"/v2/a/blobs/" + d:                     {Blobs, "a", d},
		"/v2/a/blobs/uploads":                  {Uploads, "a", ""},
		"/v2/a/blobs/uploads/":                 {Uploads, "a", ""},
		"/v2/a/blobs/uploads/0-1":              {Uploads, "a", "0-1"},
		"/v2/blobs/uploads/blobs/uploads/0":    {Uploads, "blobs/uploads", "0"},
		"/v2/a/blobs/uploads/manifests/latest": {Manifests, "a/blobs/uploads", "latest"},
		"/v2/a/referrers/" + d:                 {Referrers, "a", d},
	} {
		if got, ok := Parse(path); !ok || got != want {
			t.Errorf("%s: %+v %v, want %+v", path, got, ok, want)
		}
	}
	for _, path := range []string{"", "/", "/v1/a/manifests/b", "/v2x", "/v2/a", "/v2/a/b", "/v2/a/b/c", "/v2/manifests/a", "/v2/a/uploads/b", "v2/a/manifests/b"} {
		if got, ok := Parse(path); ok {
			t.Errorf("%s: %+v", path, got)
		}
	}
}

func TestNamesAndDigestsAreChecked(t *testing.T) {
	for q, code := range map[Request]string{
		{Kind: Base}:             "",
		{Kind: Catalog}:          "",
		{Blobs, "a/b", "x"}:      "",
		{Blobs, "A", "x"}:        NameInvalid,
		{Manifests, "", "x"}:     NameInvalid,
		{Manifests, "../a", "x"}: NameInvalid,
	} {
		refused, _ := q.Check().(*Refusal)
		if (refused == nil) != (code == "") || refused != nil && refused.Code != code {
			t.Errorf("%+v: %+v", q, refused)
		}
	}
	for ref, valid := range map[string]bool{
		digest.FromString("a").String(): true, digest.SHA512.FromString("a").String(): true,
		"sha256:a": false, "a": false, "": false, "md5:" + strings.Repeat("a", 32): false,
	} {
		if _, err := (Request{Ref: ref}).Digest(); (err == nil) != valid {
			t.Errorf("%q: %v", ref, err)
		}
	}
}

func TestARequestSaysWhatItWantsToDo(t *testing.T) {
	for _, c := range []struct {
		method string
		kind   Kind
		want   Action
	}{
		{"GET", Manifests, Pull}, {"HEAD", Blobs, Pull}, {"GET", Base, Pull}, {"GET", Referrers, Pull},
		{"PUT", Manifests, Push}, {"POST", Uploads, Push}, {"GET", Uploads, Push}, {"DELETE", Uploads, Push},
		{"DELETE", Manifests, Delete}, {"DELETE", Blobs, Delete}, {"OPTIONS", Manifests, Push},
	} {
		if got := (Request{Kind: c.kind}).Action(c.method); got != c.want {
			t.Errorf("%s of %s: %s, want %s", c.method, c.kind, got, c.want)
		}
	}
}

func TestARefusalIsAnAnswer(t *testing.T) {
	w := httptest.NewRecorder()
	(&Refusal{Status: 503, Code: Unavailable, Message: `say "when"`, Header: http.Header{"Retry-After": {"3"}}}).Write(w)
	if w.Code != 503 || w.Body.String() != `{"errors":[{"code":"UNAVAILABLE","message":"say \"when\""}]}`+"\n" || w.Header().Get("Retry-After") != "3" || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("/v2/a/manifests/b")
	f.Fuzz(func(t *testing.T, path string) {
		q, ok := Parse(path)
		if ok && q.Kind != Base && q.Kind != Catalog && !strings.HasPrefix(path, "/v2/"+q.Repo+"/") {
			t.Errorf("%q: %+v", path, q)
		}
	})
}
