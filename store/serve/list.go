package serve

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/store/layout"
	"lastro/store/serve/spec"
)

// maxPage is how many names one answer lists at most.
const maxPage = 1000

// page is the part of a list that a client asks for.
type page struct {
	limit int // 0: no names
	last  string
}

func (x *exchange) page(limit int) (page, error) {
	q := x.r.URL.Query()
	p := page{limit: limit, last: q.Get("last")}
	text := q.Get("n")
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
		next := url.URL{Path: x.r.URL.Path, RawQuery: url.Values{"n": {strconv.Itoa(p.limit)}, "last": {names[len(names)-1]}}.Encode()}
		x.w.Header().Set("Link", fmt.Sprintf(`<%s>; rel="next"`, next.String()))
	}
	return x.json("application/json", body)
}

func (x *exchange) json(mediaType string, body any) error {
	x.w.Header().Set("Content-Type", mediaType)
	x.begun = true
	return json.NewEncoder(x.w).Encode(body)
}

// all is a page without an end: the distribution-spec lists all tags to who
// does not ask for a number.
const all = int(^uint(0) >> 1)

// tags lists the tags that can be pulled. A tag that cannot be read is listed:
// it is here, and pulling it says what is wrong.
func (x *exchange) tags() error {
	p, err := x.page(all)
	if err != nil {
		return err
	}
	if here, err := x.store.Serves(x.Repo); err != nil || !here {
		if err == nil {
			err = x.unknown()
		}
		return err
	}
	names, more := []string{}, false
	for tag, err := range x.store.Tags(x.r.Context(), x.Repo) {
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
	return x.list(p, names, more, map[string]any{"name": x.Repo, "tags": names})
}

// catalog lists the repositories, in the order of their paths.
func (x *exchange) catalog() error {
	p, err := x.page(maxPage)
	if err != nil {
		return err
	}
	names, more := []string{}, false
	for repo, err := range x.store.Repositories(x.r.Context()) {
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
	return x.list(p, names, more, map[string]any{"repositories": names})
}

// pathLess orders as a walk does: what is in a folder before the folder's next
// neighbour.
func pathLess(a, b string) bool {
	return strings.ReplaceAll(a, "/", "\x00") < strings.ReplaceAll(b, "/", "\x00")
}

// referrers answers from the ledger, as the distribution-spec says: an empty
// index when there are none.
func (x *exchange) referrers(subject digest.Digest) error {
	list, err := x.store.Referrers(x.r.Context(), x.Repo, subject)
	if err != nil {
		return err
	}
	if kind := x.r.URL.Query().Get("artifactType"); kind != "" {
		list = slices.DeleteFunc(list, func(d ocispec.Descriptor) bool { return d.ArtifactType != kind })
		x.w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	if list == nil {
		list = []ocispec.Descriptor{}
	}
	return x.json(ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: list,
	})
}
