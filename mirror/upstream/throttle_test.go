package upstream

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"lastro/mirror"
)

// after refuses with a status and Retry-After, "" being none.
func after(status int, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if text != "" {
			w.Header().Set("Retry-After", text)
		}
		refuse(status, "")(w, r)
	}
}

// throttled checks that an error says until when to wait.
func throttled(t *testing.T, err error) *mirror.ThrottledError {
	t.Helper()
	e, ok := errors.AsType[*mirror.ThrottledError](err)
	if !ok {
		t.Fatalf("got %v, want a *mirror.ThrottledError", err)
	}
	return e
}

// head asks after a tag, and tells how many requests that took.
func head(t *testing.T, r *Registry, repo string) (int64, error) {
	t.Helper()
	before := r.Requests()
	_, err := r.Head(t.Context(), repo, "v1")
	return r.Requests() - before, err
}

func TestAStormEndsInATimeToComeBack(t *testing.T) {
	for _, c := range []struct {
		name     string
		storm    http.HandlerFunc
		requests int64
		wait     time.Duration // from the last answer on
	}{
		{"of 429 without a header, in a minute", after(429, ""), maxAttempts, time.Minute},
		{"of 429 whose short waits do not help, in a minute", after(429, "3"), maxAttempts, time.Minute},
		{"of 429 with a long wait, then", after(429, "7200"), 1, 2 * time.Hour},
		{"of 429 where nothing is left, when a hundredth of it has come back", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Ratelimit-Limit", "100;w=21600")
			w.Header().Set("Ratelimit-Remaining", "0;w=21600")
			refuse(429, "")(w, r)
		}, 1, 217 * time.Second},
		{"of 503 with a long wait, then", after(503, "300"), 1, 5 * time.Minute},
		{"of 503 whose short waits do not help, in a minute", after(503, "3"), maxAttempts, time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				down := true
				r := inProcess(func(w http.ResponseWriter, req *http.Request) {
					if down {
						c.storm(w, req)
						return
					}
					sendIndex(w, req)
				})
				n, err := head(t, r, "a")
				e := throttled(t, err)
				if n != c.requests || e.Host != "registry.test" || !e.Until.Equal(time.Now().Add(c.wait)) || e.Err == nil || !r.Throttled().Equal(e.Until) {
					t.Errorf("%d requests, %+v; want %d and %v", n, e, c.requests, c.wait)
				}
				wantError(t, err, "upstream registry.test: HEAD manifests/v1 of a: upstream registry.test limits requests until ")
				time.Sleep(c.wait - time.Second)
				n, err = head(t, r, "another")
				if again := throttled(t, err); n != 0 || !again.Until.Equal(e.Until) || again.Err != nil {
					t.Errorf("before then: %d requests, %+v", n, again)
				}
				time.Sleep(time.Second)
				down = false
				if n, err := head(t, r, "a"); n != 1 || err != nil || !r.Throttled().IsZero() {
					t.Errorf("then: %d requests, %v", n, err)
				}
			})
		})
	}
}

func TestAStormWithoutAHeaderIsGivenMoreTimeEachTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := inProcess(after(429, ""))
		for _, want := range []time.Duration{1, 2, 4} {
			_, err := head(t, r, "a")
			e := throttled(t, err)
			if got := time.Until(e.Until); got != want*time.Minute {
				t.Errorf("%v, want %d minutes", got, want)
			}
			time.Sleep(time.Until(e.Until))
		}
	})
}

func TestManyInAStormAreOneStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := inProcess(func(w http.ResponseWriter, req *http.Request) {
			time.Sleep(time.Second) // the others wait for a slot
			after(429, "")(w, req)
		})
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				_, err := r.Head(t.Context(), "a", "v1")
				if _, ok := errors.AsType[*mirror.ThrottledError](err); !ok {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if most := int64(maxAttempts * defaultConnections); r.Requests() > most {
			t.Errorf("%d requests, want those that run at once, five times", r.Requests())
		}
		if until := time.Until(r.Throttled()); until > time.Minute {
			t.Errorf("the guess is %v: each of a storm made it longer", until)
		}
	})
}

func TestATokenServerThatLimitsIsNotAMissingImage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := inProcess(func(w http.ResponseWriter, req *http.Request) {
			if req.URL.Path == "/token" {
				after(429, "600")(w, req)
				return
			}
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://registry.test/token"`)
			refuse(401, "")(w, req)
		})
		_, err := head(t, r, "a")
		if got := time.Until(throttled(t, err).Until); got != 10*time.Minute {
			t.Errorf("until %v", got)
		}
		wantError(t, err, "token from registry.test: 429")
	})
}

