package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lastro/mirror"
	"lastro/mirror/sample"
)

// throttling is the sample upstream with Docker Hub's list of repositories,
// which asks to be left alone for a moment as long as busy says so.
type throttling struct {
	registry *sample.Registry
	wait     time.Duration

	mu      sync.Mutex
	busy    func(refused int) bool
	refused []time.Time
}

func (u *throttling) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	namespace, ok := strings.CutPrefix(r.URL.Path, "/v2/namespaces/")
	switch {
	case !ok:
		u.registry.Handler().ServeHTTP(w, r)
	case u.refuses():
		w.Header().Set("Retry-After", fmt.Sprint(int(u.wait.Seconds())))
		w.WriteHeader(http.StatusTooManyRequests)
	default:
		u.list(w, strings.TrimSuffix(namespace, "/repositories"))
	}
}

func (u *throttling) refuses() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.busy(len(u.refused)) {
		return false
	}
	u.refused = append(u.refused, time.Now())
	return true
}

func (u *throttling) list(w http.ResponseWriter, namespace string) {
	results := []map[string]string{}
	for _, e := range u.registry.Expect() {
		name, ok := strings.CutPrefix(e.Repo, namespace+"/")
		if entry := map[string]string{"name": name}; ok && !slices.ContainsFunc(results, func(r map[string]string) bool { return r["name"] == name }) {
			results = append(results, entry)
		}
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"results": results})
}

// allow makes the upstream refuse no more.
func (u *throttling) allow() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.busy = func(int) bool { return false }
}

// pauses are how long it was left alone after each refusal but the last.
func (u *throttling) pauses() (all []time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := 1; i < len(u.refused); i++ {
		all = append(all, u.refused[i].Sub(u.refused[i-1]))
	}
	return all
}

// throttledBench has two rules: web, which no limit is in the way of, and
// library, whose list of repositories is limited.
func throttledBench(t *testing.T, busy func(refused int) bool) (*bench, *throttling) {
	t.Helper()
	b, registry := sampleBench(t)
	u := &throttling{registry: registry, wait: 2 * time.Second, busy: busy}
	srv := httptest.NewServer(u)
	t.Cleanup(srv.Close)
	text := fmt.Sprintf(`data: %s
registry: {listen: %q}
admin: {listen: %q}
upstreams:
  docker.io: {endpoint: %q, catalog: %q, plain-http: true, credentials: none}
mirror:
  - {name: web, from: docker.io/apps/web, to: mirror/apps/web}
  - {name: library, from: 'docker.io/library/**', to: mirror/library}
`, b.data(), b.registry, freeAddress(t), srv.URL, srv.URL)
	if err := os.WriteFile(b.config(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return b, u
}

// of are the expected images of both rules.
func (u *throttling) of(prefixes ...string) (all []sample.Expect) {
	for _, e := range u.registry.Expect() {
		if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(e.Repo, p) }) {
			all = append(all, e)
		}
	}
	return all
}

func TestTheDaemonComesBackByItselfWhenAnUpstreamSaysSo(t *testing.T) {
	b, u := throttledBench(t, func(int) bool { return true })
	daemon := start(t, b.command(t, "serve", "--log-level", "info"))
	admin := daemon.wait(t, `msg="lastro serves".* admin=(\S+)`)[1]
	daemon.wait(t, `msg="images wait for an upstream that limits requests" job="sync library" images=1 until=2`)
	for _, e := range u.of("apps/web") {
		daemon.mirrored(t, e) // the other rule goes on
	}
	var st status
	b.read(t, &st, "status")
	if library := st.Rules[1]; library.Complete || library.Behind != 1 || library.Checked != nil || !slices.ContainsFunc(st.Problems, func(p string) bool { return strings.Contains(p, "rule library: 1 images or repositories are behind") }) {
		t.Errorf("status while the upstream limits requests: %+v", st)
	}
	if _, metrics := get(t, "http://"+admin+"/metrics"); !strings.Contains(metrics, `lastro_job_last_deferred_items{kind="sync",name="library"} 1`) {
		t.Error("/metrics does not tell that library waits")
	}

	u.allow()
	for _, e := range u.of("library/") {
		daemon.mirrored(t, e)
	}
	var report mirror.Report
	b.read(t, &report, "sync") // when the daemon's own has ended
	for _, rule := range report.Rules {
		if len(rule.Copied) > 0 {
			t.Errorf("rule %s: the daemon left %d images", rule.Name, len(rule.Copied))
		}
	}
	b.pulls(t, u.of("apps/web", "library/"))
	b.read(t, &st, "status")
	if !st.Rules[0].Complete || !st.Rules[1].Complete {
		t.Errorf("status afterwards: %+v", st.Rules)
	}
	if _, metrics := get(t, "http://"+admin+"/metrics"); !strings.Contains(metrics, `lastro_job_last_deferred_items{kind="sync",name="library"} 0`) {
		t.Error("/metrics still says that library waits")
	}
	u.leftAlone(t)
}

