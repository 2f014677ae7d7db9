package field

import "strings"

// Challenge is one way in which a server asks for authentication.
type Challenge struct {
	Scheme string // lower case
	Params map[string]string
}

// Challenges reads the values of WWW-Authenticate. Each may hold several
// challenges. What cannot be read is left out.
func Challenges(headers []string) []Challenge {
	var all []Challenge
	for _, h := range headers {
		all = append(all, challengesOf(h)...)
	}
	return all
}

func challengesOf(rest string) []Challenge {
	var found []Challenge
	for {
		rest = strings.TrimLeft(rest, " \t,")
		word, after := cutToken(rest)
		if word == "" {
			return found
		}
		after = strings.TrimLeft(after, " \t")
		value, isParam := strings.CutPrefix(after, "=")
		if !isParam {
			found = append(found, Challenge{Scheme: strings.ToLower(word), Params: map[string]string{}})
			rest = after
			continue
		}
		if len(found) == 0 {
			return nil // a parameter of nothing
		}
		var text string
		text, rest = cutValue(strings.TrimLeft(value, " \t"))
		params := found[len(found)-1].Params
		if _, twice := params[strings.ToLower(word)]; !twice {
			params[strings.ToLower(word)] = text
		}
	}
}
