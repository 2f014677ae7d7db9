package version

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Per says how many of a version's numbers a line has in common. The zero Per
// is PerVariant.
type Per int

// What a line is per.
const (
	PerVariant Per = iota
	PerMajor
	PerMinor
	PerPatch
)

var perNames = [...]string{"variant", "major", "minor", "patch"}

// String is as a configuration has it.
func (p Per) String() string { return perNames[p] }

// UnmarshalText reads variant, major, minor or patch; empty is variant.
func (p *Per) UnmarshalText(text []byte) error {
	i := slices.Index(perNames[:], string(text))
	if i < 0 && len(text) > 0 {
		return fmt.Errorf("%q is not one of %s (example: minor)", text, strings.Join(perNames[:], ", "))
	}
	*p = Per(max(i, 0))
	return nil
}

// Line is the key of the line that the tag belongs to, readable: 1.25.* are
// the tags 1.25.0, 1.25.1 and so on, and 1.25.*-alpine* those with alpine and a
// version of it. A long number is of the same line per everything, or each
// would be of its own. Words and hashes are of no line, which is empty.
func (v Version) Line(per Per) string {
	if !v.Ordered() {
		return ""
	}
	var b strings.Builder
	if v.kind <= Calendar {
		b.WriteString(v.kind.String() + " ")
	}
	b.WriteString(v.prefix)
	for i, n := range v.Numbers() {
		if i > 0 {
			b.WriteByte('.')
		}
		if i < int(per) && !v.long() {
			b.WriteString(strconv.FormatUint(n, 10))
		} else {
			b.WriteByte('*')
		}
	}
	for _, part := range []string{v.preShape(), buildShape(v.build), variantShape(v.variant)} {
		if part != "" {
			b.WriteString("-" + part)
		}
	}
	return b.String()
}

func (v Version) preShape() string {
	if v.pre == "" {
		return ""
	}
	return "pre"
}

// buildShape is a build without what it counts.
func buildShape(build string) string {
	if len(build) == 1 { // the w of 1.1.1w
		return "*"
	}
	return eachPart(build, func(part string) string {
		if isDescribed(part) {
			return "*"
		}
		return starred(part)
	})
}

// variantShape is a variant without what it counts for itself.
func variantShape(variant string) string {
	return eachPart(variant, func(part string) string {
		n := strings.IndexAny(part, "0123456789")
		switch {
		case n < 0:
			return part
		case isHash(part) || isDescribed(part):
			return "*"
		case isCounted(part) || n == 0 && isCount(part):
			return starred(part)
		case isCount(part[n:]) && (part[max(n-1, 0)] == '.' || isSystem(part[:n]) && strings.Contains(part[n:], ".")):
			return part[:n] + "*"
		}
		return part
	})
}

func eachPart(s string, shape func(string) string) string {
	if !strings.ContainsAny(s, "0123456789") {
		return s
	}
	parts := strings.Split(s, "-")
	for i, p := range parts {
		parts[i] = shape(p)
	}
	return strings.Join(parts, "-")
}

// starred has a star for its last number, and a hash has one for all.
func starred(part string) string {
	if isHash(part) {
		return "*"
	}
	return strings.TrimRight(part, "0123456789._") + "*"
}

// Lines parts versions into their lines, each with the newest first. Words and
// hashes are left out, and a tag that comes twice counts once.
func Lines(versions []Version, per Per) map[string][]Version {
	lines := map[string][]Version{}
	for _, v := range newestFirst(versions) {
		key := v.Line(per)
		lines[key] = append(lines[key], v)
	}
	return lines
}

// Newest are the newest n of each line, the newest first.
func Newest(versions []Version, n int, per Per) []Version {
	seen := map[string]int{}
	return slices.DeleteFunc(newestFirst(versions), func(v Version) bool {
		key := v.Line(per)
		seen[key]++
		return seen[key] > n
	})
}

func newestFirst(versions []Version) []Version {
	ordered := make([]Version, 0, len(versions))
	for _, v := range versions {
		if v.Ordered() {
			ordered = append(ordered, v)
		}
	}
	slices.SortFunc(ordered, func(a, b Version) int { return b.Compare(a) })
	return slices.CompactFunc(ordered, func(a, b Version) bool { return a.tag == b.tag })
}
