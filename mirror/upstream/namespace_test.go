package upstream

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"lastro/mirror"
)

// hubAPI answers as Docker Hub's API, to whoever logs in as me.
func hubAPI(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodPost && r.URL.Path == "/v2/auth/token":
		if raw, _ := io.ReadAll(r.Body); string(raw) != `{"identifier":"me","secret":"`+password+`"}` || r.Header.Get("Content-Type") != "application/json" {
			refuse(401, "")(w, r)
			return
		}
		send(`{"access_token":"secret-token"}`)(w, r)
	case r.URL.Path == "/v2/namespaces/org/repositories" && r.Header.Get("Authorization") == "Bearer secret-token":
		send(`{"results":[{"name":"app"},{"name":"private"}]}`)(w, r)
	case r.URL.Path == "/v2/namespaces/org/repositories":
		send(`{"results":[{"name":"app"}]}`)(w, r)
	default:
		refuse(404, "")(w, r)
	}
}

func TestDockerHubIsListedByItsAPI(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(hubAPI))
	defer srv.Close()
	for _, c := range []struct {
		name        string
		credentials []Credentials
		want        string
	}{
		{"without credentials", Anonymous(), "org/app"},
		{"with a password", []Credentials{{Username: "me", Password: password}}, "org/app org/private"},
		{"with the second of two", []Credentials{{anonymous: true}, {Username: "me", Password: password}}, "org/app org/private"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := open(t, "docker.io", Settings{Catalog: srv.URL, PlainHTTP: true, Credentials: c.credentials})
			got, err := collect(r.RepositoriesIn(t.Context(), "org"))
			if strings.Join(got, " ") != c.want || err != nil {
				t.Errorf("got %q, %v", got, err)
			}
			if r.Requests() == 0 {
				t.Error("the requests are not counted")
			}
		})
	}
}

