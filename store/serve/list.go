package serve

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"lastro/store/serve/spec"
)

// maxPage is how many names one answer lists at most to who asks for a number,
// and of the catalog to everybody.
const maxPage = 1000

// page is the part of a list that a client asks for.
type page struct {
	limit int // 0: no names
	last  string
}

func (x *exchange) page(limit int) (page, error) {
	p := page{limit: limit, last: param(x.r, "last")}
	text := param(x.r, "n")
	if text == "" {
		return p, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return p, &spec.Refusal{Status: http.StatusBadRequest, Code: spec.PageNumberInvalid, Message: fmt.Sprintf("n is %q, and should be a number from 0", text)}
	}
	p.limit = min(n, maxPage)
	return p, nil
}

// list answers with names, of which the page is full, and says where to go on
// when more follow.
func (x *exchange) list(p page, names []string, more bool, body any) error {
	if more && len(names) > 0 {
		x.next(url.Values{"n": {strconv.Itoa(p.limit)}, "last": {names[len(names)-1]}})
	}
	return x.json("application/json", body)
}

// next tells the client where its list goes on.
func (x *exchange) next(query url.Values) {
	if ns := param(x.r, "ns"); ns != "" {
		query.Set("ns", ns)
	}
	to := url.URL{Path: x.r.URL.Path, RawQuery: query.Encode()}
	x.w.Header().Set("Link", fmt.Sprintf(`<%s>; rel="next"`, to.String()))
}

func (x *exchange) json(mediaType string, body any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return x.send(mediaType, append(raw, '\n'))
}

// all is a page without an end: the distribution-spec lists all tags to who
// does not ask for a number.
const all = int(^uint(0) >> 1)

// tags lists the tags of a repository, under the name that it was asked by.
func (x *exchange) tags() error {
	p, err := x.page(all)
	if err != nil {
		return err
	}
	names, more, err := x.lists.Tags(x.r.Context(), x.repo, p.last, p.limit)
	if err != nil {
		return err
	}
	if names == nil {
		names = []string{}
	}
	return x.list(p, names, more, struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}{x.Repo, names})
}

// catalog lists the repositories that the client may see, ordered by path.
func (x *exchange) catalog() error {
	p, err := x.page(maxPage)
	if err != nil {
		return err
	}
	names, more, last := []string{}, p.limit > 0, p.last
	for more && len(names) < p.limit {
		var page []string
		page, more, err = x.lists.Repositories(x.r.Context(), last, p.limit-len(names))
		if err != nil {
			return err
		}
		if len(page) > 0 {
			last = page[len(page)-1]
		}
		names = append(names, slices.DeleteFunc(page, x.hides)...)
	}
	return x.list(p, names, more, struct {
		Repositories []string `json:"repositories"`
	}{names})
}

// hides reports whether the catalog is without a repository, which is not for
// the client.
func (x *exchange) hides(repo string) bool {
	return x.o.Access != nil && !x.o.Access.Visible(x.r, repo)
}
