package version

import "strings"

// cutPrefix parts what stands before the numbers. The kind is Word or Hash when
// no version follows, else Float, which readNumbers betters.
func cutPrefix(text string) (prefix, rest string, kind Kind) {
	rest = text
	for before := ""; ; {
		head := rest
		if i := strings.IndexAny(rest, "-_."); i >= 0 {
			head = rest[:i]
		}
		if isHash(head) || isHashWord(before) && len(head) >= 7 && isHex(head) {
			return "", text, Hash
		}
		if startsWithDigit(rest) {
			return text[:len(text)-len(rest)], rest, Float
		}
		n := wordBefore(rest)
		if n == 0 {
			return "", text, Word
		}
		before, rest = strings.TrimRight(rest[:n], "-_."), rest[n:]
	}
}

// wordBefore is the length of a word and what joins it to what follows; 0 when
// it cannot be part of a prefix.
func wordBefore(text string) int {
	n := letters(text)
	if n == 0 || n == len(text) {
		return 0
	}
	switch after := text[n]; {
	case after == '-' || after == '_' || after == '.':
		return n + 1
	case !isDigit(after):
		return 0
	case isGlued(text[:n]):
		return n
	}
	// A name with a number in it, such as k3s-, not a version such as php8.2.
	for n < len(text) && (isLetter(text[n]) || isDigit(text[n])) {
		n++
	}
	if n < len(text) && (text[n] == '-' || text[n] == '_') {
		return n + 1
	}
	return 0
}

// prereleasePrefix is the word that makes all that follows it a prerelease.
func prereleasePrefix(prefix string) string {
	word := strings.TrimRight(prefix, "-_.")
	word = word[strings.LastIndexAny(word, "-_.")+1:]
	if len(word) > 1 && rank(word) != unranked {
		return word
	}
	return ""
}
