package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strings"

	"lastro/mirror"
	"lastro/mirror/upstream/field"
)

const (
	pageSize  = 1000 // more is an error at ECR
	pageQuery = "n=1000"
	maxPage   = 32 << 20
	maxPages  = 10_000
)

// Tags lists the tags of a repository, each once. Names that no tag may have
// are left out, and logged. fs.ErrNotExist.
func (r *Registry) Tags(ctx context.Context, repo string) iter.Seq2[string, error] {
	c := call{method: http.MethodGet, path: repo + "/tags/list", query: pageQuery, scope: pull(repo), name: "tags of " + repo}
	return r.names(ctx, c, mirror.ValidTag)
}

// Repositories lists the catalog, each repository once. An upstream that does
// not let us see one is errors.ErrUnsupported.
func (r *Registry) Repositories(ctx context.Context) iter.Seq2[string, error] {
	c := call{method: http.MethodGet, path: "_catalog", query: pageQuery, scope: "registry:catalog:*", name: "list of repositories"}
	return func(yield func(string, error) bool) {
		for name, err := range r.names(ctx, c, validRepository) {
			if s, ok := errors.AsType[*statusError](err); ok && s.noCatalog() {
				err = unsupported{err}
			}
			if !yield(name, err) {
				return
			}
		}
	}
}

func (e *statusError) noCatalog() bool {
	switch e.status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return true
	}
	return false
}

// unsupported is the answer of an upstream that does not have what was asked for.
type unsupported struct{ error }

func (u unsupported) Unwrap() []error { return []error{u.error, errors.ErrUnsupported} }

func validRepository(name string) bool {
	ref, err := mirror.ParseReference("host.invalid/" + name)
	return err == nil && ref.Repository == name && ref.Tag == "" && ref.Digest == ""
}

// names lists what all pages hold and valid lets through.
func (r *Registry) names(ctx context.Context, c call, valid func(string) bool) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		l := &nameList{valid: valid, seen: map[string]bool{}, refused: map[string]bool{}}
		for n, more := 0, true; more; n++ {
			var err error
			if more, err = l.read(pages(ctx, r, c, readNames), yield); err == nil && n == maxPages {
				err = r.explain(c, fmt.Errorf("the list has more than %d pages", maxPages))
			}
			if err != nil {
				yield("", err)
				return
			}
			c.query = l.after()
		}
		for name := range l.refused {
			r.log.Warn("upstream lists names that cannot be; they are left out", "upstream", r.host, "request", c.String(), "names", len(l.refused), "one", plain(name))
			return
		}
	}
}

// nameList is what was read of a list of names.
type nameList struct {
	valid         func(string) bool
	seen, refused map[string]bool
	last          string // of the newest page
}

// read yields the names that are new, and reports whether there may be more
// than the pages led to: there are registries that cut lists off after as many
// names as were asked for, and do not say where they go on.
func (l *nameList) read(pages iter.Seq2[[]string, error], yield func(string, error) bool) (more bool, err error) {
	for page, err := range pages {
		if err != nil {
			return false, err
		}
		fresh := false
		for _, name := range page {
			switch {
			case l.seen[name] || l.refused[name]:
				continue
			case !l.valid(name):
				l.refused[name] = true
			default:
				l.seen[name] = true
				if !yield(name, nil) {
					return false, nil
				}
			}
			fresh = true
		}
		more = fresh && len(page) == pageSize
		if len(page) > 0 {
			l.last = page[len(page)-1]
		}
	}
	return more, nil
}

// after asks for what comes after the last name.
func (l *nameList) after() string { return pageQuery + "&last=" + url.QueryEscape(l.last) }

// readNames reads a page of tags or of the catalog.
func readNames(resp *http.Response) ([]string, error) {
	raw, err := readAll(resp, maxPage)
	if err != nil {
		return nil, err
	}
	var doc struct {
		Tags         []string `json:"tags"`
		Repositories []string `json:"repositories"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, notJSON(resp, raw)
	}
	return append(doc.Tags, doc.Repositories...), nil
}

// pages reads a list page by page. An error comes once, last.
func pages[T any](ctx context.Context, r *Registry, c call, read func(*http.Response) ([]T, error)) iter.Seq2[[]T, error] {
	return func(yield func([]T, error) bool) {
		seen := map[string]bool{}
		for len(seen) < maxPages {
			if seen[c.path+"?"+c.query] {
				yield(nil, r.explain(c, errors.New("the pages of the list run in a circle")))
				return
			}
			seen[c.path+"?"+c.query] = true
			page, next, more, err := onePage(ctx, r, c, read)
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(page, nil) || !more {
				return
			}
			c = next
		}
		yield(nil, r.explain(c, fmt.Errorf("the list has more than %d pages", maxPages)))
	}
}

func onePage[T any](ctx context.Context, r *Registry, c call, read func(*http.Response) ([]T, error)) (page []T, next call, more bool, err error) {
	err = r.exchange(ctx, c, func(resp *http.Response) error {
		var err error
		if page, err = read(resp); err == nil {
			next, more, err = r.nextPage(c, resp)
		}
		return err
	})
	return page, next, more, err
}

// nextPage is the call for the page after an answer; false after the last one.
func (r *Registry) nextPage(c call, resp *http.Response) (call, bool, error) {
	text, ok := field.NextLink(resp.Header.Values("Link"))
	if !ok {
		return c, false, nil
	}
	base := url.URL{Scheme: r.endpoint.Scheme, Host: r.endpoint.Host, Path: "/v2/" + c.path, RawQuery: c.query}
	next, err := base.Parse(text)
	if err != nil || next.User != nil {
		return c, false, errors.New("the link to the next page cannot be read")
	}
	if next.Host != r.endpoint.Host {
		return c, false, fmt.Errorf("the next page would be on another host, %s", plain(next.Host))
	}
	path, ok := strings.CutPrefix(next.Path, "/v2/")
	if !ok {
		return c, false, errors.New("the link to the next page leads out of the registry's API")
	}
	c.path, c.query = path, next.RawQuery
	return c, true, nil
}
