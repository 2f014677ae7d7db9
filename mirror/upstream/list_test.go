package upstream

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// collect reads a list to its end or its error.
func collect(list iter.Seq2[string, error]) (all []string, err error) {
	for name, err := range list {
		if err != nil {
			return all, err
		}
		all = append(all, name)
	}
	return all, nil
}

// paged is an upstream whose pages link to each other.
func paged(pages map[string]string, links map[string]string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		last := r.FormValue("last")
		if to := links[last]; to != "" {
			w.Header().Set("Link", "<"+strings.ReplaceAll(to, "HOST", r.Host)+`>; rel="next"`)
		}
		send(pages[last], "Content-Type", "application/json")(w, r)
	}
}

func TestAListThatIsCutOffWithoutALinkIsContinued(t *testing.T) {
	var all []string
	for i := range 2 * pageSize {
		all = append(all, fmt.Sprintf("%05d", i))
	}
	for _, c := range []struct {
		name           string
		tags           []string
		deaf           bool // gives the first page whatever is asked
		want, requests int
	}{
		{"fewer than a page", all[:pageSize-1], false, pageSize - 1, 1},
		{"a page", all[:pageSize], false, pageSize, 2},
		{"a page and a half", all[:pageSize*3/2], false, pageSize * 3 / 2, 2},
		{"two pages", all, false, 2 * pageSize, 3},
		{"a registry that knows no last", all[:pageSize], true, pageSize, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			requests := 0
			got, err := collect(serve(t, func(w http.ResponseWriter, r *http.Request) {
				requests++
				from := 0
				if last := r.FormValue("last"); last != "" && !c.deaf {
					from, _ = slices.BinarySearch(c.tags, last)
					from++
				}
				raw, err := json.Marshal(map[string][]string{"tags": c.tags[from:min(len(c.tags), from+pageSize)]})
				if err != nil {
					t.Error(err)
				}
				send(string(raw), "Content-Type", "application/json")(w, r)
			}).Tags(t.Context(), "a"))
			if err != nil || len(got) != c.want || requests != c.requests {
				t.Errorf("got %d tags in %d requests, %v; want %d in %d", len(got), requests, err, c.want, c.requests)
			}
		})
	}
}

