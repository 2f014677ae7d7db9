package field

import "strings"

// NextLink is the target of rel="next" in the values of Link.
func NextLink(headers []string) (string, bool) {
	for _, rest := range headers {
		for {
			before, after, ok := strings.Cut(rest, "<")
			target, params, closed := strings.Cut(after, ">")
			if !ok || !closed || strings.Trim(before, " \t,") != "" {
				break
			}
			var next bool
			if next, rest = cutRel(params); next {
				return target, true
			}
		}
	}
	return "", false
}

// cutRel reads the parameters of one link, and whether it is the next page.
func cutRel(s string) (next bool, rest string) {
	for {
		s = strings.TrimLeft(s, " \t")
		after, ok := strings.CutPrefix(s, ";")
		if !ok {
			return next, strings.TrimLeft(s, " \t,")
		}
		name, value := cutToken(strings.TrimLeft(after, " \t"))
		s = value
		if value, ok = strings.CutPrefix(strings.TrimLeft(value, " \t"), "="); !ok {
			continue
		}
		var text string
		text, s = cutParam(strings.TrimLeft(value, " \t"))
		if strings.EqualFold(name, "rel") {
			for rel := range strings.FieldsSeq(text) {
				next = next || strings.EqualFold(rel, "next")
			}
		}
	}
}
