package serve

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"lastro/store/layout"
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
	if here, err := x.store.Serves(x.repo); err != nil || !here {
		if err == nil {
			err = x.unknownName()
		}
		return err
	}
	names, more := []string{}, false
	for tag, err := range x.store.Tags(x.r.Context(), x.repo) {
		if err != nil && tag.Name == "" {
			return err
		}
		if tag.Name <= p.last || layout.CheckTag(tag.Name) != nil {
			continue
		}
		if more = len(names) == p.limit; more {
			break
		}
		names = append(names, tag.Name)
	}
	return x.list(p, names, more, struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}{x.Repo, names})
}

// catalog lists the repositories that the client may see, ordered by name.
func (x *exchange) catalog() error {
	p, err := x.page(maxPage)
	if err != nil {
		return err
	}
	names, more := []string{}, false
	for repo, err := range x.store.Ledger().Repositories(x.r.Context()) {
		if err != nil {
			return err
		}
		if repo <= p.last || !x.shows(repo) {
			continue
		}
		if more = len(names) == p.limit; more {
			break
		}
		names = append(names, repo)
	}
	return x.list(p, names, more, struct {
		Repositories []string `json:"repositories"`
	}{names})
}

// shows reports whether the catalog has a repository. The ledger knows of one
// before it is served.
func (x *exchange) shows(repo string) bool {
	if x.o.Access != nil && !x.o.Access.Visible(x.r, repo) {
		return false
	}
	here, err := x.store.Serves(repo)
	return here || err != nil
}
