package mirror

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/bmatcuk/doublestar/v4"
)

// Pattern matches names: a glob, or a regular expression between slashes. In a
// glob, * stays within a path element, ** crosses, {a,b} alternates. A regular
// expression is anchored at both ends. The zero Pattern matches nothing.
type Pattern struct {
	text string
	re   *regexp.Regexp
}

// ParsePattern reads a pattern as people write it.
func ParsePattern(text string) (Pattern, error) {
	if len(text) >= 2 && text[0] == '/' && strings.HasSuffix(text, "/") {
		re, err := regexp.Compile(`^(?:` + text[1:len(text)-1] + `)$`)
		if err != nil {
			return Pattern{}, fmt.Errorf("%q is not a regular expression: %w", text, err)
		}
		return Pattern{text, re}, nil
	}
	if text == "" || !utf8.ValidString(text) || !doublestar.ValidatePattern(text) {
		return Pattern{}, fmt.Errorf("%q is not a pattern (examples: 12*, {alpine,debian}, /^1[23]-slim$/)", text)
	}
	return Pattern{text: text}, nil
}

// Match reports whether the whole name matches.
func (p Pattern) Match(name string) bool {
	if p.re != nil {
		return p.re.MatchString(name)
	}
	return p.text != "" && doublestar.MatchUnvalidated(p.text, name)
}

// Literal reports whether the pattern can match only its own text.
func (p Pattern) Literal() bool { return p.re == nil && !strings.ContainsAny(p.text, `*?[{\`) }

// version is what the group of that name captured of a name that matches.
func (p Pattern) version(name string) (string, bool) {
	if p.re == nil {
		return "", false
	}
	i := p.re.SubexpIndex("version")
	if i < 0 {
		return "", false
	}
	return p.re.FindStringSubmatch(name)[i], true
}

// String is the pattern as it was written.
func (p Pattern) String() string { return p.text }

func parsePatterns(texts []string) ([]Pattern, error) {
	var ps []Pattern
	for _, t := range texts {
		p, err := ParsePattern(t)
		if err != nil {
			return nil, err
		}
		ps = append(ps, p)
	}
	return ps, nil
}
