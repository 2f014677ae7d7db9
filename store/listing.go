package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"lastro/store/layout"
)

// maxPage is how many names one answer lists at most.
const maxPage = 1000

// page is the part of a list that a client asks for.
type page struct {
	limit int // 0: no names
	last  string
}

func parsePage(r *http.Request, limit int) (page, error) {
	q := r.URL.Query()
	p := page{limit: limit, last: q.Get("last")}
	text := q.Get("n")
	if text == "" {
		return p, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return p, &refusal{http.StatusBadRequest, "PAGINATION_NUMBER_INVALID", fmt.Sprintf("n is %q, and should be a number from 0", text)}
	}
	p.limit = min(n, maxPage)
	return p, nil
}

// write answers with names, of which the page is full, and says where to go on
// when more follow.
func (p page) write(w http.ResponseWriter, r *http.Request, names []string, more bool, body any) error {
	if more && len(names) > 0 {
		next := url.URL{Path: r.URL.Path, RawQuery: url.Values{"n": {strconv.Itoa(p.limit)}, "last": {names[len(names)-1]}}.Encode()}
		w.Header().Set("Link", fmt.Sprintf(`<%s>; rel="next"`, next.String()))
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(body) // the client has gone
	return nil
}

// all is a page without an end: the distribution-spec lists all tags to who
// does not ask for a number.
const all = int(^uint(0) >> 1)

// serveTags lists the tags that can be pulled. A tag that cannot be read is
// listed: it is here, and pulling it says what is wrong.
func (s *Store) serveTags(w http.ResponseWriter, r *http.Request, repo string) error {
	p, err := parsePage(r, all)
	if err != nil {
		return err
	}
	if _, err := s.tree.Stat(layout.Repositories + "/" + repo + "/_manifests"); err != nil {
		return err
	}
	entries, err := s.tree.Entries(layout.Tags(repo))
	if err != nil {
		return err
	}
	names, more := []string{}, false
	for _, e := range entries {
		if e.Name() <= p.last || !s.listed(repo, e) {
			continue
		}
		if more = len(names) == p.limit; more {
			break
		}
		names = append(names, e.Name())
	}
	return p.write(w, r, names, more, map[string]any{"name": repo, "tags": names})
}

func (s *Store) listed(repo string, e fs.DirEntry) bool {
	_, err := s.tag(repo, e)
	return !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errForeign)
}

// serveCatalog lists the repositories, in the order of their paths.
func (s *Store) serveCatalog(w http.ResponseWriter, r *http.Request) error {
	p, err := parsePage(r, maxPage)
	if err != nil {
		return err
	}
	names, more := []string{}, false
	for repo, err := range s.Repositories(r.Context()) {
		if err != nil {
			return err
		}
		if !pathLess(p.last, repo) || layout.CheckRepository(repo) != nil {
			continue
		}
		if more = len(names) == p.limit; more {
			break
		}
		names = append(names, repo)
	}
	return p.write(w, r, names, more, map[string]any{"repositories": names})
}

// pathLess orders as a walk does: what is in a folder before the folder's next
// neighbour.
func pathLess(a, b string) bool {
	return strings.ReplaceAll(a, "/", "\x00") < strings.ReplaceAll(b, "/", "\x00")
}
