package version

import (
	"math"
	"strconv"
)

// readNumbers reads the numbers that s begins with, and returns what follows.
func (v *Version) readNumbers(s string) string {
	if rest, ok := v.readDate(s); ok {
		v.kind = Date
		return rest
	}
	year, second := digits(s) == 4 && isYear(number(s[:4])), 0
	for {
		n := digits(s)
		if v.add(s[:n]); v.count == 2 {
			second = n
		}
		s = s[n:]
		if v.count == maxNumbers || len(s) < 2 || s[0] != '.' || !isDigit(s[1]) {
			break
		}
		s = s[1:]
	}
	switch {
	case year && second <= 2:
		v.kind = Calendar
	case v.count >= 3:
		v.kind = Semver
	}
	return s
}

func (v *Version) add(text string) {
	v.numbers[v.count] = number(text)
	v.count++
}

// readDate reads 2024-01-02, 2024-01, 20240102, 202401 or a long number, and a
// time of day after a T.
func (v *Version) readDate(s string) (rest string, ok bool) {
	n := digits(s)
	switch dotted := len(s) > n+1 && s[n] == '.' && isDigit(s[n+1]); {
	case n == 4:
		rest, ok = v.readDashed(s)
	case n == 6 && isMonth(s[:4], s[4:6]) && !dotted:
		v.add(s[:4])
		v.add(s[4:6])
		return s[6:], true
	case n >= 8 && isMonth(s[:4], s[4:6]) && isDay(s[6:8]):
		v.add(s[:4])
		v.add(s[4:6])
		v.add(s[6:8])
		if n > 8 {
			v.add(s[8:n])
		}
		rest, ok = s[n:], true
	case n >= 7 && !dotted:
		v.add(s[:n])
		return s[n:], true
	}
	if ok && v.count == 3 {
		rest = v.readTime(rest)
	}
	return rest, ok
}

func (v *Version) readDashed(s string) (rest string, ok bool) {
	if len(s) < 7 || s[4] != '-' && s[4] != '_' || digits(s[5:]) != 2 || !isMonth(s[:4], s[5:7]) {
		return s, false
	}
	v.add(s[:4])
	v.add(s[5:7])
	if len(s) >= 10 && s[7] == s[4] && digits(s[8:]) == 2 && isDay(s[8:10]) {
		v.add(s[8:10])
		return s[10:], true
	}
	return s[7:], true
}

func (v *Version) readTime(s string) string {
	if len(s) < 2 || s[0]|0x20 != 't' || !isDigit(s[1]) {
		return s
	}
	s = s[1:]
	for v.count < maxNumbers {
		n := digits(s)
		v.add(s[:n])
		s = s[n:]
		if len(s) < 2 || s[0] != '-' && s[0] != ':' || !isDigit(s[1]) {
			break
		}
		s = s[1:]
	}
	if s != "" && s[0]|0x20 == 'z' && (len(s) == 1 || !isLetter(s[1])) {
		s = s[1:]
	}
	return s
}

// number reads digits; what is too large is the largest.
func number(text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return math.MaxUint64
	}
	return n
}

// isYear knows no year before there were images' releases, as 1809 and 1909
// are versions of a system.
func isYear(n uint64) bool { return n >= 1990 && n < 2200 }

func isMonth(year, month string) bool {
	m := number(month)
	return isYear(number(year)) && m >= 1 && m <= 12
}

func isDay(text string) bool {
	d := number(text)
	return d >= 1 && d <= 31
}