// mirrored waits until the daemon says that an image is there. What is attached
// to one comes with it.
func (c *child) mirrored(t *testing.T, e sample.Expect) {
	t.Helper()
	if e.Attached {
		return
	}
	c.wait(t, `msg="image mirrored" repo=`+regexp.QuoteMeta("mirror/"+e.Repo)+" tag="+regexp.QuoteMeta(e.Tag)+" ")
}

// leftAlone checks that nobody came back before the upstream's time.
func (u *throttling) leftAlone(t *testing.T) {
	t.Helper()
	for _, pause := range u.pauses() {
		if pause < u.wait {
			t.Errorf("the upstream was asked again after %v, and said %v", pause, u.wait)
		}
	}
}

func TestSyncWaitsUntilAnUpstreamAllowsAllOfIt(t *testing.T) {
	b, u := throttledBench(t, func(refused int) bool { return refused < 2 })
	var report mirror.Report
	b.read(t, &report, "sync", "--wait")
	copied := 0
	for _, rule := range report.Rules {
		copied += len(rule.Copied)
		if len(rule.Deferred)+len(rule.Failed) > 0 {
			t.Errorf("rule %s: %+v", rule.Name, rule)
		}
	}
	want := slices.DeleteFunc(u.of("apps/web", "library/"), func(e sample.Expect) bool { return e.Attached })
	if copied != len(want) {
		t.Errorf("%d copied, want %d", copied, len(want))
	}
	if n := len(u.pauses()); n != 1 {
		t.Errorf("%d pauses, want one between two refusals", n)
	}
	u.leftAlone(t)
	b.serve(t)
	b.pulls(t, u.of("apps/web", "library/"))
}

func TestSyncWithoutWaitLeavesWhatIsLimited(t *testing.T) {
	b, u := throttledBench(t, func(int) bool { return true })
	out := b.run(t, exitPart, "sync")
	if !strings.Contains(out, "deferred  ") || !strings.Contains(out, "1 deferred, 0 failed") || len(u.pauses()) != 0 {
		t.Errorf("got %s", out)
	}
}

func TestShortWaitsAreWaitedOutAndDeferNothing(t *testing.T) {
	b, u := throttledBench(t, func(int) bool { return false })
	var storm throttling
	storm.wait, storm.busy = time.Second, func(refused int) bool { return refused < 2 }
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if sample.RequestOf(r).Kind == sample.KindManifest && r.Method == http.MethodGet && storm.refuses() {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		u.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	text, err := os.ReadFile(b.config())
	if err == nil {
		err = os.WriteFile(b.config(), regexp.MustCompile(`endpoint: "[^"]*"`).ReplaceAll(text, fmt.Appendf(nil, "endpoint: %q", srv.URL)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if out := b.run(t, exitDone, "sync"); !strings.Contains(out, " 0 failed") || strings.Contains(out, "deferred") {
		t.Errorf("got %s", out)
	}
	if len(storm.pauses()) != 1 {
		t.Errorf("%d pauses: the upstream limited nothing", len(storm.pauses()))
	}
	b.serve(t)
	b.pulls(t, u.of("apps/web", "library/"))
}