func TestAListIsAskedForWhereItIs(t *testing.T) {
	for _, c := range []struct {
		name, host string
		s          Settings
		want       string // "": at the registry
	}{
		{"Docker Hub", "docker.io", Settings{}, "https://hub.docker.com"},
		{"Docker Hub, its endpoint written out", "docker.io", Settings{Endpoint: "https://registry-1.docker.io"}, "https://hub.docker.com"},
		{"Docker Hub at another endpoint", "docker.io", Settings{Endpoint: "https://mirror.test"}, ""},
		{"Docker Hub at another endpoint, and its list", "docker.io", Settings{Endpoint: "https://mirror.test", Catalog: "https://hub.docker.com"}, "https://hub.docker.com"},
		{"Docker Hub, switched off", "docker.io", Settings{Catalog: "none"}, ""},
		{"GHCR", "ghcr.io", Settings{}, "https://api.github.com"},
		{"GHCR by an API below a path", "ghcr.io", Settings{Catalog: "https://proxy.test/api/v3"}, "https://proxy.test/api/v3"},
		{"another registry", "registry.test", Settings{}, ""},
		{"another registry, switched off", "registry.test", Settings{Catalog: "none"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ""
			if r := open(t, c.host, c.s); r.catalog != nil {
				got = r.catalog.String()
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestACatalogThatCannotBeIsRefused(t *testing.T) {
	for _, c := range []struct {
		name, host string
		s          Settings
		want       string
	}{
		{"not an address", "docker.io", Settings{Catalog: "hub"}, `catalog: neither "none" nor the address`},
		{"an address with a password", "docker.io", Settings{Catalog: "https://me:secret@hub.test"}, "catalog: neither"},
		{"plain HTTP", "docker.io", Settings{Catalog: "http://hub.test"}, "catalog: credentials do not go over plain HTTP"},
		{"a host without such a list", "quay.io", Settings{Catalog: "https://quay.io"}, "catalog: only docker.io and ghcr.io"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Open(c.host, c.s, Options{})
			wantError(t, err, c.want)
		})
	}
}

func TestCredentialsForAnEndpointElsewhereAreNotShownToTheAPI(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost || r.Header.Get("Authorization") != "" {
			t.Errorf("%s %s with %v", r.Method, r.URL.Path, r.Header)
		}
		hubAPI(w, r)
	}))
	defer srv.Close()
	r := open(t, "docker.io", Settings{Endpoint: "http://mirror.test", Catalog: srv.URL, PlainHTTP: true, Credentials: []Credentials{{Username: "me", Password: password}}})
	got, err := collect(r.RepositoriesIn(t.Context(), "org"))
	if strings.Join(got, " ") != "org/app" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestALoginIsNotRedirected(t *testing.T) {
	srv := httptest.NewServer(http.RedirectHandler("/elsewhere", http.StatusTemporaryRedirect))
	defer srv.Close()
	r := open(t, "docker.io", Settings{Catalog: srv.URL, PlainHTTP: true, Credentials: []Credentials{{Username: "me", Password: password}}})
	_, err := collect(r.RepositoriesIn(t.Context(), "org"))
	wantError(t, err, "upstream docker.io: list of org: login: ", "credentials do not follow")
}

func TestAListWithoutAnAPIIsTheRegistrys(t *testing.T) {
	r := serve(t, send(`{"repositories":["org/app","organ/app","other/app","org"]}`))
	for namespace, want := range map[string]string{"org": "org/app", "": "org/app organ/app other/app org", "nobody": ""} {
		got, err := collect(r.RepositoriesIn(t.Context(), namespace))
		if strings.Join(got, " ") != want || err != nil {
			t.Errorf("in %q: %q, %v", namespace, got, err)
		}
	}
	_, err := collect(serve(t, refuse(401, "")).RepositoriesIn(t.Context(), "org"))
	if !errors.Is(err, errors.ErrUnsupported) || strings.Contains(err.Error(), "catalog:") {
		t.Errorf("got %v", err)
	}
}

func TestARegistryElsewhereThatListsNothingNamesTheAPI(t *testing.T) {
	srv := httptest.NewServer(refuse(404, ""))
	defer srv.Close()
	r := open(t, "docker.io", Settings{Endpoint: srv.URL, Credentials: Anonymous()})
	_, err := collect(r.RepositoriesIn(t.Context(), "org"))
	wantError(t, err, "https://hub.docker.com", "set upstreams.docker.io.catalog")
	if !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v", err)
	}
}

func TestARegistryElsewhereThatFailsNamesNoAPI(t *testing.T) {
	srv := httptest.NewServer(refuse(400, ""))
	defer srv.Close()
	r := open(t, "docker.io", Settings{Endpoint: srv.URL, Credentials: Anonymous()})
	_, err := collect(r.RepositoriesIn(t.Context(), "org"))
	wantError(t, err, "400")
	if strings.Contains(err.Error(), "hub.docker.com") {
		t.Errorf("got %v", err)
	}
}

func TestFaultsOfTheAPIThatMayPassAreTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			status, faults int
			want           string
			requests       int64
		}{
			{503, 2, "", 3},
			{503, 100, "503", maxAttempts},
			{404, 100, "404", 1},
		} {
			n := 0
			r := inProcessAs("docker.io", Settings{Credentials: Anonymous()}, func(w http.ResponseWriter, req *http.Request) {
				if n++; n <= c.faults {
					refuse(c.status, "")(w, req)
					return
				}
				hubAPI(w, req)
			})
			_, err := collect(r.RepositoriesIn(t.Context(), "org"))
			if r.Requests() != c.requests || (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%+v: %d requests, %v", c, r.Requests(), err)
			}
			if !r.slots.idle(defaultConnections) {
				t.Errorf("%+v: a slot is held", c)
			}
		}
	})
}

func TestAnAPIThatIsLimitedSaysUntilWhen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := inProcessAs("docker.io", Settings{Credentials: Anonymous()}, func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Retry-After", "600")
			refuse(429, "")(w, req)
		})
		_, err := collect(r.RepositoriesIn(t.Context(), "org"))
		throttled, ok := errors.AsType[*mirror.ThrottledError](err)
		if !ok || time.Until(throttled.Until) != 10*time.Minute || r.Requests() != 1 {
			t.Errorf("%v after %d requests", err, r.Requests())
		}
		if !r.Throttled().IsZero() {
			t.Error("the registry itself counts as limited")
		}
	})
}
