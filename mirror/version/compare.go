package version

import (
	"cmp"
	"strings"
)

// Compare is negative when v is older than w, zero only when they are the same
// tag. Words come first, then hashes, dates, calendar versions, and the rest.
// Of 1.25 and 1.25.3 the shorter is newer, because it floats on; so are 1.25.3
// of 1.25.3-4, and a release of its prereleases. Versions that are equal are
// ordered by variant, then by tag.
func (v Version) Compare(w Version) int {
	if c := cmp.Or(cmp.Compare(min(v.kind, Float), min(w.kind, Float)), v.compareNumbers(w)); c != 0 {
		return c
	}
	if c := cmp.Or(compareOptional(v.pre, w.pre, rank), compareOptional(v.build, w.build, noRank)); c != 0 {
		return c
	}
	return cmp.Or(compareText(v.variant, w.variant, noRank), cmp.Compare(v.tag, w.tag))
}

func (v Version) compareNumbers(w Version) int {
	for i := range min(v.count, w.count) {
		if c := cmp.Compare(v.numbers[i], w.numbers[i]); c != 0 {
			return c
		}
	}
	return cmp.Compare(w.count, v.count)
}

// compareOptional puts what is missing last.
func compareOptional(a, b string, rank func(string) int) int {
	if a == "" || b == "" {
		return cmp.Compare(len(b), len(a))
	}
	return compareText(a, b, rank)
}

func noRank(string) int { return unranked }

// compareText compares numbers as numbers and words by rank, and passes over
// what stands between.
func compareText(a, b string, rank func(string) int) int {
	for a != b {
		var s, t token
		s, a = next(a, rank)
		t, b = next(b, rank)
		if c := s.compare(t); c != 0 || s.class == end {
			return c
		}
	}
	return 0
}

// token is a piece of a suffix.
type token struct {
	class class
	rank  int
	text  string // a number without leading zeros
}

// class orders tokens: 1.0a1.dev3 is before 1.0a1.
type class int

const (
	early class = iota // a word for development
	end
	numeral
	word
)

func next(s string, rank func(string) int) (token, string) {
	for s != "" && isSeparator(s[0]) {
		s = s[1:]
	}
	if s == "" {
		return token{class: end}, ""
	}
	if n := digits(s); n > 0 {
		return token{class: numeral, text: strings.TrimLeft(s[:n], "0")}, s[n:]
	}
	n := max(1, letters(s)) // whatever else there is, one by one
	t := token{class: word, rank: rank(s[:n])}
	switch t.rank {
	case unranked:
		t.text = s[:n]
	case development:
		t.class = early
	}
	return t, s[n:]
}

func isSeparator(c byte) bool { return c == '-' || c == '+' || c == '.' || c == '_' || c == '~' }

func (t token) compare(u token) int {
	if c := cmp.Or(cmp.Compare(t.class, u.class), cmp.Compare(t.rank, u.rank)); c != 0 {
		return c
	}
	if t.class == numeral {
		return cmp.Or(cmp.Compare(len(t.text), len(u.text)), cmp.Compare(t.text, u.text))
	}
	return cmp.Compare(t.text, u.text)
}
