package version

import "strings"

// Ranks of prerelease words, in their order; words of one rank are the same.
const (
	unranked = iota
	development
	alpha
	milestone
	beta
	preview
	candidate
)

// rank is that of a word.
func rank(word string) int {
	switch strings.ToLower(word) {
	case "dev", "snapshot", "nightly", "canary", "unstable", "experimental", "pr", "mr":
		return development
	case "alpha", "a":
		return alpha
	case "milestone", "m":
		return milestone
	case "beta", "b":
		return beta
	case "pre", "preview", "prerelease", "ea", "eap", "next":
		return preview
	case "rc", "cr", "c":
		return candidate
	}
	return unranked
}

// isCounter reports whether a number glued to the word counts builds.
func isCounter(word string) bool {
	switch strings.ToLower(word) {
	case "r", "rev", "b", "build", "p", "patch", "post", "ls", "cu", "h", "u", "k3s", "rke2r":
		return true
	}
	return false
}

// isSystem reports whether the word is an operating system. Images move from
// one of its versions to the next without being another variant.
func isSystem(word string) bool {
	switch strings.ToLower(word) {
	case "alpine", "debian", "ubuntu", "fedora", "centos", "rocky", "rockylinux", "almalinux", "ubi", "el",
		"oraclelinux", "amazonlinux", "opensuse", "leap", "photon", "mariner", "azurelinux", "wolfi":
		return true
	}
	return false
}

// isGlued reports whether a version may follow the word directly.
func isGlued(word string) bool {
	switch strings.ToLower(word) {
	case "v", "ver", "version", "r", "rev", "rel", "release", "b", "build":
		return true
	}
	return false
}

// isHashWord reports whether a hash follows the word, even one without a letter.
func isHashWord(word string) bool {
	switch strings.ToLower(word) {
	case "sha", "sha1", "sha256", "sha512", "git", "commit":
		return true
	}
	return false
}

// isHash reports whether the text is one: 7 to 40 hexadecimal digits, some of
// them letters and some not, since numbers and words are more likely to be those.
func isHash(text string) bool {
	return len(text) >= 7 && len(text) <= 40 && isHex(text) && !isDigits(text) && strings.ContainsAny(text, "0123456789")
}

// isDescribed reports whether the text is a hash as git describe writes it.
func isDescribed(text string) bool {
	return len(text) >= 8 && len(text) <= 41 && text[0] == 'g' && isHex(text[1:])
}

func isHex(text string) bool {
	return text != "" && strings.Trim(text, "0123456789abcdef") == ""
}

func isDigits(text string) bool { return text != "" && digits(text) == len(text) }

// digits is how many of them the text begins with.
func digits(text string) int {
	for i := range len(text) {
		if !isDigit(text[i]) {
			return i
		}
	}
	return len(text)
}

// letters is how many of them the text begins with.
func letters(text string) int {
	for i := range len(text) {
		if !isLetter(text[i]) {
			return i
		}
	}
	return len(text)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

func startsWithDigit(text string) bool { return text != "" && isDigit(text[0]) }
