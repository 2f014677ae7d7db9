package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"oras.land/oras-go/v2/registry/remote/auth"
)

// guarded is an upstream and its token server. A token is good for one scope
// and until it is revoked.
type guarded struct {
	t        *testing.T
	realm    string // "": the address that the request came to
	life     int
	field    string // "" : token
	basic    string // the header that the token server wants; "": none
	issued   atomic.Int64
	revoked  atomic.Int64 // tokens up to this one
	forms    chan string
	answered atomic.Int64
}

func (g *guarded) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/token" {
		g.token(w, r)
		return
	}
	repo := strings.TrimPrefix(strings.Split(r.URL.Path, "/manifests/")[0], "/v2/")
	scope := "repository:" + repo + ":pull"
	var n int64
	if _, err := fmt.Sscanf(r.Header.Get("Authorization"), "Bearer "+scope+"#%d", &n); err != nil || n <= g.revoked.Load() {
		realm := g.realm
		if realm == "" {
			realm = "http://" + r.Host + "/token"
		}
		w.Header().Add("WWW-Authenticate", `Negotiate`)
		w.Header().Add("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s",service="the registry",scope="%s"`, realm, scope))
		refuse(401, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)(w, r)
		return
	}
	g.answered.Add(1)
	sendIndex(w, r)
}

func (g *guarded) token(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		body, _ := io.ReadAll(r.Body)
		g.forms <- string(body)
		refuse(403, `{"error":"invalid_grant for the identity-secret"}`)(w, r)
		return
	}
	if got := r.Header.Get("Authorization"); got != g.basic {
		_, pw, _ := r.BasicAuth()
		refuse(401, `{"details":"incorrect username or password `+pw+`"}`)(w, r)
		return
	}
	if r.FormValue("service") != "the registry" {
		g.t.Errorf("service %q", r.FormValue("service"))
	}
	field := g.field
	if field == "" {
		field = "token"
	}
	_ = json.NewEncoder(w).Encode(map[string]any{field: fmt.Sprintf("%s#%d", r.FormValue("scope"), g.issued.Add(1)), "expires_in": g.life})
}

func TestATokenIsGotOnceForEachRepository(t *testing.T) {
	for _, field := range []string{"token", "access_token"} {
		g := &guarded{t: t, field: field}
		r := serve(t, g.ServeHTTP)
		for range 3 {
			for _, repo := range []string{"a/b", "c"} {
				if _, err := r.Head(t.Context(), repo, "v1"); err != nil {
					t.Fatal(err)
				}
			}
		}
		if g.issued.Load() != 2 {
			t.Errorf("%s: %d tokens for two repositories", field, g.issued.Load())
		}
		// The first request alone learns where tokens are: 1 + 2 tokens + 6 answers.
		if r.Requests() != 9 {
			t.Errorf("%s: %d requests, want 9", field, r.Requests())
		}
	}
}

func TestManyWhoNeedATokenWaitForOne(t *testing.T) {
	g := &guarded{t: t}
	r := serve(t, g.ServeHTTP)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := r.Head(t.Context(), "a", "v1"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if g.issued.Load() != 1 {
		t.Errorf("%d tokens", g.issued.Load())
	}
}

func TestATokenThatIsRefusedIsRenewedOnce(t *testing.T) {
	g := &guarded{t: t}
	r := serve(t, g.ServeHTTP)
	for range 2 {
		if _, err := r.Head(t.Context(), "a", "v1"); err != nil {
			t.Fatal(err)
		}
		g.revoked.Store(g.issued.Load())
	}
	if g.issued.Load() != 2 {
		t.Errorf("%d tokens, want 2", g.issued.Load())
	}
	g.revoked.Store(1000)
	before := r.Requests()
	_, err := r.Head(t.Context(), "a", "v1")
	wantError(t, err, "401 Unauthorized", "no credentials were sent")
	if n := r.Requests() - before; n != 3 {
		t.Errorf("%d requests, want the first, the token's and one more", n)
	}
}

func TestATokenIsRenewedBeforeItEnds(t *testing.T) {
	for _, c := range []struct {
		name string
		life int
		used time.Duration
		want int64
	}{
		{"within its life", 100, 79 * time.Second, 1},
		{"in the last fifth", 100, 81 * time.Second, 2},
		{"a life of a minute where none is said", 0, 47 * time.Second, 1},
		{"and no longer", 0, 49 * time.Second, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := &guarded{t: t, life: c.life}
				r := inProcess(g.ServeHTTP)
				for range 2 {
					if _, err := r.Head(t.Context(), "a", "v1"); err != nil {
						t.Fatal(err)
					}
					time.Sleep(c.used)
				}
				if g.issued.Load() != c.want {
					t.Errorf("%d tokens, want %d", g.issued.Load(), c.want)
				}
			})
		})
	}
}

func TestAWrongPasswordIsNotTriedForEachImage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &guarded{t: t, basic: "Basic other"}
		r := as(inProcess(g.ServeHTTP))
		for range 5 {
			_, err := r.Head(t.Context(), "a", "v1")
			wantError(t, err, "token from registry.test", "401", "incorrect username or password", "upstreams.registry.test.credentials")
		}
		if r.Requests() != 6 {
			t.Errorf("%d requests, want one with the password", r.Requests())
		}
		g.basic = basicHeader(auth.Credential{Username: "me", Password: password})
		time.Sleep(refusalLife)
		if _, err := r.Head(t.Context(), "a", "v1"); err != nil {
			t.Errorf("later: %v", err)
		}
	})
}

func TestAnIdentityTokenIsPosted(t *testing.T) {
	g := &guarded{t: t, forms: make(chan string, 1)}
	r := serve(t, g.ServeHTTP)
	r.accounts.all("")[0].login = func(context.Context) (auth.Credential, error) {
		return auth.Credential{RefreshToken: "identity-secret"}, nil
	}
	_, err := r.Head(t.Context(), "a", "v1")
	wantError(t, err, "403 Forbidden: invalid_grant for the …")
	if form := <-g.forms; !strings.Contains(form, "refresh_token=identity-secret") || !strings.Contains(form, "scope=repository%3Aa%3Apull") {
		t.Errorf("form %s", form)
	}
}

func TestBasicIsAnsweredWithThePassword(t *testing.T) {
	var n atomic.Int64
	h := func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		if _, pw, _ := r.BasicAuth(); pw != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			refuse(401, "")(w, r)
			return
		}
		sendIndex(w, r)
	}
	r := as(serve(t, h))
	for range 3 {
		if _, err := r.Head(t.Context(), "a", "v1"); err != nil {
			t.Fatal(err)
		}
	}
	if n.Load() != 4 {
		t.Errorf("%d requests, want 4", n.Load())
	}
	_, err := serve(t, h).Head(t.Context(), "a", "v1")
	wantError(t, err, "401", "no credentials were sent", "docker login")
}

func TestAWrongBasicPasswordIsSentOnceForEachRequest(t *testing.T) {
	r := as(serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("WWW-Authenticate", "Basic")
		_, pw, _ := r.BasicAuth()
		refuse(401, `{"errors":[{"code":"UNAUTHORIZED","message":"`+pw+" "+r.Header.Get("Authorization")+`"}]}`)(w, r)
	}))
	for _, want := range []int64{2, 3} {
		_, _, err := r.Manifest(t.Context(), "a", "v1")
		wantError(t, err, "401 Unauthorized: UNAUTHORIZED: … Basic …; check the name")
		if r.Requests() != want {
			t.Errorf("%d requests, want %d", r.Requests(), want)
		}
	}
}

func TestAContentServerCannotAskForCredentials(t *testing.T) {
	other := httptest.NewServer(&guarded{t: t, basic: "no token is to be asked for"})
	defer other.Close()
	r := as(serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL+"/v2/a/manifests/v1", http.StatusFound)
	}))
	_, err := r.Head(t.Context(), "a", "v1")
	wantError(t, err, "401 Unauthorized")
	if r.Requests() != 2 {
		t.Errorf("%d requests, want the first and its redirect", r.Requests())
	}
}

func TestCredentialsStayWhereTheyBelong(t *testing.T) {
	var leaked atomic.Bool
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			leaked.Store(true)
		}
		_, _ = io.WriteString(w, "content")
	}))
	defer other.Close()
	r := as(serve(t, func(w http.ResponseWriter, r *http.Request) {
		if _, _, ok := r.BasicAuth(); !ok {
			w.Header().Set("WWW-Authenticate", "Basic")
			w.WriteHeader(401)
			return
		}
		http.Redirect(w, r, other.URL+"/content?signature=secret", http.StatusTemporaryRedirect)
	}))
	body, _, err := r.Blob(t.Context(), "a", blobOf("content"), 0)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(body)
	body.Close()
	if string(got) != "content" || err != nil || leaked.Load() {
		t.Errorf("got %q, %v; credentials leaked: %v", got, err, leaked.Load())
	}
}

func TestWhatAContentServerSendsBackOfItsAddressIsNotTold(t *testing.T) {
	const query = "X-Signature=signature-secret%2Bplus&X-Expires=3600"
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		refuse(403, "no access to "+r.URL.String()+" with "+r.FormValue("X-Signature")+" of a")(w, r)
	}))
	defer other.Close()
	r := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL+"/content?"+query, http.StatusTemporaryRedirect)
	})
	_, _, err := r.Blob(t.Context(), "a", blobOf("content"), 0)
	wantError(t, err, "403 Forbidden: no access to /content?… with … of a")
}

func TestATokenServerWithoutTLSIsRefused(t *testing.T) {
	for _, realm := range []string{"http://auth.test/token", "ftp://auth.test", "/token", "https://u:p@auth.test", "%zz"} {
		g := &guarded{t: t, realm: realm}
		srv := httptest.NewTLSServer(g)
		r := as(open(t, strings.TrimPrefix(srv.URL, "https://"), Settings{}))
		r.transport = srv.Client().Transport
		_, err := r.Head(t.Context(), "a", "v1")
		wantError(t, err, "token server")
		if r.Requests() != 1 {
			t.Errorf("%s: %d requests, want 1", realm, r.Requests())
		}
		srv.Close()
	}
}

func TestACatalogThatIsNotForUsIsUnsupported(t *testing.T) {
	for _, status := range []int{401, 403, 404, 405} {
		for _, err := range serve(t, refuse(status, "")).Repositories(t.Context()) {
			if !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("%d: %v", status, err)
			}
		}
	}
}
