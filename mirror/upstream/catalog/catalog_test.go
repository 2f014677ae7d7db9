package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"lastro/mirror"
)

const (
	password = "secret-password"
	hubJWT   = "secret-token-of-the-api"
)

// at is a catalog at a server, without a login.
func at(t *testing.T, host string, h http.HandlerFunc) Catalog {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	u, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	return Catalog{Host: host, Address: u, Do: srv.Client().Do, Login: anonymous}
}

func anonymous(context.Context) (string, string, error) { return "", "", nil }

func known(context.Context) (string, string, error) { return "me", password, nil }

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

// wantError checks that an error holds all of the words, and no secret.
func wantError(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q lacks %q", err, w)
		}
	}
	if strings.Contains(err.Error(), "secret-") {
		t.Errorf("%q tells a secret", err)
	}
}

func refuse(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// hub is Docker Hub's API with one namespace. A page links to what next says,
// where HOST is the server itself.
func hub(pages, next map[string]string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/namespaces/library/repositories" || r.FormValue("page_size") != "100" {
			refuse(http.StatusNotFound, `{"message":"object not found","errinfo":{}}`)(w, r)
			return
		}
		page := r.FormValue("page")
		var names []map[string]string
		for name := range strings.FieldsSeq(pages[page]) {
			names = append(names, map[string]string{"name": name, "namespace": "library"})
		}
		doc := map[string]any{"count": 3, "next": nil, "results": names}
		if to := next[page]; to != "" {
			doc["next"] = strings.ReplaceAll(to, "HOST", r.Host)
		}
		if names == nil {
			doc["results"] = []string{}
		}
		_ = json.NewEncoder(w).Encode(doc)
	}
}

const second = "https://HOST/v2/namespaces/library/repositories?page=2&page_size=100"

