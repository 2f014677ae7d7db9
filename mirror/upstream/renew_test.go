package upstream

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// configured is a registry whose configuration may have changed since. It is
// answered as hosts says.
type configured struct {
	*Registry
	now      Settings
	err      error
	renewals atomic.Int64
}

const oldPassword = "old-secret"

func user(password string) []Credentials { return []Credentials{{Username: "me", Password: password}} }

func configure(t *testing.T, host string, s Settings, hosts map[string]http.HandlerFunc) *configured {
	t.Helper()
	c := &configured{now: s}
	r, err := Open(host, s, Options{Settings: func(context.Context) (Settings, error) {
		c.renewals.Add(1)
		return c.now, c.err
	}})
	if err != nil {
		t.Fatal(err)
	}
	answer := func(w http.ResponseWriter, req *http.Request) { hosts[req.URL.Host](w, req) }
	for _, at := range append([]*Registry{r}, r.mirrors...) {
		answered(at, answer)
	}
	c.Registry = r
	return c
}

// wants answers with h who has a password, and asks all others for it. Who
// shows one of the others' is a leak.
func wants(t *testing.T, password string, others string, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		_, pw, ok := req.BasicAuth()
		if ok && pw == others {
			t.Errorf("%s saw the password of another host", req.URL.Host)
		}
		if pw != password {
			w.Header().Set("WWW-Authenticate", "Basic")
			refuse(401, "")(w, req)
			return
		}
		h(w, req)
	}
}

func TestAMirrorsRefusedCredentialsAreLookedUpAgain(t *testing.T) {
	const own, fresh = "upstream-secret", "fresh-secret"
	settings := func(mirrors ...Mirror) Settings {
		return Settings{Endpoint: "http://registry.test", PlainHTTP: true, Credentials: user(own), Mirrors: mirrors}
	}
	before := settings(Mirror{"http://mirror.test", user(oldPassword)})
	for _, c := range []struct {
		name string
		now  Settings
		err  error
		want string // in the error; "": it is read
	}{
		{"and used when they are others", settings(Mirror{"http://mirror.test", user(fresh)}), nil, ""},
		{"and found by the mirror's address", settings(Mirror{"http://first.test", user("first-secret")}, Mirror{"http://mirror.test", user(fresh)}), nil, ""},
		{"and not used when they are the same", before, nil, "mirror.test: HEAD manifests/"},
		{"and not used when the mirror has none now", settings(Mirror{URL: "http://mirror.test"}), nil, "401 Unauthorized"},
		{"and not used when they are for another mirror", settings(Mirror{"http://other.test", user(fresh)}), nil, "401 Unauthorized"},
		{"and not used when the configuration cannot be read", Settings{}, errors.New("the file is gone"), "401 Unauthorized"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				at := configure(t, "docker.io", before, map[string]http.HandlerFunc{
					"registry.test": wants(t, own, fresh, refuse(404, "")),
					"mirror.test":   wants(t, fresh, own, sendIndex),
				})
				at.now, at.err = c.now, c.err
				_, err := at.Head(t.Context(), "a", indexDigest.String())
				if c.want != "" {
					wantError(t, err, c.want)
				} else if err != nil {
					t.Error(err)
				}
				if n := at.renewals.Load(); n != 1 {
					t.Errorf("%d renewals, want 1", n)
				}
			})
		})
	}
}

func TestCredentialsThatCannotBeFoundDoNotKeepOthersFromBeingLookedUp(t *testing.T) {
	docker(t, `{}`)
	missing := Credentials{Helper: "missing"}
	at := configure(t, "registry.test", Settings{PlainHTTP: true, Credentials: []Credentials{missing, user(oldPassword)[0]}},
		map[string]http.HandlerFunc{"registry.test": wants(t, password, "", sendIndex)})
	_, err := at.Head(t.Context(), "a", "v1")
	wantError(t, err, "401 Unauthorized")
	at.now = Settings{PlainHTTP: true, Credentials: []Credentials{missing, user(password)[0]}}
	if _, err := at.Head(t.Context(), "a", "v1"); err != nil || at.renewals.Load() != 2 {
		t.Errorf("%v after %d renewals", err, at.renewals.Load())
	}
}

