package field

import (
	"strconv"
	"strings"
)

// Range is where the part of a content is that an answer holds; -1 stands for
// what is left open.
type Range struct{ First, Last, Total int64 }

// ContentRange reads Content-Range. It reports false for what is none.
func ContentRange(text string) (Range, bool) {
	text, ok := strings.CutPrefix(strings.ToLower(strings.TrimSpace(text)), "bytes ")
	span, total, ok2 := strings.Cut(text, "/")
	if !ok || !ok2 {
		return Range{}, false
	}
	got := Range{-1, -1, -1}
	if total != "*" {
		if got.Total, ok = number(total); !ok {
			return Range{}, false
		}
	}
	if span == "*" {
		return got, got.Total >= 0
	}
	first, last, _ := strings.Cut(span, "-")
	if got.First, ok = number(first); !ok {
		return Range{}, false
	}
	got.Last, ok = number(last)
	return got, ok && got.First <= got.Last && (got.Total < 0 || got.Last < got.Total)
}

// number reads digits and nothing else.
func number(text string) (int64, bool) {
	n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 63)
	return int64(n), err == nil
}
