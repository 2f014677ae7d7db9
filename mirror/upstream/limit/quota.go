package limit

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Quota is what an answer says of the pulls that are left.
type Quota struct {
	Limit, Remaining int
	Window           time.Duration // a pull comes back this long after it was made; 0: not said
	Reset            time.Duration // all come back then; 0: not said
}

// longest bounds what is believed of a server's times: after a day it is asked
// again.
const longest = 24 * time.Hour

// Read finds the quota in the headers of an answer; false where there is none.
// It knows Docker Hub's form (100;w=21600), those of the IETF's drafts
// (RateLimit-Limit and others; RateLimit: limit=…, remaining=…, reset=…;
// RateLimit: "name";r=…;t=… with RateLimit-Policy), and X-RateLimit-Limit and
// others.
func Read(h http.Header, now time.Time) (Quota, bool) {
	now = serverTime(h, now)
	for _, prefix := range []string{"Ratelimit-", "X-Ratelimit-"} {
		if q, ok := separate(h, prefix, now); ok {
			return q, true
		}
	}
	return joined(h, now)
}

// separate reads a header for each figure.
func separate(h http.Header, prefix string, now time.Time) (Quota, bool) {
	limit, remaining := parse(h.Get(prefix+"Limit")), parse(h.Get(prefix+"Remaining"))
	q := Quota{Window: seconds(first(limit["w"], remaining["w"]))}
	if reset, ok := number(parse(h.Get(prefix + "Reset"))[""]); ok {
		q.Reset = untilReset(reset, now)
	}
	return q.with(limit[""], remaining[""])
}

// joined reads one header for all figures, and a second one for the policy.
func joined(h http.Header, now time.Time) (Quota, bool) {
	said, policy := parse(h.Get("RateLimit")), parse(h.Get("RateLimit-Policy"))
	q := Quota{Window: seconds(policy["w"])}
	if reset, ok := number(first(said["reset"], said["t"])); ok {
		q.Reset = untilReset(reset, now)
	}
	return q.with(first(said["limit"], policy["q"], policy[""]), first(said["remaining"], said["r"]))
}

// most is the largest budget that is told from none.
const most = 1 << 30

// with adds the two figures without which there is no quota.
func (q Quota) with(limit, remaining string) (Quota, bool) {
	l, ok := number(limit)
	r, ok2 := number(remaining)
	if !ok || !ok2 || l == 0 {
		return Quota{}, false
	}
	q.Limit, q.Remaining = int(min(l, most)), int(min(l, r, most))
	return q, true
}

// parse reads the parameters of the first of a header's values. What stands
// alone has the name "".
func parse(text string) map[string]string {
	named := map[string]string{}
	for i, part := range strings.FieldsFunc(text, func(r rune) bool { return r == ';' || r == ',' }) {
		name, value, isParam := strings.Cut(strings.TrimSpace(part), "=")
		if !isParam {
			if i > 0 {
				break // the next value
			}
			name, value = "", name
		}
		name = strings.ToLower(strings.TrimSpace(name))
		if _, twice := named[name]; !twice {
			named[name] = strings.TrimSpace(value)
		}
	}
	return named
}

// number reads a figure; fractions are cut off.
func number(text string) (int64, bool) {
	whole, _, _ := strings.Cut(text, ".")
	n, err := strconv.ParseUint(whole, 10, 53)
	return int64(n), err == nil
}

func seconds(text string) time.Duration {
	n, _ := number(text)
	return short(n)
}

func short(seconds int64) time.Duration {
	return time.Duration(min(seconds, int64(longest/time.Second))) * time.Second
}

// Numbers from these on are moments, not how many seconds are left.
const (
	epochSeconds = 1_000_000_000
	epochMillis  = 1_000_000_000_000
)

func untilReset(n int64, now time.Time) time.Duration {
	switch {
	case n >= epochMillis:
		return min(max(0, time.UnixMilli(n).Sub(now)), longest)
	case n >= epochSeconds:
		return min(max(0, time.Unix(n, 0).Sub(now)), longest)
	}
	return short(n)
}

func first(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// RetryAfter reads the header of that name: seconds, or a date, which the
// server means by its own clock; some write seconds since 1970 there. Zero where
// there is none, a day at most.
func RetryAfter(h http.Header, now time.Time) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if n, ok := number(text); ok {
		return untilReset(n, serverTime(h, now))
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	return min(max(0, at.Sub(serverTime(h, now))), longest)
}

// serverTime is the time by the server's clock, if it says.
func serverTime(h http.Header, now time.Time) time.Time {
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		return date
	}
	return now
}
