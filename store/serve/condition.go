package serve

import (
	"net/http"
	"net/url"
	"strings"
)

// precondition is the status with which a request's conditions end it, or zero.
func precondition(h http.Header, etag string) int {
	if match := h["If-Match"]; match != nil && !listed(match, etag, false) {
		return http.StatusPreconditionFailed
	}
	if none := h["If-None-Match"]; none != nil && listed(none, etag, true) {
		return http.StatusNotModified
	}
	return 0
}

// listed reports whether lists of entity tags have this one, or any. A weak tag
// counts where weak is set. Clients of registries leave the quotes out.
func listed(lines []string, etag string, weak bool) bool {
	for _, line := range lines {
		for one := range strings.SplitSeq(line, ",") {
			one = strings.Trim(one, " \t")
			if bare, ok := strings.CutPrefix(one, "W/"); ok {
				if !weak {
					continue
				}
				one = bare
			}
			if one == "*" || one == etag || one == etag[1:len(etag)-1] {
				return true
			}
		}
	}
	return false
}

// param is a parameter of the query, the first of its name, as net/url reads it;
// empty when it is absent.
func param(r *http.Request, key string) string {
	for raw := r.URL.RawQuery; raw != ""; {
		var one string
		one, raw, _ = strings.Cut(raw, "&")
		name, value, _ := strings.Cut(one, "=")
		if name != key || strings.Contains(one, ";") { // which net/url does not read
			continue
		}
		if text, err := url.QueryUnescape(value); err == nil {
			return text
		}
	}
	return ""
}
