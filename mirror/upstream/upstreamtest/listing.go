package upstreamtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"

	"lastro/mirror/sample"
)

// RepeatingPages lists tags in pages that each come twice.
func RepeatingPages(size int) Fault {
	return pages(size, func(all [][]string) [][]string {
		var twice [][]string
		for _, p := range all {
			twice = append(twice, p, p)
		}
		return twice
	})
}

// ReorderedPages lists tags from the last to the first.
func ReorderedPages(size int) Fault {
	return pages(size, func(all [][]string) [][]string {
		for _, p := range all {
			slices.Reverse(p)
		}
		slices.Reverse(all)
		return all
	})
}

// CirclingPages lists tags in pages of which the last leads to the first.
func CirclingPages(size int) Fault {
	return pages(size, func(all [][]string) [][]string { return append(all, nil) })
}

// pages lists tags page by page, in the order that arrange makes of them. After
// an empty page comes the first one.
func pages(size int, arrange func([][]string) [][]string) Fault {
	s := Strike{Method: http.MethodGet, Kind: sample.KindTags}
	return s.on(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, r)
		var list struct {
			Name string   `json:"name"`
			Tags []string `json:"tags"`
		}
		if rec.Code != http.StatusOK || json.Unmarshal(rec.Body.Bytes(), &list) != nil {
			refuse(w, rec.Code, "NAME_UNKNOWN", "repository name not known to registry")
			return
		}
		all := arrange(slices.Collect(slices.Chunk(list.Tags, size)))
		n, _ := strconv.Atoi(r.URL.Query().Get("page")) // the first has none
		if list.Tags = all[min(n, len(all)-1)]; n+1 < len(all) {
			to := n + 1
			if all[to] == nil {
				to = 0
			}
			w.Header().Set("Link", fmt.Sprintf(`<%s?page=%d>; rel="next"`, r.URL.Path, to))
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(list) // to whoever still listens
	})
}

// MovingTag answers requests that are struck as if a tag were where another is.
func MovingTag(s Strike, to string) Fault {
	return s.on(func(next http.Handler, w http.ResponseWriter, r *http.Request) {
		of := sample.RequestOf(r)
		r = r.Clone(r.Context())
		r.URL.Path = "/v2/" + of.Repo + "/manifests/" + to
		next.ServeHTTP(w, r)
	})
}
