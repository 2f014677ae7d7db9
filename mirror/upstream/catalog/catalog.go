package catalog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"lastro/mirror"
)

// Catalog lists the repositories of one host for which [Address] knows a list.
type Catalog struct {
	Host    string // as in image names
	Address *url.URL
	// Do sends a request, again where that may help. It follows redirects of GET
	// only, and leaves the credentials behind when they leave the host.
	Do func(*http.Request) (*http.Response, error)
	// Login is the name and password for the host, "" without. It is called once
	// for each list, and once more when Renew says so.
	Login func(context.Context) (username, password string, err error)
	// Renew is called when the list refuses what Login gave, once for each list. It
	// reports whether Login may give something else now. nil: it does not.
	Renew func(context.Context) bool
	Log   *slog.Logger // nil: nothing is logged
}

// Address is where the list of a host's repositories is. It reports false for
// hosts that have none but _catalog.
func Address(host string) (string, bool) {
	a, ok := apiOf(host)
	return a.address, ok
}

// api is how one host lists repositories.
type api struct {
	address string
	// authorize is what requests carry.
	authorize func(context.Context, Catalog) (http.Header, error)
	// places are where the list of a namespace may be, below the address.
	places func(namespace string) []string
	query  string
	read   func(*http.Response, []byte) (page, error)
	denied string // what to do when it is refused
}

// page is one page of a list.
type page struct {
	names []string // without namespace
	next  string   // "" after the last one
}

func apiOf(host string) (api, bool) {
	switch host {
	case mirror.DockerHub:
		return dockerHub(), true
	case "ghcr.io":
		return ghcr(), true
	}
	return api{}, false
}

// Repositories lists the repositories of a namespace, each once, with the
// namespace. Of a deeper one, org/team, the first part counts: more may come than
// was asked for. A namespace that is not there is fs.ErrNotExist, a host without a
// list errors.ErrUnsupported, and a list that wants to be read later a
// [mirror.ThrottledError].
func (c Catalog) Repositories(ctx context.Context, namespace string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		namespace, _, _ = strings.Cut(namespace, "/")
		seen, refused := map[string]bool{}, map[string]bool{}
		for names, err := range c.pages(ctx, namespace) {
			if err != nil {
				yield("", err)
				return
			}
			for _, name := range names {
				full := namespace + "/" + name
				switch {
				case seen[full] || refused[full]:
				case !valid(full):
					refused[full] = true
				default:
					seen[full] = true
					if !yield(full, nil) {
						return
					}
				}
			}
		}
		c.report(refused)
	}
}

// valid reports whether a repository may be called so.
func valid(name string) bool {
	ref, err := mirror.ParseReference("host.invalid/" + name)
	return err == nil && ref.Repository == name && ref.Tag == "" && ref.Digest == ""
}

func (c Catalog) report(refused map[string]bool) {
	for name := range refused {
		if c.Log != nil {
			c.Log.Warn("upstream lists names that cannot be; they are left out", "upstream", c.Host, "names", len(refused), "one", plain(name))
		}
		return
	}
}

const maxPages = 1000

// pages are what a namespace has. An error comes once, last.
func (c Catalog) pages(ctx context.Context, namespace string) iter.Seq2[[]string, error] {
	return func(yield func([]string, error) bool) {
		r, at, p, err := c.begin(ctx, namespace)
		seen := map[string]bool{}
		for err == nil {
			seen[at.String()] = true
			if !yield(p.names, nil) || p.next == "" {
				return
			}
			switch at, err = r.next(at, p.next); {
			case err != nil:
			case seen[at.String()]:
				err = errors.New("the pages of the list run in a circle")
			case len(seen) == maxPages:
				err = fmt.Errorf("the list has more than %d pages", maxPages)
			default:
				p, err = r.page(ctx, at)
			}
		}
		yield(nil, fmt.Errorf("upstream %s: list of %s: %w", c.Host, cmp.Or(namespace, "all repositories"), err))
	}
}

// begin reads the first page, from the first place that has one.
func (c Catalog) begin(ctx context.Context, namespace string) (r reader, at *url.URL, p page, err error) {
	a, ok := apiOf(c.Host)
	switch {
	case !ok:
		return r, nil, p, fmt.Errorf("%w: %s has no list but _catalog", errors.ErrUnsupported, c.Host)
	case !valid(namespace + "/app"):
		return r, nil, p, fmt.Errorf("only the repositories of one namespace are listed: begin the pattern with it (example: %s/%s/**)", c.Host, example(c.Host))
	}
	r = reader{Catalog: c, api: a}
	if err := r.login(ctx); err != nil {
		return r, nil, p, err
	}
	for _, place := range a.places(namespace) {
		at = c.Address.JoinPath(place)
		at.RawQuery = a.query
		if p, err = r.page(ctx, at); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return r, at, p, err
}

func example(host string) string {
	if host == mirror.DockerHub {
		return "library"
	}
	return "org"
}