func TestDockerHubIsListedPageByPage(t *testing.T) {
	for _, c := range []struct {
		name        string
		pages, next map[string]string
		namespace   string
		want        string
		err         string
	}{
		{"one page", map[string]string{"": "alpine debian"}, nil, "library", "library/alpine library/debian", ""},
		{"two pages, and each name once", map[string]string{"": "alpine debian", "2": "debian nginx"}, map[string]string{"": second}, "library", "library/alpine library/debian library/nginx", ""},
		{"an empty namespace", nil, nil, "library", "", ""},
		{"part of a namespace", map[string]string{"": "alpine"}, nil, "library/alp", "library/alpine", ""},
		{"names that no repository has", map[string]string{"": "ok ../x a:b A"}, nil, "library", "library/ok", ""},
		{"a namespace that is not there", nil, nil, "nobody", "", "404 Not Found: object not found"},
		{"a page on another host", map[string]string{"": "alpine"}, map[string]string{"": "https://elsewhere.test/v2/namespaces/library/repositories?page=2"}, "library", "library/alpine", "on another host, elsewhere.test"},
		{"a page that a user is named for", map[string]string{"": "alpine"}, map[string]string{"": "https://me:secret-x@HOST/"}, "library", "library/alpine", "cannot be read"},
		{"a page that follows itself", map[string]string{"": "alpine", "2": "nginx"}, map[string]string{"": second, "2": second}, "library", "library/alpine library/nginx", "in a circle"},
		{"no namespace", nil, nil, "", "", "begin the pattern with it (example: docker.io/library/**)"},
		{"a namespace that is a way out", nil, nil, "..", "", "begin the pattern with it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := collect(at(t, "docker.io", hub(c.pages, c.next)).Repositories(t.Context(), c.namespace))
			if strings.Join(got, " ") != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if c.err != "" {
				wantError(t, err, c.err, "upstream docker.io: list of ")
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestANamespaceThatIsNotThereIsMissing(t *testing.T) {
	_, err := collect(at(t, "docker.io", hub(nil, nil)).Repositories(t.Context(), "nobody"))
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestAListWithoutEndIsRefused(t *testing.T) {
	n := 0
	_, err := collect(at(t, "docker.io", func(w http.ResponseWriter, r *http.Request) {
		n++
		_, _ = fmt.Fprintf(w, `{"results":[],"next":"http://%s/?page=%d"}`, r.Host, n)
	}).Repositories(t.Context(), "library"))
	wantError(t, err, "more than 1000 pages")
}

func TestAPageThatIsTooLargeIsRefused(t *testing.T) {
	_, err := collect(at(t, "docker.io", refuse(200, strings.Repeat(" ", maxPage+1))).Repositories(t.Context(), "library"))
	wantError(t, err, "more than the 8 MiB")
}

func TestWhatIsNoListIsRefused(t *testing.T) {
	for _, host := range []string{"docker.io", "ghcr.io"} {
		for _, body := range []string{"<html>", `{"message":"hello"}`, `"x"`, ""} {
			c := at(t, host, refuse(200, body))
			if host == "ghcr.io" {
				c.Login = known
			}
			_, err := collect(c.Repositories(t.Context(), "org"))
			wantError(t, err, "not a list of repositories")
		}
	}
}

func TestAReaderMayStopAListEarly(t *testing.T) {
	requests := 0
	c := at(t, "docker.io", func(w http.ResponseWriter, r *http.Request) {
		requests++
		hub(map[string]string{"": "a b"}, map[string]string{"": second})(w, r)
	})
	for range c.Repositories(t.Context(), "library") {
		break
	}
	if requests != 1 {
		t.Errorf("%d requests", requests)
	}
}

// privateHub wants a token of the API, which it gives for a password.
func privateHub(t *testing.T) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/auth/token" {
			var login struct{ Identifier, Secret string }
			if err := json.NewDecoder(r.Body).Decode(&login); err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("Authorization") != "" {
				t.Errorf("login: %s %v, %v", r.Method, r.Header, err)
			}
			if login.Identifier != "me" || login.Secret != password {
				refuse(http.StatusUnauthorized, `{"detail":"wrong: `+login.Secret+`"}`)(w, r)
				return
			}
			_, _ = io.WriteString(w, `{"access_token":"`+hubJWT+`"}`)
			return
		}
		if r.Header.Get("Authorization") != "Bearer "+hubJWT {
			t.Errorf("without the token: %v", r.Header)
		}
		hub(map[string]string{"": "mine"}, nil)(w, r)
	}
}

func TestDockerHubListsPrivateRepositoriesToWhoLogsIn(t *testing.T) {
	c := at(t, "docker.io", privateHub(t))
	c.Login = known
	got, err := collect(c.Repositories(t.Context(), "library"))
	if strings.Join(got, " ") != "library/mine" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestALoginThatDockerHubRefusesIsTold(t *testing.T) {
	c := at(t, "docker.io", privateHub(t))
	c.Login = func(context.Context) (string, string, error) { return "you", password, nil }
	_, err := collect(c.Repositories(t.Context(), "library"))
	wantError(t, err, "login: ", "401 Unauthorized: wrong: …", "upstreams.docker.io.credentials")
}

func TestALoginThatBringsNoTokenIsTold(t *testing.T) {
	for _, answer := range []string{"{}", "<html>", `{"access_token":"a\r\nb"}`} {
		c := at(t, "docker.io", refuse(200, answer))
		c.Login = known
		_, err := collect(c.Repositories(t.Context(), "library"))
		wantError(t, err, "login: ", "no token")
	}
}

// gitHub has packages of one organisation, or of one user.
func gitHub(t *testing.T, owners string, pages map[string]string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+password || r.Header.Get("Accept") != "application/vnd.github+json" || r.Header.Get("X-GitHub-Api-Version") == "" {
			t.Errorf("request without %v", r.Header)
		}
		known := r.URL.Path == "/"+owners+"/org/packages" || r.URL.Path == "/organizations/17/packages"
		if !known || r.FormValue("package_type") != "container" || r.FormValue("per_page") != "100" {
			refuse(http.StatusNotFound, `{"message":"Not Found"}`)(w, r)
			return
		}
		page := r.FormValue("page")
		if page == "" {
			self := "https://" + r.Host + "/organizations/17/packages?package_type=container&per_page=100&page="
			w.Header().Set("Link", "<"+self+`2>; rel="next", <`+self+`2>; rel="last"`)
		}
		_, _ = io.WriteString(w, pages[page])
	}
}

func TestGHCRIsListedForOrganisationsAndUsers(t *testing.T) {
	pages := map[string]string{"": `[{"name":"app","package_type":"container"},{"name":"team/web"}]`, "2": `[{"name":"Charts"}]`}
	for _, owners := range []string{"orgs", "users"} {
		t.Run(owners, func(t *testing.T) {
			c := at(t, "ghcr.io", gitHub(t, owners, pages))
			c.Login = known
			got, err := collect(c.Repositories(t.Context(), "org"))
			if strings.Join(got, " ") != "org/app org/team/web org/charts" || err != nil {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

func TestGHCRWithoutATokenIsRefusedBeforeItIsAsked(t *testing.T) {
	c := at(t, "ghcr.io", func(http.ResponseWriter, *http.Request) { t.Error("it was asked") })
	_, err := collect(c.Repositories(t.Context(), "org"))
	wantError(t, err, "upstream ghcr.io: list of org: GHCR lists packages only with a token: set upstreams.ghcr.io.credentials, or name the repositories: ghcr.io/org/{app,web}")
	c.Login = func(context.Context) (string, string, error) { return "me", "secret-\r\nX: y", nil }
	_, err = collect(c.Repositories(t.Context(), "org"))
	wantError(t, err, "not a token of GitHub")
}

func TestALoginThatFailsIsTold(t *testing.T) {
	for _, host := range []string{"docker.io", "ghcr.io"} {
		c := at(t, host, func(http.ResponseWriter, *http.Request) { t.Error("it was asked") })
		c.Login = func(context.Context) (string, string, error) { return "", "", errors.New("the helper is broken") }
		_, err := collect(c.Repositories(t.Context(), "org"))
		wantError(t, err, "the helper is broken")
	}
}

func TestARefusalNamesTheWayOut(t *testing.T) {
	for _, c := range []struct {
		name, host string
		handler    http.HandlerFunc
		want       []string
	}{
		{"GHCR, a token that may not read packages", "ghcr.io", refuse(403, `{"message":"You need at least read:packages scope"}`), []string{"403 Forbidden: You need", "classic token", "{app,web}"}},
		{"GHCR, a wrong token that comes back", "ghcr.io", refuse(401, `{"message":"Bad credentials `+password+`"}`), []string{"401 Unauthorized: Bad credentials …", "upstreams.ghcr.io.credentials"}},
		{"GHCR, neither an organisation nor a user", "ghcr.io", refuse(404, `{"message":"Not Found"}`), []string{"404", "may see it"}},
		{"Docker Hub, a closed namespace", "docker.io", refuse(403, `{"message":"access denied"}`), []string{"403 Forbidden: access denied", "upstreams.docker.io.credentials"}},
		{"a fault", "docker.io", refuse(500, "<html>"), []string{"500 Internal Server Error"}},
		{"a status that is none", "docker.io", refuse(599, ""), []string{"599 unknown status"}},
		{"control characters", "docker.io", refuse(500, `{"detail":"a\u001b[2J\nb`+strings.Repeat("x", 500)+`"}`), []string{"a [2J bxxx", "x…"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			catalog := at(t, c.host, c.handler)
			if c.host == "ghcr.io" {
				catalog.Login = known
			}
			_, err := collect(catalog.Repositories(t.Context(), "org"))
			wantError(t, err, append(c.want, "upstream "+c.host+": list of org: ")...)
		})
	}
}

func TestAListThatIsLimitedSaysUntilWhen(t *testing.T) {
	soon := time.Now().Add(10 * time.Minute)
	for _, c := range []struct {
		name, host string
		handler    http.HandlerFunc
		want       time.Duration
	}{
		{"seconds", "docker.io", refuse(429, "", "Retry-After", "600"), 10 * time.Minute},
		{"a date", "docker.io", refuse(429, "", "Retry-After", soon.UTC().Format(http.TimeFormat)), 10 * time.Minute},
		{"a moment, as Docker Hub says it", "docker.io", refuse(429, "", "X-Retry-After", fmt.Sprint(soon.Unix())), 10 * time.Minute},
		{"the reset of the limit", "ghcr.io", refuse(403, `{"message":"API rate limit exceeded"}`, "X-RateLimit-Remaining", "0", "X-RateLimit-Reset", fmt.Sprint(soon.Unix())), 10 * time.Minute},
		{"a second limit of GitHub", "ghcr.io", refuse(403, "", "Retry-After", "600"), 10 * time.Minute},
		{"nothing", "docker.io", refuse(429, ""), defaultPause},
		{"what is past", "docker.io", refuse(429, "", "Retry-After", "0", "X-RateLimit-Reset", "1600000000"), defaultPause},
		{"nonsense", "docker.io", refuse(429, "", "Retry-After", "soon"), defaultPause},
		{"for ever", "docker.io", refuse(429, "", "Retry-After", "9223372036854775807"), maxPause},
		{"thirty years", "docker.io", refuse(429, "", "Retry-After", "999999999"), maxPause},
	} {
		t.Run(c.name, func(t *testing.T) {
			catalog := at(t, c.host, c.handler)
			if c.host == "ghcr.io" {
				catalog.Login = known
			}
			_, err := collect(catalog.Repositories(t.Context(), "org"))
			throttled, ok := errors.AsType[*mirror.ThrottledError](err)
			if !ok || throttled.Host != c.host {
				t.Fatalf("got %v", err)
			}
			if got := time.Until(throttled.Until); got < c.want-10*time.Second || got > c.want+time.Second {
				t.Errorf("until in %v, want %v", got, c.want)
			}
		})
	}
}

func TestALoginThatIsLimitedSaysUntilWhen(t *testing.T) {
	c := at(t, "docker.io", refuse(429, "", "Retry-After", "600"))
	c.Login = known
	_, err := collect(c.Repositories(t.Context(), "org"))
	if throttled, ok := errors.AsType[*mirror.ThrottledError](err); !ok || throttled.Host != "docker.io" || time.Until(throttled.Until) < 9*time.Minute {
		t.Errorf("got %v", err)
	}
}

func TestOnlyTwoHostsHaveAListHere(t *testing.T) {
	for host, want := range map[string]string{"docker.io": "https://hub.docker.com", "ghcr.io": "https://api.github.com", "quay.io": "", "registry.example.com": ""} {
		if got, ok := Address(host); got != want || ok != (want != "") {
			t.Errorf("%s: %q, %v", host, got, ok)
		}
	}
	c := at(t, "quay.io", func(http.ResponseWriter, *http.Request) { t.Error("it was asked") })
	_, err := collect(c.Repositories(t.Context(), "org"))
	if !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v", err)
	}
}

func FuzzMoment(f *testing.F) {
	f.Add("12")
	f.Add("1700000000")
	f.Add("Wed, 21 Oct 2015 07:28:00 GMT")
	f.Fuzz(func(t *testing.T, text string) {
		now := time.Unix(1_600_000_000, 0)
		h := http.Header{"Retry-After": {text}}
		if got := until(h, now); !got.After(now) || got.After(now.Add(maxPause)) {
			t.Errorf("%q: until %v", text, got)
		}
	})
}