func TestNewCredentialsAreNotSentToTheOldAddress(t *testing.T) {
	for _, c := range []struct {
		name string
		now  Settings
		ok   bool
	}{
		{"the same one", Settings{Endpoint: "https://registry.test", Credentials: user(password)}, true},
		{"another host", Settings{Endpoint: "https://elsewhere.test", Credentials: user(password)}, false},
		{"another port", Settings{Endpoint: "https://registry.test:5000", Credentials: user(password)}, false},
		{"the host's own", Settings{Credentials: user(password)}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			shown := ""
			if !c.ok {
				shown = password // is a leak
			}
			at := configure(t, "docker.io", Settings{Endpoint: "https://registry.test", Credentials: user(oldPassword)},
				map[string]http.HandlerFunc{"registry.test": wants(t, password, shown, sendIndex)})
			at.now = c.now
			if _, err := at.Head(t.Context(), "a", "v1"); (err == nil) != c.ok || at.renewals.Load() != 1 {
				t.Errorf("%v after %d renewals", err, at.renewals.Load())
			}
		})
	}
}

// gitHubAPI lists for who shows the password, and keeps the list elsewhere.
func gitHubAPI(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Header.Get("Authorization") != "Bearer "+password:
		refuse(401, `{"message":"Bad credentials"}`)(w, r)
	default:
		http.Redirect(w, r, "https://elsewhere.test/packages", http.StatusFound)
	}
}

func TestCredentialsThatAListRefusesAreLookedUpAgain(t *testing.T) {
	for _, c := range []struct {
		name, host         string
		now                Settings
		want               string // "": an error
		requests, renewals int64
	}{
		{"for a login at Docker Hub", "docker.io", Settings{Credentials: user(password)}, "org/app org/private", 3, 1},
		{"for a login at Docker Hub, to no avail", "docker.io", Settings{Credentials: user(oldPassword)}, "", 1, 1},
		{"for GitHub's API", "ghcr.io", Settings{Credentials: user(password)}, "org/app", 3, 1},
		{"for GitHub's API, to no avail", "ghcr.io", Settings{Credentials: user(oldPassword)}, "", 1, 1},
		{"for another wrong one", "ghcr.io", Settings{Credentials: user("other-secret")}, "", 2, 1},
		{"but not those of another address", "docker.io", Settings{Endpoint: "https://mirror.test", Credentials: user(password)}, "", 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := configure(t, c.host, Settings{Credentials: user(oldPassword)}, map[string]http.HandlerFunc{
				"hub.docker.com": hubAPI,
				"api.github.com": gitHubAPI,
				"elsewhere.test": func(w http.ResponseWriter, r *http.Request) {
					if r.Header.Get("Authorization") != "" {
						t.Error("another host saw the password")
					}
					send(`[{"name":"app"}]`)(w, r)
				},
			})
			at.now = c.now
			got, err := collect(at.RepositoriesIn(t.Context(), "org"))
			if strings.Join(got, " ") != c.want || (err == nil) != (c.want != "") {
				t.Errorf("got %q, %v", got, err)
			}
			if err != nil {
				wantError(t, err, "401 Unauthorized")
			}
			if at.Requests() != c.requests || at.renewals.Load() != c.renewals {
				t.Errorf("%d requests and %d renewals", at.Requests(), at.renewals.Load())
			}
		})
	}
}

func TestCredentialsThatAListDoesNotSeeAreNotLookedUp(t *testing.T) {
	at := configure(t, "ghcr.io", Settings{Endpoint: "https://mirror.test", Catalog: "https://api.github.com", Credentials: user(password)}, nil)
	_, err := collect(at.RepositoriesIn(t.Context(), "org"))
	wantError(t, err, "only with a token")
	at = configure(t, "docker.io", Settings{Endpoint: "https://mirror.test", Catalog: "https://hub.docker.com", Credentials: user(password)},
		map[string]http.HandlerFunc{"hub.docker.com": refuse(401, "")})
	_, err = collect(at.RepositoriesIn(t.Context(), "org"))
	wantError(t, err, "401 Unauthorized")
	if n := at.renewals.Load(); n != 0 || at.Requests() != 1 {
		t.Errorf("%d renewals and %d requests", n, at.Requests())
	}
}

func TestCredentialsThatCannotBeFoundLeaveAListToTheOthers(t *testing.T) {
	docker(t, `{}`)
	at := configure(t, "docker.io", Settings{Credentials: []Credentials{{Helper: "missing"}, user(password)[0]}}, map[string]http.HandlerFunc{"hub.docker.com": hubAPI})
	got, err := collect(at.RepositoriesIn(t.Context(), "org"))
	if strings.Join(got, " ") != "org/app org/private" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	at = configure(t, "docker.io", Settings{Credentials: []Credentials{{Helper: "missing"}}}, nil)
	_, err = collect(at.RepositoriesIn(t.Context(), "org"))
	wantError(t, err, "docker-credential-missing")
}
