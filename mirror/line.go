package mirror

import (
	"strings"
	"unicode"
)

// Line makes one printable line of a text that a server sent, of at most so
// many characters and a mark that there were more.
func Line(text string, most int) string {
	text = strings.Join(strings.Fields(strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) && c != unicode.ReplacementChar {
			return c
		}
		return ' '
	}, text)), " ")
	if r := []rune(text); len(r) > most {
		return string(r[:most]) + "…"
	}
	return text
}
