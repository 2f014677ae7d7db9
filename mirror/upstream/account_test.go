package upstream

import (
	"context"
	"errors"
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

	"lastro/mirror/upstream/ecr"
)

// doors lets users into repositories, and asks all others who they are.
type doors struct {
	mu      sync.Mutex
	open    map[string]string // user by repository
	refusal int               // for those that may not; 0: 401
	asked   []string          // users
}

func (d *doors) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	user, pw, ok := r.BasicAuth()
	if !ok {
		user = "nobody"
	}
	d.asked = append(d.asked, user)
	repo := strings.Split(strings.TrimPrefix(r.URL.Path, "/v2/"), "/")[0]
	switch {
	case d.open[repo] == user && (!ok || pw == password):
		sendIndex(w, r)
	case ok && d.refusal != 0:
		refuse(d.refusal, "")(w, r)
	default:
		w.Header().Set("WWW-Authenticate", "Basic")
		refuse(401, "")(w, r)
	}
}

func (d *doors) forget() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	asked := strings.Join(d.asked, " ")
	d.asked = nil
	return asked
}

func TestOtherCredentialsAreTriedBeforeGivingUp(t *testing.T) {
	for _, status := range []int{401, 403} {
		d := &doors{open: map[string]string{"ours": "two", "public": "nobody"}, refusal: status}
		r := with(inProcess(d.ServeHTTP), append(users("one", "two"), Anonymous()...)...)
		if _, err := head(t, r, "ours"); err != nil {
			t.Errorf("%d: %v", status, err)
		}
		d.forget()
		if _, err := head(t, r, "ours"); err != nil || d.forget() != "two" {
			t.Errorf("%d: who was let in is not asked first the next time: %v", status, err)
		}
		_, err := head(t, r, "theirs")
		wantError(t, err, "check the name of the image, and the credentials")
		if asked := d.forget(); asked != "one two nobody" {
			t.Errorf("%d: tried %s", status, asked)
		}
		if _, err := head(t, r, "public"); err != nil {
			t.Errorf("%d: without credentials: %v", status, err)
		}
	}
}

func TestRefusedByOneAndLimitedByAnotherIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := with(inProcess(func(w http.ResponseWriter, req *http.Request) {
			user, _, ok := req.BasicAuth()
			switch {
			case !ok:
				w.Header().Set("WWW-Authenticate", "Basic")
				refuse(401, "")(w, req)
			case user == "one":
				refuse(403, "")(w, req)
			default:
				after(429, "3600")(w, req)
			}
		}), users("one", "two")...)
		_, err := head(t, r, "a")
		throttled(t, err)
	})
}

func TestCredentialsThatCannotBeFoundLeaveTheOthers(t *testing.T) {
	docker(t, `{}`)
	d := &doors{open: map[string]string{"a": "two"}}
	r := with(inProcess(d.ServeHTTP), append([]Credentials{{Helper: "missing"}}, users("two")...)...)
	if _, err := head(t, r, "a"); err != nil {
		t.Error(err)
	}
	_, err := head(t, with(inProcess(d.ServeHTTP), Credentials{Helper: "missing"}), "a")
	wantError(t, err, "credential helper docker-credential-missing for registry.test")
}

func TestACredentialHelperIsAskedForTheHost(t *testing.T) {
	docker(t, `{}`)
	for host, want := range map[string]auth.Credential{
		"helped.test": {Username: "helper", Password: "from-helper"},
		"token.test":  {RefreshToken: "identity"},
		"empty.test":  {},
	} {
		got, err := login(t, open(t, host, Settings{Credentials: []Credentials{{Helper: "fake"}}}))
		if got != want || err != nil {
			t.Errorf("%s: got %v, %v", host, got, err)
		}
	}
	_, err := login(t, open(t, "broken.test", Settings{Credentials: []Credentials{{Helper: "fake"}}}))
	wantError(t, err, "docker-credential-fake for broken.test: ", "the keyring is locked")
}