// hub is Docker Hub in small: credentials have a budget each, by their user.
type hub struct {
	mu     sync.Mutex
	left   map[string]int // by user
	pulls  map[string]int
	heads  int
	silent bool // says nothing of budgets
}

func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	user, _, ok := r.BasicAuth()
	if !ok && h.left["anonymous"] == 0 {
		w.Header().Set("WWW-Authenticate", "Basic")
		refuse(401, "")(w, r)
		return
	}
	if !ok {
		user = "anonymous"
	}
	h.heads++
	if r.Method == http.MethodGet {
		h.heads--
		h.pulls[user]++
		h.left[user]--
	}
	if !h.silent {
		w.Header().Set("Ratelimit-Limit", "100;w=21600")
		w.Header().Set("Ratelimit-Remaining", fmt.Sprintf("%d;w=21600", max(0, h.left[user])))
	}
	if h.left[user] < 0 {
		refuse(429, `{"errors":[{"code":"TOOMANYREQUESTS"}]}`)(w, r)
		return
	}
	sendIndex(w, r)
}

// users are credentials of the hub.
func users(names ...string) []Credentials {
	var all []Credentials
	for _, name := range names {
		all = append(all, Credentials{Username: name, Password: password})
	}
	return all
}

func openHub(h *hub, reserve float64, names ...string) *Registry {
	h.pulls = map[string]int{}
	return inProcessAs("docker.io", Settings{PlainHTTP: true, Reserve: reserve, Credentials: users(names...)}, h.ServeHTTP)
}

func TestAPullThatWouldGoIntoTheReserveIsNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hub{left: map[string]int{"one": 13}}
		r := openHub(h, 0.1, "one")
		for i := range 5 {
			if _, err := head(t, r, "a"); err != nil {
				t.Fatal(err)
			}
			before := r.Requests()
			_, _, err := r.Manifest(t.Context(), "a", "v1")
			if i < 3 {
				if err != nil {
					t.Fatal(err)
				}
				continue
			}
			if e := throttled(t, err); r.Requests() != before || e.Err != nil || !e.Until.After(time.Now()) || time.Until(e.Until) > 6*time.Hour {
				t.Errorf("%d requests, %v", r.Requests()-before, e)
			}
		}
		want := mirror.Budget{Known: true, Limit: 100, Remaining: 10, Reserve: 10, Window: 6 * time.Hour}
		if got := r.Budget(); got != want || h.heads != 5 || h.pulls["one"] != 3 {
			t.Errorf("%+v after %d pulls and %d HEADs", got, h.pulls["one"], h.heads)
		}
	})
}

func TestElsewhereThanAtDockerHubAHeadCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := inProcess(func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("RateLimit-Limit", "10")
			w.Header().Set("RateLimit-Remaining", "0")
			w.Header().Set("RateLimit-Reset", "3600")
			sendIndex(w, req)
		})
		if _, err := head(t, r, "a"); err != nil {
			t.Fatal(err)
		}
		n, err := head(t, r, "a")
		if got := time.Until(throttled(t, err).Until); n != 0 || got != time.Hour {
			t.Errorf("%d requests, until %v", n, got)
		}
	})
}

func TestAContentServerSaysNothingOfTheBudget(t *testing.T) {
	r := inProcess(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Host == "registry.test" {
			http.Redirect(w, req, "http://content.test/", http.StatusFound)
			return
		}
		w.Header().Set("X-RateLimit-Limit", "10")
		w.Header().Set("X-RateLimit-Remaining", "0")
		sendIndex(w, req)
	})
	if _, err := head(t, r, "a"); err != nil || r.Budget().Known {
		t.Errorf("%v, %+v", err, r.Budget())
	}
}

func TestTheNextCredentialsAreUsedWhenTheFirstHaveNoBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hub{left: map[string]int{"one": 12, "two": 11, "three": 100}}
		r := openHub(h, 0.1, "one", "two")
		start := time.Now()
		for range 3 {
			if _, _, err := r.Manifest(t.Context(), "a", "v1"); err != nil {
				t.Fatal(err)
			}
		}
		_, _, err := r.Manifest(t.Context(), "a", "v1")
		throttled(t, err)
		if h.pulls["one"] != 2 || h.pulls["two"] != 1 || time.Since(start) != 0 {
			t.Errorf("%v pulls in %v", h.pulls, time.Since(start))
		}
		if b := r.Budget(); b.Limit != 200 || b.Remaining != 20 || b.Reserve != 20 || b.Spare() != 0 {
			t.Errorf("%+v", b)
		}
	})
}

