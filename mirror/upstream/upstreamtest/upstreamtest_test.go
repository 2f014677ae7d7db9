package upstreamtest_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	. "lastro/mirror/upstream/upstreamtest"
)

var (
	content = bytes.Repeat([]byte("ballast!"), 2000)
	name    = digest.FromBytes(content)
	blob    = "/v2/app/blobs/" + name.String()
)

// registry has one blob, four tags, and one manifest for each of them.
func registry(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == blob:
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	case r.URL.Path == "/v2/app/tags/list":
		_, _ = io.WriteString(w, `{"name":"app","tags":["a","b","c","d"]}`)
	default:
		_, _ = io.WriteString(w, r.URL.Path)
	}
}

// ask sends one request without redirects and says what came.
func ask(t *testing.T, n *Net, method, url string, header http.Header) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if header != nil {
		req.Header = header
	}
	transport := &http.Transport{DialContext: n.Dial, DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return "no answer"
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	said := []string{fmt.Sprint(resp.StatusCode)}
	for _, h := range []string{"Location", "Retry-After", "Ratelimit-Remaining", "Www-Authenticate", "Content-Range", "Link"} {
		if v := resp.Header.Get(h); v != "" {
			said = append(said, h+": "+v)
		}
	}
	switch {
	case len(body) > 100:
		said = append(said, fmt.Sprintf("%d of %d bytes", len(body), resp.ContentLength))
		if resp.StatusCode == http.StatusOK && !bytes.HasPrefix(content, body[:min(len(body), len(content))]) {
			said = append(said, "wrong ones")
		}
	case len(body) > 0:
		said = append(said, strings.TrimSpace(string(body)))
	}
	if err != nil {
		said = append(said, "broken off")
	}
	return strings.Join(said, " ")
}

func TestEachFaultIsWhatItSays(t *testing.T) {
	first := Blobs(First(1))
	part := http.Header{"Range": {"bytes=1000-15999"}}
	const whole, tags = "200 16000 of 16000 bytes", "/v2/app/tags/list"
	for _, tt := range []struct {
		name   string
		fault  Fault
		path   string
		header http.Header
		want   []string // of one request after the other
	}{
		{"none", func(h http.Handler) http.Handler { return h }, blob, nil, []string{whole}},
		{"cut", CutAt(first, 500), blob, nil, []string{"200 500 of 16000 bytes broken off", whole}},
		{"cut before the first byte", CutAt(first, 0), blob, nil, []string{"200 broken off", whole}},
		{"cut behind the end", CutAt(first, 16000), blob, nil, []string{whole}},
		{"drip", Drip(first, 100, time.Second), blob, nil, []string{whole}},
		{"stall", Stall(first, 500), blob, nil, []string{"200 500 of 16000 bytes broken off", whole}},
		{"silence", Silent(first), blob, nil, []string{"no answer", whole}},
		{"no range", NoRange(first), blob, part, []string{whole, "206 Content-Range: bytes 1000-15999/16000 15000 of 15000 bytes"}},
		{"another range", OtherRange(first, -100), blob, part, []string{"206 Content-Range: bytes 900-15999/16000 15100 of 15100 bytes"}},
		{"another range than none", OtherRange(first, -100), blob, nil, []string{whole}},
		{"a refused range", RefusedRange(first), blob, part, []string{`416 {"errors":[{"code":"RANGE_INVALID","message":"invalid content range"}]}`}},
		{"a redirect loop", RedirectLoop(first), blob, nil, []string{"307 Location: " + blob + "?hop=1"}},
		{"429", TooMany(Strike{}, RetryAfterSeconds(90*time.Second), RateLimit(100, 7, time.Minute)), blob, nil, []string{"429 Retry-After: 90 Ratelimit-Remaining: 7;w=60"}},
		{"429 with a date", TooMany(Strike{}, RetryAfterDate(90*time.Second)), blob, nil, []string{"429 Retry-After: Sat, 01 Jan 2000 00:01:30 GMT"}},
		{"503", Unavailable(first), blob, nil, []string{"503 upstream connect error", whole}},
		{"404", Vanishing(first), blob, nil, []string{"404", whole}},
		{"a login page", HTMLPage(first), blob, nil, []string{"200 <!doctype html>"}},
		{"too long a length", LyingLength(first, 10), blob, nil, []string{"200 16000 of 16010 bytes broken off", whole}},
		{"too short a length", LyingLength(first, -10), blob, nil, []string{"200 15990 of 15990 bytes", whole}},
		{"a longer body", OtherLength(first, 10), blob, nil, []string{"200 16010 of 16010 bytes", whole}},
		{"a shorter body", OtherLength(first, -10), blob, nil, []string{"200 15990 of 15990 bytes", whole}},
		{"wrong bytes", WrongBytes(first), blob, nil, []string{whole + " wrong ones", whole}},
		{"tokens", ExpiringTokens(time.Minute), blob, nil, []string{`401 Www-Authenticate: Bearer realm="http://reg.test/token",service="registry"`}},
		{"a token", ExpiringTokens(time.Minute), "/token", nil, []string{`200 {"token":"token-1","expires_in":3600}`, `200 {"token":"token-2"`}},
		{"repeating pages", RepeatingPages(2), tags + "?page=1", nil, []string{`200 Link: </v2/app/tags/list?page=2>; rel="next" {"name":"app","tags":["a","b"]}`}},
		{"reordered pages", ReorderedPages(2), tags, nil, []string{`200 Link: </v2/app/tags/list?page=1>; rel="next" {"name":"app","tags":["d","c"]}`}},
		{"circling pages", CirclingPages(2), tags + "?page=1", nil, []string{`200 Link: </v2/app/tags/list?page=0>; rel="next" {"name":"app","tags":["c","d"]}`}},
		{"a moving tag", MovingTag(Manifests(From(2)), "b"), "/v2/app/manifests/a", nil, []string{"200 /v2/app/manifests/a", "200 /v2/app/manifests/b"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var n Net
				defer n.Close()
				n.Serve("reg.test", With(http.HandlerFunc(registry), tt.fault))
				for _, want := range tt.want {
					if got := ask(t, &n, http.MethodGet, "reg.test"+tt.path, tt.header.Clone()); !strings.HasPrefix(got, want) || want == whole && got != whole {
						t.Errorf("got %q, want %q", got, want)
					}
				}
			})
		})
	}
}

