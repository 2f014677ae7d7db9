package upstream

import "strings"

// challenge is one way in which a server asks for authentication.
type challenge struct {
	scheme string // lower case
	params map[string]string
}

// parseChallenges reads the values of WWW-Authenticate. Each may hold several
// challenges. What cannot be read is left out.
func parseChallenges(headers []string) []challenge {
	var all []challenge
	for _, h := range headers {
		all = append(all, parseHeader(h)...)
	}
	return all
}

func parseHeader(rest string) []challenge {
	var found []challenge
	for {
		rest = strings.TrimLeft(rest, " \t,")
		word, after := cutToken(rest)
		if word == "" {
			return found
		}
		after = strings.TrimLeft(after, " \t")
		value, isParam := strings.CutPrefix(after, "=")
		if !isParam {
			found = append(found, challenge{scheme: strings.ToLower(word), params: map[string]string{}})
			rest = after
			continue
		}
		if len(found) == 0 {
			return nil // a parameter of nothing
		}
		var text string
		text, rest = cutValue(strings.TrimLeft(value, " \t"))
		params := found[len(found)-1].params
		if _, twice := params[strings.ToLower(word)]; !twice {
			params[strings.ToLower(word)] = text
		}
	}
}

// cutToken cuts a token of RFC 9110 off the front.
func cutToken(s string) (token, rest string) {
	i := strings.IndexFunc(s, func(r rune) bool {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		return !letter && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	})
	if i < 0 {
		return s, ""
	}
	return s[:i], s[i:]
}

// cutValue cuts a quoted string off the front, or what stands before a comma.
func cutValue(s string) (value, rest string) {
	if !strings.HasPrefix(s, `"`) {
		i := strings.IndexAny(s, ", \t")
		if i < 0 {
			return s, ""
		}
		return s[:i], s[i:]
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), s[i+1:]
		case s[i] == '\\' && i+1 < len(s):
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String(), "" // no closing quote
}