func TestTagsAreListedPageByPage(t *testing.T) {
	const first, second = `{"name":"a","tags":["1","2"]}`, `{"tags":["2","3"]}`
	for _, c := range []struct {
		name  string
		pages map[string]string
		links map[string]string
		want  string
		err   string
	}{
		{"one page", map[string]string{"": first}, nil, "1 2", ""},
		{"a relative link, and each tag once", map[string]string{"": first, "2": second}, map[string]string{"": "/v2/a/tags/list?last=2"}, "1 2 3", ""},
		{"a link without a path", map[string]string{"": first, "2": second}, map[string]string{"": "?last=2"}, "1 2 3", ""},
		{"an absolute link to the same host", map[string]string{"": first, "2": second}, map[string]string{"": "https://HOST/v2/a/tags/list?last=2"}, "1 2 3", ""},
		{"an empty page between", map[string]string{"": first, "2": `{}`, "x": second}, map[string]string{"": "?last=2", "2": "?last=x"}, "1 2 3", ""},
		{"no tags", map[string]string{"": `{"name":"a","tags":null}`}, nil, "", ""},
		{"names that no tag has", map[string]string{"": `{"tags":["ok","../x","","-a","a b"]}`}, nil, "ok", ""},
		{"a link to another host", map[string]string{"": first}, map[string]string{"": "http://elsewhere.test/v2/a/tags/list?last=2"}, "", "on another host, elsewhere.test"},
		{"a link out of the API", map[string]string{"": first}, map[string]string{"": "/admin?last=2"}, "", "leads out"},
		{"a link that goes up", map[string]string{"": first}, map[string]string{"": "/v2/../admin"}, "", "leads out"},
		{"a page that follows itself", map[string]string{"": first, "2": second}, map[string]string{"": "?last=2", "2": "?last=2"}, "1 2 3", "in a circle"},
		{"two pages that follow each other", map[string]string{"": first, "2": second, "3": second}, map[string]string{"": "?last=2", "2": "?last=3", "3": "?last=2"}, "1 2 3", "in a circle"},
		{"a web page", map[string]string{"": "<html>"}, nil, "", "web page"},
		{"something else", map[string]string{"": "tags"}, nil, "", "not JSON"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := collect(serve(t, paged(c.pages, c.links)).Tags(t.Context(), "a"))
			if strings.Join(got, " ") != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if c.err != "" {
				wantError(t, err, c.err, "GET tags of a")
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestNamesThatCannotBeAreLoggedOnce(t *testing.T) {
	var log bytes.Buffer
	r := serve(t, send(`{"tags":["a b","\u001b[2J","a b"]}`))
	r.log = slog.New(slog.NewTextHandler(&log, nil))
	if _, err := collect(r.Tags(t.Context(), "a")); err != nil {
		t.Fatal(err)
	}
	if strings.Count(log.String(), "\n") != 1 || !strings.Contains(log.String(), "names=2") || strings.Contains(log.String(), "\x1b") {
		t.Errorf("log: %s", log.String())
	}
}

func TestAHundredThousandTagsOnOnePageAreRead(t *testing.T) {
	tags := make([]string, 100_000)
	for i := range tags {
		tags[i] = fmt.Sprintf("%016d", i)
	}
	page, _ := json.Marshal(map[string]any{"tags": tags})
	got, err := collect(serve(t, send(string(page))).Tags(t.Context(), "a"))
	if !slices.Equal(got, tags) || err != nil {
		t.Errorf("got %d tags, %v", len(got), err)
	}
}

func TestAPageThatIsTooLargeIsRefused(t *testing.T) {
	_, err := collect(serve(t, send(strings.Repeat(" ", maxPage+1))).Tags(t.Context(), "a"))
	wantError(t, err, "more than the 32 MiB")
}

func TestAListThatDoesNotEndIsRefused(t *testing.T) {
	n := 0
	_, err := collect(inProcess(func(w http.ResponseWriter, r *http.Request) {
		n++
		send(`{"tags":[]}`, "Link", fmt.Sprintf(`<?last=%d>; rel="next"`, n))(w, r)
	}).Tags(t.Context(), "a"))
	wantError(t, err, "more than 10000 pages")
}

func TestAReaderMayStopAListEarly(t *testing.T) {
	r := serve(t, paged(map[string]string{"": `{"tags":["1","2"]}`}, map[string]string{"": "?last=2"}))
	for range r.Tags(t.Context(), "a") {
		break
	}
	if r.Requests() != 1 || !r.slots.idle(defaultConnections) {
		t.Errorf("%d requests, or a slot is held", r.Requests())
	}
}

func TestTagsOfWhatIsNotThere(t *testing.T) {
	_, err := collect(serve(t, refuse(404, `{"errors":[{"code":"NAME_UNKNOWN"}]}`)).Tags(t.Context(), "a"))
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestRepositoriesAreListed(t *testing.T) {
	r := serve(t, paged(map[string]string{"": `{"repositories":["a","b/c","B","../x","a:b"]}`, "b": `{"repositories":["d"]}`}, map[string]string{"": "/v2/_catalog?last=b"}))
	got, err := collect(r.Repositories(t.Context()))
	if strings.Join(got, " ") != "a b/c d" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestReferrersAreListedIfThereAreAny(t *testing.T) {
	one := `{"digest":"` + digest.FromString("1").String() + `","size":1}`
	many := strings.Repeat(one+",", maxReferrers) + one
	for _, c := range []struct {
		name        string
		handler     http.HandlerFunc
		want        int
		err         string
		unsupported bool
	}{
		{"two pages", paged(map[string]string{"": `{"manifests":[` + one + `]}`, "1": `{"manifests":[` + one + `]}`}, map[string]string{"": "?last=1"}), 2, "", false},
		{"none", send(`{"schemaVersion":2,"manifests":[]}`), 0, "", false},
		{"none, written as null", send(`{"manifests":null}`, "Content-Type", ocispec.MediaTypeImageIndex), 0, "", false},
		{"too many", send(`{"manifests":[` + many + `]}`), 0, "more than 10000 referrers", false},
		{"a digest that is none", send(`{"manifests":[{"digest":"x"}]}`), 0, `digest "x"`, false},
		{"no API", refuse(404, ""), 0, "404", true},
		{"an API that refuses the path", refuse(400, ""), 0, "400", true},
		{"a second page that is not there", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.RawQuery != "" {
				refuse(404, "")(w, r)
				return
			}
			send(`{"manifests":[`+one+`]}`, "Link", `<?page=2>; rel="next"`)(w, r)
		}, 0, "404 Not Found", false},
		{"a web page", send("<html>"), 0, "no referrers API", true},
		{"another document", send("{}"), 0, "no referrers API", true},
		{"an index that is cut off", send(`{"manifests":[`, "Content-Type", ocispec.MediaTypeImageIndex), 0, "what is not JSON", false},
		{"a refusal is not the lack of an API", refuse(403, ""), 0, "403", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := serve(t, c.handler).Referrers(t.Context(), "a", indexDigest)
			if len(got) != c.want || (err == nil) != (c.err == "") || errors.Is(err, errors.ErrUnsupported) != c.unsupported {
				t.Fatalf("got %d, %v", len(got), err)
			}
			if c.err != "" {
				wantError(t, err, c.err, "GET referrers of "+indexDigest.String()+" of a")
			}
		})
	}
}