func TestAnAddressAtTheCDNIsGoodForOneRequestWithoutCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n Net
		defer n.Close()
		leaks := 0
		e := &Elsewhere{Host: "cdn.test", Leaked: func(string) { leaks++ }}
		n.Serve("reg.test", With(http.HandlerFunc(registry), e.Redirect(Blobs(nil))))
		n.Serve("cdn.test", e.Handler(http.HandlerFunc(registry)))
		for i := 1; i < 3; i++ {
			at := fmt.Sprintf("cdn.test/edge-%d%s?signature=%d", i, blob, i)
			if got := ask(t, &n, http.MethodGet, "reg.test"+blob, nil); !strings.HasPrefix(got, "307 Location: http://"+at) {
				t.Errorf("got %q", got)
			}
			if got := ask(t, &n, http.MethodGet, at, http.Header{"Authorization": {"Bearer x"}}); got != "200 16000 of 16000 bytes" {
				t.Errorf("got %q", got)
			}
			if got := ask(t, &n, http.MethodGet, at, nil); !strings.HasPrefix(got, "403") {
				t.Errorf("got %q of an address that was used", got)
			}
		}
		if leaks != 2 {
			t.Errorf("%d leaks were seen, want 2", leaks)
		}
	})
}

func TestTheTallySaysWhatWentOutAndHowMuchOfItInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n Net
		defer n.Close()
		var tally Tally
		n.Serve("reg.test", tally.Count(With(http.HandlerFunc(registry), CutAt(Blobs(First(2)), 500), Vanishing(Blobs(Only(4))), WrongBytes(Blobs(Only(3))))))
		for range 5 {
			ask(t, &n, http.MethodGet, "reg.test"+blob, nil)
		}
		ask(t, &n, http.MethodHead, "reg.test"+blob, nil)
		synctest.Wait()
		if got, want := tally.Sent(name), (Sent{Bytes: 500 + 500 + 16000 + 16000, Cuts: 2, Spoilt: 1}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if got := tally.Requests().Count("", ""); got != 6 {
			t.Errorf("got %d requests, want 6", got)
		}
	})
}

func TestAHostIsFoundOrNotAsTheScheduleSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n Net
		defer n.Close()
		n.Serve("reg.test", http.HandlerFunc(registry))
		dial, found := FlappingDNS(n.Dial, Every(2)), ""
		for range 6 {
			if c, err := dial(t.Context(), "tcp", "reg.test:80"); err == nil {
				found += "y"
				c.Close()
			} else {
				found += "n"
			}
		}
		if found != "ynynyn" {
			t.Errorf("got %s", found)
		}
		if _, err := n.Dial(t.Context(), "tcp", "nowhere.test:80"); err == nil {
			t.Error("a host that is not there was found")
		}
	})
}

func TestAChanceIsTheSameForTheSameSeed(t *testing.T) {
	struck := func(seed uint64) (s string) {
		when := Chance(seed, 30)
		for n := range 1000 {
			if when("GET /v2/app/blobs/x", n) {
				s += fmt.Sprint(n, " ")
			}
		}
		return s
	}
	one := struck(1)
	if one != struck(1) || one == struck(2) {
		t.Error("chance does not depend on the seed, or not on it alone")
	}
	if n := strings.Count(one, " "); n < 250 || n > 350 {
		t.Errorf("%d of 1000 were struck, want about 300", n)
	}
}
