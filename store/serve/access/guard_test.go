package access

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lastro/store/serve/access/token"
	"lastro/store/serve/spec"
)

// guarding is a guard of the users ci and dev, whose passwords are their names
// written backwards.
func guarding(t testing.TB, auth Auth, log *slog.Logger) *Guard {
	t.Helper()
	auth.Htpasswd = filepath.Join(t.TempDir(), "users")
	hash := "$2a$05$" + strings.Repeat("x", 53)
	if err := os.WriteFile(auth.Htpasswd, []byte("ci:"+hash+"\ndev:"+hash+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	g, err := New(Settings{Auth: &auth}, Options{Log: log, Compare: func(_, password []byte) error {
		if string(password) != "secret" {
			return errors.New("another password")
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func request(method, path string, login ...string) *http.Request {
	r := httptest.NewRequest(method, "http://mirror.example.com:5000"+path, nil)
	if len(login) == 2 {
		r.SetBasicAuth(login[0], login[1])
	}
	return r
}

func TestAllow(t *testing.T) {
	const own = `Bearer realm="http://mirror.example.com:5000/token",service="lastro"`
	open := Auth{Anonymous: AnonymousPull, Rules: []Rule{
		{Match: "local/**", Users: []string{"ci"}, Allow: []string{"push", "delete"}},
		{Match: "hidden/**", Users: []string{"dev"}, Allow: []string{"pull"}},
	}}
	closed := Auth{Anonymous: AnonymousNone}
	for _, c := range []struct {
		name   string
		auth   Auth
		r      *http.Request
		repo   string
		a      spec.Action
		status int
		how    string
	}{
		{"nobody pulls", open, request("GET", "/v2/local/a/manifests/1"), "local/a", spec.Pull, 0, ""},
		{"nobody is asked at the version check", open, request("GET", "/v2/"), "", spec.Pull, 401, own},
		{"nobody does not push", open, request("PUT", "/v2/local/a/manifests/1"), "local/a", spec.Push, 401, own + `,scope="repository:local/a:pull,push"`},
		{"nobody does not see what is hidden", open, request("GET", "/v2/hidden/a/manifests/1"), "hidden/a", spec.Pull, 401, own + `,scope="repository:hidden/a:pull"`},
		{"a user pushes where a rule says so", open, request("PUT", "/v2/local/a/manifests/1", "ci", "secret"), "local/a", spec.Push, 0, ""},
		{"a user does not push elsewhere", open, request("PUT", "/v2/other/manifests/1", "ci", "secret"), "other", spec.Push, 403, ""},
		{"another user does not push", open, request("PUT", "/v2/local/a/manifests/1", "dev", "secret"), "local/a", spec.Push, 403, ""},
		{"the user of a hidden repository pulls", open, request("GET", "/v2/hidden/a/manifests/1", "dev", "secret"), "hidden/a", spec.Pull, 0, ""},
		{"another user does not", open, request("GET", "/v2/hidden/a/manifests/1", "ci", "secret"), "hidden/a", spec.Pull, 403, ""},
		{"a wrong password is refused where nobody might pull", open, request("GET", "/v2/local/a/manifests/1", "ci", "wrong"), "local/a", spec.Pull, 401, own + `,scope="repository:local/a:pull"`},
		{"an unknown user is refused alike", open, request("GET", "/v2/local/a/manifests/1", "who", "secret"), "local/a", spec.Pull, 401, own + `,scope="repository:local/a:pull"`},
		{"the empty login is nobody's", open, request("GET", "/v2/local/a/manifests/1", "", ""), "local/a", spec.Pull, 0, ""},
		{"without anonymous nobody pulls", closed, request("GET", "/v2/local/a/manifests/1"), "local/a", spec.Pull, 401, `Basic realm="lastro"`},
		{"without rules users push", closed, request("PUT", "/v2/local/a/manifests/1", "dev", "secret"), "local/a", spec.Push, 0, ""},
		{"without rules users delete", closed, request("DELETE", "/v2/local/a/manifests/1", "dev", "secret"), "local/a", spec.Delete, 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := guarding(t, c.auth, nil).Allow(c.r, c.repo, c.a)
			refused, _ := errors.AsType[*spec.Refusal](err)
			if (err != nil) != (refused != nil) || (refused == nil) != (c.status == 0) {
				t.Fatalf("got %v", err)
			}
			if refused != nil && (refused.Status != c.status || refused.Header.Get("Www-Authenticate") != c.how) {
				t.Errorf("got %d %v", refused.Status, refused.Header)
			}
		})
	}
	t.Run("without auth everybody may everything", func(t *testing.T) {
		g, err := New(Settings{}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		r := request("PUT", "/v2/a/manifests/1")
		if err := g.Allow(r, "a", spec.Push); err != nil || !g.Visible(r, "a") || g.User(r) != "" {
			t.Errorf("got %v", err)
		}
	})
}

func TestTwoLoginsAreNone(t *testing.T) {
	r := request("GET", "/v2/a/manifests/1", "ci", "secret")
	r.Header.Add("Authorization", r.Header.Get("Authorization"))
	if err := guarding(t, Auth{Anonymous: AnonymousPull}, nil).Allow(r, "a", spec.Pull); err == nil {
		t.Error("they are taken")
	}
}

func TestTheCatalogAndMountsShowWhatMayBePulled(t *testing.T) {
	g := guarding(t, Auth{Anonymous: AnonymousPull, Rules: []Rule{{Match: "hidden/**", Users: []string{"dev"}, Allow: []string{"pull"}}}}, nil)
	var got []bool
	for _, login := range [][]string{nil, {"ci", "secret"}, {"dev", "secret"}, {"dev", "wrong"}} {
		r := request("POST", "/v2/local/a/blobs/uploads/?from=hidden/a", login...)
		got = append(got, g.Visible(r, "hidden/a"), g.Visible(r, "open"))
	}
	if diff := cmp.Diff([]bool{false, true, false, true, true, true, false, false}, got); diff != "" {
		t.Error(diff)
	}
}

func TestAPasswordBuysATokenThatLasts(t *testing.T) {
	g := guarding(t, Auth{Anonymous: AnonymousPull}, nil)
	buy := func(login ...string) (int, string) {
		w := httptest.NewRecorder()
		g.Handler(http.NotFoundHandler()).ServeHTTP(w, request("GET", TokenPath+"?service=lastro", login...))
		var body struct{ Token string }
		_ = json.Unmarshal(w.Body.Bytes(), &body)
		return w.Code, body.Token
	}
	push := func(text string) error {
		r := request("PUT", "/v2/local/a/manifests/1")
		r.Header.Set("Authorization", "Bearer "+text)
		return g.Allow(r, "local/a", spec.Push)
	}
	status, users := buy("ci", "secret")
	if err := push(users); status != http.StatusOK || err != nil {
		t.Errorf("a user's token: %d, %v", status, err)
	}
	status, nobodys := buy()
	if err := push(nobodys); status != http.StatusOK || err == nil {
		t.Errorf("nobody's token: %d, %v", status, err)
	}
	if status, text := buy("ci", "wrong"); status != http.StatusUnauthorized || text != "" {
		t.Errorf("a wrong password: %d %q", status, text)
	}
	if err := push(users + "x"); err == nil {
		t.Error("a token that was changed is taken")
	}
	if closed := guarding(t, Auth{Anonymous: AnonymousNone}, nil); push(users) != nil || closed.Allow(func() *http.Request {
		r := request("GET", "/v2/a/manifests/1")
		r.Header.Set("Authorization", "Bearer "+users)
		return r
	}(), "a", spec.Pull) == nil {
		t.Error("another registry's token is taken")
	}
}

func TestAFailedLoginIsLoggedWithoutItsPassword(t *testing.T) {
	var log bytes.Buffer
	g := guarding(t, Auth{Anonymous: AnonymousPull}, slog.New(slog.NewTextHandler(&log, nil)))
	_ = g.Allow(request("GET", "/v2/a/manifests/1", "e\x1bvil\n"+strings.Repeat("x", 200), "hunter2"), "a", spec.Pull)
	if text := log.String(); !strings.Contains(text, "login failed") || strings.Contains(text, "hunter2") || strings.Contains(text, "\x1b") || len(text) > 300 {
		t.Errorf("logged %q", text)
	}
	if o := g.Outcomes(); o.Failed != 1 || o.OK != 0 {
		t.Errorf("counted %+v", o)
	}
}

func TestABadReloadChangesNothing(t *testing.T) {
	g := guarding(t, Auth{Anonymous: AnonymousPull}, nil)
	for name, auth := range map[string]*Auth{
		"no such file": {Htpasswd: "/nowhere/users"},
		"no such keys": {Token: &token.Settings{Issuer: "a", Service: "b", Realm: "https://c", JWKS: "/nowhere/keys"}},
	} {
		if err := g.Reload(Settings{Auth: auth}); err == nil {
			t.Errorf("%s: it was taken", name)
		}
		if err := g.Allow(request("PUT", "/v2/a/manifests/1", "ci", "secret"), "a", spec.Push); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, header := range []string{"", "Basic", "Basic Y2k6c2VjcmV0", "basic  Y2k6", "Bearer x", "Bearer  ", "Digest x", "Basic ====", "Basic 8J+YgA=="} {
		f.Add(header)
	}
	f.Fuzz(func(t *testing.T, header string) {
		c, err := read(header)
		if err != nil && (c != credentials{} || strings.Contains(err.Error(), header) && len(header) > 3 && !strings.Contains(errUnreadable.Error(), header)) {
			t.Errorf("%q: %+v, %v", header, c, err)
		}
		if err == nil && !c.basic && c.token == "" {
			t.Errorf("%q is a login with nothing", header)
		}
	})
}

func BenchmarkAllow(b *testing.B) {
	b.Run("without auth", func(b *testing.B) {
		g, err := New(Settings{}, Options{})
		if err != nil {
			b.Fatal(err)
		}
		benchmarkAllow(b, g, request("GET", "/v2/a/manifests/1"))
	})
	b.Run("a known password", func(b *testing.B) {
		benchmarkAllow(b, guarding(b, Auth{Anonymous: AnonymousPull}, nil), request("GET", "/v2/a/manifests/1", "ci", "secret"))
	})
}

func benchmarkAllow(b *testing.B, g *Guard, r *http.Request) {
	b.ReportAllocs()
	for b.Loop() {
		if err := g.Allow(r, "a", spec.Pull); err != nil {
			b.Fatal(err)
		}
	}
}
