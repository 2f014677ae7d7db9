package limit

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// headers makes them of "Name: value" lines.
func headers(lines ...string) http.Header {
	h := http.Header{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		h.Add(name, value)
	}
	return h
}

func TestQuotasAreRead(t *testing.T) {
	for _, c := range []struct {
		name  string
		lines []string
		want  Quota // zero: there is none
	}{
		{"Docker Hub's", []string{"ratelimit-limit: 100;w=21600", "ratelimit-remaining: 20;w=21600"}, Quota{100, 20, 6 * time.Hour, 0}},
		{"an early draft's", []string{"RateLimit-Limit: 10, 10;w=1, 50;w=60", "RateLimit-Remaining: 9", "RateLimit-Reset: 30"}, Quota{10, 9, 0, 30 * time.Second}},
		{"a later draft's", []string{"RateLimit: limit=100, remaining=50, reset=5", "RateLimit-Policy: 100;w=10"}, Quota{100, 50, 10 * time.Second, 5 * time.Second}},
		{"the last draft's", []string{`RateLimit: "default";r=50;t=30`, `RateLimit-Policy: "default";q=100;w=60`}, Quota{100, 50, time.Minute, 30 * time.Second}},
		{"GitHub's, with a moment", []string{"X-RateLimit-Limit: 5000", "X-RateLimit-Remaining: 4999", "X-RateLimit-Reset: 1767323105"}, Quota{5000, 4999, 0, time.Minute}},
		{"one with a moment in milliseconds", []string{"X-RateLimit-Limit: 60", "X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 1767323105000"}, Quota{60, 0, 0, time.Minute}},
		{"GitLab's, with a moment under the draft's name", []string{"RateLimit-Limit: 60", "RateLimit-Remaining: 0", "RateLimit-Reset: 1767323105"}, Quota{60, 0, 0, time.Minute}},
		{"a moment by the server's clock", []string{"Date: Fri, 02 Jan 2026 03:04:35 GMT", "X-RateLimit-Limit: 5", "X-RateLimit-Remaining: 4", "X-RateLimit-Reset: 1767323105"}, Quota{5, 4, 0, 30 * time.Second}},
		{"a moment that has passed", []string{"X-RateLimit-Limit: 5", "X-RateLimit-Remaining: 4", "X-RateLimit-Reset: 1700000000"}, Quota{5, 4, 0, 0}},
		{"seconds with a fraction", []string{"X-RateLimit-Limit: 5.0", "X-RateLimit-Remaining: 4", "X-RateLimit-Reset: 1.5"}, Quota{5, 4, 0, time.Second}},
		{"a reset in a thousand years is one tomorrow", []string{"RateLimit-Limit: 5", "RateLimit-Remaining: 0", "RateLimit-Reset: 999999999"}, Quota{5, 0, 0, 24 * time.Hour}},
		{"more left than there are", []string{"RateLimit-Limit: 5", "RateLimit-Remaining: 7"}, Quota{5, 5, 0, 0}},
		{"no headers", nil, Quota{}},
		{"no limit", []string{"RateLimit-Remaining: 7"}, Quota{}},
		{"nothing left of nothing", []string{"RateLimit-Limit: 0", "RateLimit-Remaining: 0"}, Quota{}},
		{"nothing said of what is left", []string{"RateLimit-Limit: 7"}, Quota{}},
		{"less than nothing, which means without limit", []string{"RateLimit-Limit: -1", "RateLimit-Remaining: -1"}, Quota{}},
		{"words", []string{"RateLimit-Limit: many", "RateLimit-Remaining: few"}, Quota{}},
		{"a policy alone", []string{"RateLimit-Policy: 100;w=10"}, Quota{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, ok := Read(headers(c.lines...), now)
			if got != c.want || ok != (c.want != Quota{}) {
				t.Errorf("got %+v, %v; want %+v", got, ok, c.want)
			}
		})
	}
}

func FuzzRead(f *testing.F) {
	f.Add("100;w=21600", "20;w=21600", "30", "limit=1, remaining=1, reset=1")
	f.Add("1, 1;w=1", "18446744073709551615", "9007199254740991", `"a";r=1;t=99999999999`)
	f.Fuzz(func(t *testing.T, limit, remaining, reset, joined string) {
		for _, prefix := range []string{"RateLimit-", "X-RateLimit-"} {
			h := headers(prefix+"Limit: "+limit, prefix+"Remaining: "+remaining, prefix+"Reset: "+reset, "RateLimit: "+joined, "RateLimit-Policy: "+limit)
			q, ok := Read(h, now)
			if ok && (q.Limit < 1 || q.Remaining < 0 || q.Remaining > q.Limit || q.Window < 0 || q.Window > longest || q.Reset < 0 || q.Reset > longest) {
				t.Errorf("%+v", q)
			}
		}
	})
}

func TestRetryAfterHasTwoForms(t *testing.T) {
	for _, c := range []struct {
		name, after, date string
		want              time.Duration
	}{
		{"seconds", "30", "", 30 * time.Second},
		{"a date by our clock", "Fri, 02 Jan 2026 03:05:05 GMT", "", time.Minute},
		{"a date by the server's clock", "Fri, 02 Jan 2026 03:05:05 GMT", "Fri, 02 Jan 2026 03:05:00 GMT", 5 * time.Second},
		{"a date that has passed", "Fri, 02 Jan 2015 03:05:05 GMT", "", 0},
		{"more than a day, which is asked after in between", "9007199254740990", "", 24 * time.Hour},
		{"a moment, which some servers write there", strconv.FormatInt(now.Add(90*time.Second).Unix(), 10), "", 90 * time.Second},
		{"a moment that has passed", strconv.FormatInt(now.Add(-time.Hour).Unix(), 10), "", 0},
		{"a moment in milliseconds", strconv.FormatInt(now.Add(90*time.Second).UnixMilli(), 10), "", 90 * time.Second},
		{"a negative number", "-5", "", 0},
		{"more than a number holds", "18446744073709551616", "", 0},
		{"a date in a thousand years", "Fri, 02 Jan 3026 03:05:05 GMT", "", 24 * time.Hour},
		{"nothing", "", "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := http.Header{"Retry-After": {c.after}, "Date": {c.date}}
			if got := RetryAfter(h, now); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("30", "")
	f.Add("Fri, 02 Jan 2026 03:05:05 GMT", "Fri, 02 Jan 2026 03:05:00 GMT")
	f.Fuzz(func(t *testing.T, after, date string) {
		if d := RetryAfter(http.Header{"Retry-After": {after}, "Date": {date}}, time.Now()); d < 0 || d > longest {
			t.Errorf("%v", d)
		}
	})
}
