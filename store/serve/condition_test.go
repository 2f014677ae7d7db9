package serve

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"lastro/store/storetest"
)

func TestConditions(t *testing.T) {
	d := digest.FromString("a").String()
	tag, other := `"`+d+`"`, `"`+digest.FromString("b").String()+`"`
	for _, c := range []struct {
		name string
		h    http.Header
		want int
	}{
		{"none", nil, 0},
		{"the tag", http.Header{"If-None-Match": {tag}}, 304},
		{"the tag without quotes", http.Header{"If-None-Match": {d}}, 304},
		{"a weak tag", http.Header{"If-None-Match": {"W/" + tag}}, 304},
		{"any", http.Header{"If-None-Match": {"*"}}, 304},
		{"another", http.Header{"If-None-Match": {other}}, 0},
		{"a list", http.Header{"If-None-Match": {other + ",\t" + tag}}, 304},
		{"two lines", http.Header{"If-None-Match": {other, tag}}, 304},
		{"nothing", http.Header{"If-None-Match": {""}}, 0},
		{"a match", http.Header{"If-Match": {other + ", " + tag}}, 0},
		{"a match of any", http.Header{"If-Match": {"*"}}, 0},
		{"a weak match", http.Header{"If-Match": {"W/" + tag}}, 412},
		{"no match", http.Header{"If-Match": {other}}, 412},
		{"no match comes first", http.Header{"If-Match": {other}, "If-None-Match": {tag}}, 412},
		{"both", http.Header{"If-Match": {tag}, "If-None-Match": {tag}}, 304},
	} {
		if got := precondition(c.h, tag); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

func TestARangeHoldsOnlyForTheContentThatTheClientHas(t *testing.T) {
	s := opened(t, storetest.Folder(t))
	m := storetest.New("a")
	m.MustPut(t, s, "a", "v1")
	h := handler(t, s, Options{})
	d := digest.FromString("shared").String()
	for _, c := range []struct {
		name, ifRange string
		status        int
	}{
		{"the same", `"` + d + `"`, 206},
		{"the same without quotes", d, 206},
		{"another", `"sha256:x"`, 200},
		{"a weak tag", `W/"` + d + `"`, 200},
	} {
		w := storetest.Ask(h, "GET", "/v2/a/blobs/"+d, "Range", "bytes=1-2", "If-Range", c.ifRange)
		if w.Code != c.status {
			t.Errorf("%s: %d", c.name, w.Code)
		}
	}
	if w := storetest.Ask(h, "GET", "/v2/a/blobs/"+d, "If-Match", `"x"`); w.Code != 412 {
		t.Errorf("a match that fails: %d", w.Code)
	}
	if w := storetest.Ask(h, "GET", "/v2/a/manifests/v1", "Range", "bytes=1-2"); w.Code != 200 {
		t.Errorf("a range of a manifest: %d", w.Code)
	}
}

func FuzzParam(f *testing.F) {
	for _, raw := range []string{"", "ns=docker.io", "n=1&ns=a%2Fb+c&last=x", "ns", "&&ns=%zz&ns=1", "a=ns=1"} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		values, err := url.ParseQuery(raw)
		names, _, _ := strings.Cut(raw, "=")
		if err != nil || strings.Count(raw, "=") > 1 && strings.Contains(raw, "%") || strings.Contains(names, "%") {
			return // a name that is not written plainly is not looked for
		}
		r := &http.Request{URL: &url.URL{RawQuery: raw}}
		if got := param(r, "ns"); got != values.Get("ns") {
			t.Errorf("%q: %q, want %q", raw, got, values.Get("ns"))
		}
	})
}