func TestTheNextCredentialsAreUsedWhenTheFirstAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var limited atomic.Bool
		limited.Store(true)
		asked := map[string]int{}
		r := inProcess(func(w http.ResponseWriter, req *http.Request) {
			user, _, ok := req.BasicAuth()
			switch {
			case !ok:
				w.Header().Set("WWW-Authenticate", "Basic")
				refuse(401, "")(w, req)
				return
			case user == "one" && limited.Load():
				asked[user]++
				after(429, "3600")(w, req)
				return
			}
			asked[user]++
			sendIndex(w, req)
		})
		with(r, users("one", "two")...)
		start := time.Now()
		for range 3 {
			if _, err := head(t, r, "a"); err != nil {
				t.Fatal(err)
			}
		}
		if asked["one"] != 1 || asked["two"] != 3 || time.Since(start) != 0 || !r.Throttled().IsZero() {
			t.Errorf("asked %v in %v", asked, time.Since(start))
		}
		limited.Store(false)
		time.Sleep(time.Hour)
		if _, err := head(t, r, "a"); err != nil || asked["one"] != 2 {
			t.Errorf("an hour later: %v, asked %v", err, asked)
		}
	})
}

func TestAShortPauseIsWaitedOutThoughOtherCredentialsAreShut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		said := map[string]string{"two": "120"}
		r := inProcess(func(w http.ResponseWriter, req *http.Request) {
			user, _, ok := req.BasicAuth()
			if !ok {
				w.Header().Set("WWW-Authenticate", "Basic")
				refuse(401, "")(w, req)
				return
			}
			if wait := said[user]; wait != "" {
				said[user] = ""
				after(429, wait)(w, req)
				return
			}
			sendIndex(w, req)
		})
		with(r, users("one", "two")...)
		r.accounts.all("")[0].limit.Close(time.Now().Add(time.Hour))
		start := time.Now()
		if _, err := head(t, r, "a"); err != nil || time.Since(start) != 2*time.Minute {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

func TestPullsThatBreakOffAreNotCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hub{left: map[string]int{"one": 1}}
		r := openHub(h, 0, "one")
		if _, err := head(t, r, "a"); err != nil {
			t.Fatal(err)
		}
		breaking(r, 2, func(*http.Request) (*http.Response, error) {
			return nil, errors.New("connection reset by peer")
		})
		if _, _, err := r.Manifest(t.Context(), "a", "v1"); err != nil || h.pulls["one"] != 1 {
			t.Errorf("%v after %d pulls", err, h.pulls["one"])
		}
	})
}

func TestAServerWithTooMuchToDoLimitsAllCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := with(inProcess(after(503, "3600")), users("one", "two")...)
		n, err := head(t, r, "a")
		throttled(t, err)
		if n != 1 {
			t.Errorf("%d requests, want 1", n)
		}
	})
}

func TestRequestsAndStreamsKeepTheirPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := inProcessAs("registry.test", Settings{PlainHTTP: true, Credentials: Anonymous(), RequestsPerSecond: 5}, sendIndex)
		start := time.Now()
		for range 11 {
			if _, err := head(t, r, "a"); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("11 requests at 5 a second took %v", took)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		content := strings.Repeat("x", 1<<20)
		r := inProcessAs("registry.test", Settings{PlainHTTP: true, Credentials: Anonymous(), Bandwidth: 8 << 10}, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(content))
		})
		start := time.Now()
		body, _, err := r.Blob(t.Context(), "a", blobOf(content), 0)
		if err != nil {
			t.Fatal(err)
		}
		defer body.Close()
		n := 0
		for p := make([]byte, 512<<10); ; { // one read asks for a minute's worth: no stall
			m, err := body.Read(p)
			if n += m; err != nil {
				break
			}
		}
		if took := time.Since(start); n != len(content) || took < 126*time.Second || took > 129*time.Second {
			t.Errorf("%d bytes in %v, want 1 MiB in 128 s", n, took)
		}
	})
}

func TestOutcomesAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		status := 200
		r := inProcess(func(w http.ResponseWriter, req *http.Request) {
			if status == 200 {
				sendIndex(w, req)
				return
			}
			refuse(status, "")(w, req)
		})
		for _, status = range []int{200, 200, 404, 403, 500, 429, 429} {
			_, _ = head(t, r, "a")
		}
		if got, want := r.Outcomes(), (Outcomes{OK: 2, Missing: 1, Refused: 1, Throttled: 2, Failed: 1}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}
