package version

import "strings"

// readSuffix sorts what follows the numbers into prerelease, build and variant.
func (v *Version) readSuffix(s string) {
	last := &v.build // what a number or a hash belongs to
	for first := true; s != ""; first = false {
		glued := first && isLetter(s[0])
		if !glued {
			s = s[1:]
		}
		part := s
		if i := strings.IndexAny(s, "-+"); i >= 0 {
			part = s[:i]
		}
		s = s[len(part):]
		if part == "" {
			continue
		}
		last = v.place(part, last, glued)
		join(last, part)
	}
}

// place is where a part of the suffix belongs.
func (v *Version) place(part string, last *string, glued bool) *string {
	switch {
	case isCount(part) || isHash(part) || isDescribed(part):
		return last
	case isPrerelease(part, glued):
		return &v.pre
	case v.variant == "" && (glued || isCounted(part)):
		return &v.build
	}
	return &v.variant
}

func join(to *string, part string) {
	if *to != "" {
		part = *to + "-" + part
	}
	*to = part
}

// isCount reports whether the part has numbers and nothing else.
func isCount(part string) bool { return strings.Trim(part, "0123456789._") == "" }

// isCounted reports whether the part is a counter with its number.
func isCounted(part string) bool {
	n := strings.IndexAny(part, "0123456789")
	for n > 0 { // k3s1 has a number in its word
		if isCounter(strings.TrimRight(part[:n], "._")) && isCount(part[n:]) {
			return true
		}
		next := strings.IndexAny(part[n+1:], "0123456789")
		if next < 0 {
			return false
		}
		n += 1 + next
	}
	return false
}

// isPrerelease reports whether the part begins with a word that makes it one.
// The single letters need a number, and but for m must follow one directly:
// 1.4.0b2 is a beta, 8-b132 is a build.
func isPrerelease(part string, glued bool) bool {
	n := letters(part)
	if n == 1 && (!startsWithDigit(part[n:]) || !glued && part[0]|0x20 != 'm') {
		return false
	}
	return rank(part[:n]) != unranked
}
