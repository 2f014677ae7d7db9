package upstream

import (
	"fmt"
	"net/http"
	"net/url"
)

const maxRedirects = 10

func sameOrigin(a, b *url.URL) bool { return a.Scheme == b.Scheme && a.Host == b.Host }

func redirects(resp *http.Response) bool {
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// redirectTo is where a redirect leads. Its errors leave the query out, which
// is how CDNs are told that we may read.
func redirectTo(req request, location string) (*url.URL, error) {
	next, err := req.url.Parse(location)
	switch {
	case location == "" || err != nil || next.Host == "" || next.User != nil:
		return nil, fmt.Errorf("%s redirects to an address that cannot be used", req.url.Host)
	case req.form != "":
		return nil, fmt.Errorf("%s redirects to %s, where credentials do not follow", req.url.Host, next.Host)
	case next.Scheme == "https" || next.Scheme == "http" && req.url.Scheme == "http":
		return next, nil
	}
	return nil, fmt.Errorf("%s redirects from %s to %s://%s, which is refused", req.url.Host, req.url.Scheme, next.Scheme, next.Host)
}
