package field

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestChallengesAreRead(t *testing.T) {
	for _, c := range []struct {
		name   string
		header []string
		want   []Challenge
	}{
		{"Docker Hub's", []string{`Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/alpine:pull"`},
			[]Challenge{{"bearer", map[string]string{"realm": "https://auth.docker.io/token", "service": "registry.docker.io", "scope": "repository:library/alpine:pull"}}}},
		{"two in one header", []string{`Basic realm="a, b", Bearer realm=https://t.test/x, service=s`},
			[]Challenge{{"basic", map[string]string{"realm": "a, b"}}, {"bearer", map[string]string{"realm": "https://t.test/x", "service": "s"}}}},
		{"two headers", []string{`Negotiate`, `BASIC realm="q\"uote"`},
			[]Challenge{{"negotiate", map[string]string{}}, {"basic", map[string]string{"realm": `q"uote`}}}},
		{"the first of two values stands", []string{`Bearer realm="a", Realm="b"`}, []Challenge{{"bearer", map[string]string{"realm": "a"}}}},
		{"spaces around the equals sign", []string{`Bearer realm = "a"`}, []Challenge{{"bearer", map[string]string{"realm": "a"}}}},
		{"no closing quote", []string{`Bearer realm="a`}, []Challenge{{"bearer", map[string]string{"realm": "a"}}}},
		{"a parameter of nothing", []string{`="x"`, `a=b`}, nil},
		{"nothing", nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, Challenges(c.header)); diff != "" {
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
		if got, ok := NextLink([]string{header}); got != want || ok != (want != "") {
			t.Errorf("%s: got %q, want %q", header, got, want)
		}
	}
}

func TestContentRangesAreRead(t *testing.T) {
	for text, want := range map[string]Range{
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
		if got, ok := ContentRange(text); ok != (want != Range{}) || ok && got != want {
			t.Errorf("%q: got %v, %v", text, got, ok)
		}
	}
}

func FuzzChallenges(f *testing.F) {
	f.Add(`Bearer realm="https://a.test",scope="x:y:z"`)
	f.Add(`Basic realm="a\"", Negotiate abc==`)
	f.Fuzz(func(t *testing.T, text string) {
		for _, c := range Challenges([]string{text}) {
			if c.Scheme == "" || c.Scheme != strings.ToLower(c.Scheme) {
				t.Errorf("scheme %q", c.Scheme)
			}
		}
	})
}

func FuzzLink(f *testing.F) {
	f.Add(`<https://a.test/x?page=2>; rel="next", <https://a.test/x?page=9>; rel="last"`)
	f.Add(`<a>; rel="next`)
	f.Add(`</x>; rel=prev, </y>; title="a, <b>"; rel="next"`)
	f.Fuzz(func(t *testing.T, text string) {
		if target, ok := NextLink([]string{text}); ok && !strings.Contains(text, "<"+target+">") {
			t.Errorf("%q is not a target of %q", target, text)
		}
	})
}

func FuzzContentRange(f *testing.F) {
	f.Add("bytes 5-9/10")
	f.Fuzz(func(t *testing.T, text string) {
		got, ok := ContentRange(text)
		if ok && got.First >= 0 && (got.Last < got.First || got.Total >= 0 && got.Last >= got.Total) {
			t.Errorf("%q: %v", text, got)
		}
	})
}
