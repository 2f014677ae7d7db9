package version

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/Masterminds/semver/v3"
)

// Range is a set of versions, such as >=1.20 <2. The zero Range is empty.
type Range struct {
	text   string
	groups []group
}

// group is one of a range's alternatives.
type group struct {
	constraints *semver.Constraints
	calendar    bool // it speaks of years
	long        bool // it speaks of numbers as long as a time
}

// longNumber is the first with seven digits.
const longNumber = 1_000_000

// ParseRange reads a range: comparisons, ^1.2, ~3.18, 1.x, 1.2 - 1.5, with a
// space or a comma for and, || for or. Numbers may have leading zeros, and a
// date may be written 20240102.
func ParseRange(text string) (Range, error) {
	r := Range{text: text}
	for part := range strings.SplitSeq(text, "||") {
		g, err := parseGroup(part)
		if err != nil {
			return Range{}, fmt.Errorf("%q is not a version range%s (example: \">=1.20 <2\")", text, reason(err))
		}
		r.groups = append(r.groups, g)
	}
	return r, nil
}

// Contains reports whether the version is in the range. Its prefix, its build
// and its variant do not matter. A prerelease is only in a range that names
// one, such as >=1.2-0. Calendar versions and dates are only in ranges that
// have a number from 1900 on, and numbers as long as a time only in ranges
// that have one; words and hashes are in none.
func (r Range) Contains(v Version) bool {
	if !v.Ordered() {
		return false
	}
	var padded *semver.Version
	for _, g := range r.groups {
		if !g.speaksOf(v) {
			continue
		}
		if padded == nil {
			padded = semver.New(v.numbers[0], v.numbers[1], v.numbers[2], canonical(v.pre), "")
		}
		if g.constraints.Check(padded) {
			return true
		}
	}
	return false
}

// Match reports whether the tag is a version in the range.
func (r Range) Match(tag string) bool { return r.Contains(Parse(tag)) }

// String is the range as it was written.
func (r Range) String() string { return r.text }

func (g group) speaksOf(v Version) bool {
	switch {
	case v.long():
		return g.long
	case v.kind <= Calendar:
		return g.calendar
	}
	return true
}

// refusal is why a range is refused, when there is more to say than that.
type refusal string

func (r refusal) Error() string { return string(r) }

func reason(err error) string {
	if r, ok := err.(refusal); ok {
		return ": " + string(r)
	}
	return ""
}

// bound is a version in a range.
var bound = regexp.MustCompile(`([0-9xX*]+(?:\.[0-9xX*]+)*)(-[0-9A-Za-z.-]+)?`)

func parseGroup(text string) (group, error) {
	var g group
	var refused error
	if strings.TrimSpace(text) == "" {
		return g, refusal("it is empty")
	}
	text = bound.ReplaceAllStringFunc(text, func(b string) string {
		out, err := g.readBound(b)
		refused = cmp.Or(refused, err)
		return out
	})
	if refused != nil {
		return g, refused
	}
	var err error
	g.constraints, err = semver.NewConstraint(text)
	return g, err
}

// readBound notes what numbers a bound has, and writes it as semver does.
func (g *group) readBound(text string) (string, error) {
	var v Version
	if rest, ok := v.readDate(text); ok && rest == "" && v.count > 1 {
		g.calendar = true
		return dotted(v.numbers[:min(v.count, 3)]), nil
	}
	numbers, pre, dashed := strings.Cut(text, "-")
	g.note(numbers)
	if !dashed {
		return text, nil
	}
	if pre != "0" && !isPrerelease(pre, false) {
		return "", refusal(strconv.Quote(pre) + " is not a prerelease")
	}
	return numbers + "-" + canonical(pre), nil
}

func (g *group) note(numbers string) {
	first, _, _ := strings.Cut(numbers, ".")
	if !isDigits(first) {
		return
	}
	n := number(first)
	g.calendar = g.calendar || n >= 1900 && n < longNumber
	g.long = g.long || n >= longNumber
}

func dotted(numbers []uint64) string {
	parts := make([]string, len(numbers))
	for i, n := range numbers {
		parts[i] = strconv.FormatUint(n, 10)
	}
	return strings.Join(parts, ".")
}

// canonical writes a prerelease so that semver's order is ours: rc10 is after
// rc9, and rc after every beta.
func canonical(pre string) string {
	var parts []string
	for {
		var t token
		if t, pre = next(pre, rank); t.class == end {
			return strings.Join(parts, ".")
		}
		switch {
		case t.class == numeral:
			parts = append(parts, cmp.Or(t.text, "0"))
		case t.rank == unranked:
			parts = append(parts, "p"+strings.ToLower(t.text))
		default:
			parts = append(parts, "p"+strconv.Itoa(t.rank))
		}
	}
}