func TestATokenIsSentAsItIs(t *testing.T) {
	wants := "Bearer right"
	r := with(inProcess(func(w http.ResponseWriter, req *http.Request) {
		got := req.Header.Get("Authorization")
		if got != wants {
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://registry.test/token"`)
			refuse(401, `{"errors":[{"code":"UNAUTHORIZED","message":"bad `+got+`"}]}`)(w, req)
			return
		}
		sendIndex(w, req)
	}), Credentials{Token: "right"})
	if n, err := head(t, r, "a"); n != 1 || err != nil {
		t.Errorf("%d requests, %v", n, err)
	}
	with(r, Credentials{Token: "my-secret-token"})
	before := r.Requests()
	_, _, err := r.Manifest(t.Context(), "a", "v1")
	wantError(t, err, "401 Unauthorized: UNAUTHORIZED: bad Bearer …", "and the credentials")
	if n := r.Requests() - before; n != 1 {
		t.Errorf("%d requests: a token server was asked", n)
	}
}

func TestCredentialsComeFromAWS(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "aws-secret")
	t.Setenv("AWS_CA_BUNDLE", "")
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
	const host = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
	d := &doors{open: map[string]string{"a": "AWS"}}
	r := inProcessAs(host, Settings{PlainHTTP: true, Credentials: []Credentials{{ECR: &ecr.Settings{}}}}, d.ServeHTTP)
	var asked atomic.Int64
	r.logins.Transport = roundTrip(func(req *http.Request) (*http.Response, error) {
		asked.Add(1)
		w := httptest.NewRecorder()
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		header := strings.TrimPrefix(basicHeader(auth.Credential{Username: "AWS", Password: password}), "Basic ")
		_, _ = io.WriteString(w, `{"authorizationData":[{"authorizationToken":"`+header+`","expiresAt":4102444800}]}`)
		resp := w.Result()
		resp.Request = req
		return resp, nil
	})
	for range 2 {
		if _, err := head(t, r, "a"); err != nil {
			t.Fatal(err)
		}
	}
	if asked.Load() != 1 {
		t.Errorf("AWS was asked %d times", asked.Load())
	}
	_, err := login(t, open(t, "registry.test", Settings{Credentials: []Credentials{{ECR: &ecr.Settings{}}}}))
	wantError(t, err, "not a host of Amazon ECR")
}

func TestRefusedCredentialsAreLookedUpAgain(t *testing.T) {
	old, fresh := Credentials{Username: "one", Password: "old-secret"}, users("one")[0]
	for _, c := range []struct {
		name     string
		before   Credentials
		now      []Credentials
		err      error
		ok       bool
		renewals int64
	}{
		{"and used when they are others", old, []Credentials{fresh}, nil, true, 1},
		{"and used when there are more of them", old, []Credentials{old, fresh}, nil, true, 1},
		{"and not used when they are the same", old, []Credentials{old}, nil, false, 1},
		{"and not used when they cannot be read", old, []Credentials{fresh}, errors.New("the file is gone"), false, 1},
		{"but not those that are asked for each time", Credentials{}, []Credentials{fresh}, nil, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("DOCKER_CONFIG", t.TempDir())
			d := &doors{open: map[string]string{"a": "one"}}
			r := with(inProcess(d.ServeHTTP), c.before)
			var renewals atomic.Int64
			r.renew = func(context.Context) ([]Credentials, error) {
				renewals.Add(1)
				return c.now, c.err
			}
			_, err := head(t, r, "a")
			if (err == nil) != c.ok || renewals.Load() != c.renewals {
				t.Errorf("%v after %d renewals", err, renewals.Load())
			}
			if err != nil {
				wantError(t, err, "401")
			}
		})
	}
}

func TestManyThatAreRefusedLookCredentialsUpOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &doors{open: map[string]string{"a": "one"}}
		r := inProcess(func(w http.ResponseWriter, req *http.Request) {
			time.Sleep(time.Second)
			d.ServeHTTP(w, req)
		})
		with(r, Credentials{Username: "one", Password: "old"})
		var renewals atomic.Int64
		r.renew = func(context.Context) ([]Credentials, error) {
			renewals.Add(1)
			time.Sleep(time.Second) // all others are refused meanwhile
			return users("one"), nil
		}
		var wg sync.WaitGroup
		for range defaultConnections {
			wg.Go(func() {
				if _, err := r.Head(t.Context(), "a", "v1"); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if renewals.Load() != 1 {
			t.Errorf("%d renewals", renewals.Load())
		}
	})
}

func TestCredentialsThatStayKeepWhatIsKnownOfThem(t *testing.T) {
	r := with(inProcess(sendIndex), users("one", "two")...)
	two := r.accounts.all("")[1]
	with(r, users("three", "two")...)
	if got := r.accounts.all(""); got[1] != two || got[0].credentials.Username != "three" {
		t.Errorf("got %v", got)
	}
}
