package upstream

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestChallengesAreRead(t *testing.T) {
	for _, c := range []struct {
		name   string
		header []string
		want   []challenge
	}{
		{"Docker Hub's", []string{`Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/alpine:pull"`},
			[]challenge{{"bearer", map[string]string{"realm": "https://auth.docker.io/token", "service": "registry.docker.io", "scope": "repository:library/alpine:pull"}}}},
		{"two in one header", []string{`Basic realm="a, b", Bearer realm=https://t.test/x, service=s`},
			[]challenge{{"basic", map[string]string{"realm": "a, b"}}, {"bearer", map[string]string{"realm": "https://t.test/x", "service": "s"}}}},
		{"two headers", []string{`Negotiate`, `BASIC realm="q\"uote"`},
			[]challenge{{"negotiate", map[string]string{}}, {"basic", map[string]string{"realm": `q"uote`}}}},
		{"the first of two values stands", []string{`Bearer realm="a", Realm="b"`}, []challenge{{"bearer", map[string]string{"realm": "a"}}}},
		{"spaces around the equals sign", []string{`Bearer realm = "a"`}, []challenge{{"bearer", map[string]string{"realm": "a"}}}},
		{"no closing quote", []string{`Bearer realm="a`}, []challenge{{"bearer", map[string]string{"realm": "a"}}}},
		{"a parameter of nothing", []string{`="x"`, `a=b`}, nil},
		{"nothing", nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, parseChallenges(c.header), cmp.AllowUnexported(challenge{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLinksAreRead(t *testing.T) {
	for header, want := range map[string]string{
		`</v2/a/tags/list?last=b&n=2>; rel="next"`:               "/v2/a/tags/list?last=b&n=2",
		`</x>; rel=prev, </y>;title="a, <b>" ; REL="first NEXT"`: "/y",
		`<https://a.test/v2/_catalog?last=z>;rel=next`:           "https://a.test/v2/_catalog?last=z",
		`</x>; rel="prev"`:               "",
		`</x`:                            "",
		`/x; rel="next"`:                 "",
		`</x>; nexthop=1; rel="nextish"`: "",
		``:                               "",
	} {
		if got, ok := nextLink([]string{header}); got != want || ok != (want != "") {
			t.Errorf("%s: got %q, want %q", header, got, want)
		}
	}
}

func TestContentRangesAreRead(t *testing.T) {
	for text, want := range map[string]contentRange{
		"bytes 5-9/10":  {5, 9, 10},
		"BYTES 5-9/10":  {5, 9, 10},
		"bytes 5-9/*":   {5, 9, -1},
		"bytes */10":    {-1, -1, 10},
		"bytes 5-9":     {},
		"bytes 9-5/10":  {},
		"bytes 5-10/10": {},
		"bytes +5-9/10": {},
		"bytes */*":     {},
		"bytes -5/10":   {},
		"items 5-9/10":  {},
		"":              {},
	} {
		if got, ok := parseContentRange(text); ok != (want != contentRange{}) || ok && got != want {
			t.Errorf("%q: got %v, %v", text, got, ok)
		}
	}
}

func FuzzChallenges(f *testing.F) {
	f.Add(`Bearer realm="https://a.test",scope="x:y:z"`)
	f.Add(`Basic realm="a\"", Negotiate abc==`)
	f.Fuzz(func(t *testing.T, text string) {
		for _, c := range parseChallenges([]string{text}) {
			if c.scheme == "" || c.scheme != strings.ToLower(c.scheme) {
				t.Errorf("scheme %q", c.scheme)
			}
		}
	})
}

func FuzzLink(f *testing.F) {
	f.Add(`</x>; rel=prev, </y>; title="a, <b>"; rel="next"`)
	f.Fuzz(func(t *testing.T, text string) {
		if target, ok := nextLink([]string{text}); ok && !strings.Contains(text, "<"+target+">") {
			t.Errorf("%q is not a target of %q", target, text)
		}
	})
}

func FuzzContentRange(f *testing.F) {
	f.Add("bytes 5-9/10")
	f.Fuzz(func(t *testing.T, text string) {
		got, ok := parseContentRange(text)
		if ok && got.first >= 0 && (got.last < got.first || got.total >= 0 && got.last >= got.total) {
			t.Errorf("%q: %v", text, got)
		}
	})
}

func FuzzDetail(f *testing.F) {
	f.Add("application/json", []byte(`{"errors":[{"code":"DENIED","message":"no\u001b[31m"}]}`))
	f.Fuzz(func(t *testing.T, kind string, raw []byte) {
		text := plain(detail(http.Header{"Content-Type": {kind}}, raw))
		if strings.ContainsAny(text, "\n\r\x1b\x00") || len([]rune(text)) > maxDetail+1 {
			t.Errorf("%q", text)
		}
	})
}
