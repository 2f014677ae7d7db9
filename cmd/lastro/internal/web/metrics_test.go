package web

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	gometrics "github.com/docker/go-metrics"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
)

// busy is a server to which everything has happened that makes a metric.
func busy(t *testing.T) *Server {
	t.Helper()
	s := New(Options{Now: fixed, Version: "1.2.3", Data: t.TempDir(), Stock: func(context.Context) (Stock, error) {
		return Stock{Repositories: 2, Tags: 3, Images: 7, Blobs: 20, Bytes: 1 << 30}, nil
	}, Upstreams: func() []Upstream {
		return []Upstream{
			{Host: "docker.io", Limited: true, Limit: 100, Remaining: 7, Throttled: fixed().Add(time.Minute), Requests: map[string]int64{"ok": 5, "throttled": 1}},
			{Host: "quay.io", Throttled: fixed().Add(-time.Minute)},
		}
	}, Front: func() Front {
		return Front{Access: map[string]int64{"ok": 4, "failed": 2}, Connections: 3, Refused: 1, Expires: fixed()}
	}})
	s.Ready(true)
	s.Reloaded(nil)
	s.Reloaded(errors.New("bad file"))
	debian, backup := Job{"sync", "debian"}, Job{"backup", "main"}
	s.Jobs([]Job{debian, backup})
	s.Succeeded(backup, fixed().Add(-time.Hour))
	s.Succeeded(debian, time.Time{})
	s.Began(debian)
	s.Ended(Run{Job: debian, Started: fixed().Add(-time.Minute), Ended: fixed(), Bytes: 1000, Requests: 12})
	s.Began(backup)
	s.Vaults([]Vault{{Name: "main", Snapshots: 4, Newest: fixed().Add(-time.Hour), Locked: fixed()}, {Name: "new"}})
	s.ReadBack(ReadBack{Name: "main", Oldest: fixed().Add(-24 * time.Hour), Repaired: map[string]int{"upstream": 1}})
	s.Drilled(Drill{Name: "main", Good: fixed(), RTO: time.Minute})
	s.Left("main", 3)
	s.Pruned(Prune{Vault: "main", Condemned: 2, CondemnedBytes: 20, Kept: 1, Removed: 3, FreedBytes: 30})
	s.Collected(Collect{Waiting: 1, Deleted: 1, FreedBytes: 1, TakenBack: 1})
	s.Checked(Check{Ended: fixed(), Succeeded: fixed(), Oldest: fixed(), Problems: map[string]int{"corrupt": 1}}, 1<<20, 1)
	handler := s.Instrument(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") }))
	for _, path := range []string{"/v2/", "/v2/a/manifests/1", "/v2/a/tags/list"} {
		handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	}
	return s
}

func TestMetricsPassPrometheusOwnLinter(t *testing.T) {
	text := body(t, get(t, busy(t), "/metrics"))
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	if !strings.Contains(text, "lastro_ready 1") {
		t.Errorf("the linter saw nothing of ours: %s", text)
	}
}

func TestUpstreamsTellTheirLimits(t *testing.T) {
	text := body(t, get(t, busy(t), "/metrics"))
	for _, line := range []string{
		`lastro_upstream_pulls_limit{upstream="docker.io"} 100`,
		`lastro_upstream_pulls_remaining{upstream="docker.io"} 7`,
		`lastro_upstream_throttled_seconds{upstream="docker.io"} 60`,
		`lastro_upstream_throttled_seconds{upstream="quay.io"} 0`,
		`lastro_upstream_requests_total{outcome="throttled",upstream="docker.io"} 1`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("lacks %s", line)
		}
	}
	if strings.Contains(text, `lastro_upstream_pulls_limit{upstream="quay.io"}`) {
		t.Error("an upstream that says nothing has a limit")
	}
}

func TestTheFrontTellsWhoCame(t *testing.T) {
	text := body(t, get(t, busy(t), "/metrics"))
	for _, line := range []string{
		`lastro_registry_access_total{outcome="failed"} 2`, "lastro_registry_connections 3", "lastro_registry_refused_total 1",
		"lastro_registry_certificate_expiry_timestamp_seconds ",
	} {
		if !strings.Contains(text, "\n"+line) {
			t.Errorf("lacks %s", line)
		}
	}
	if text := body(t, get(t, New(Options{Now: fixed}), "/metrics")); strings.Contains(text, "lastro_registry_connections") {
		t.Error("what is not known is told")
	}
}

func TestMetricsPassPromtool(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("LASTRO_REQUIRE_PEERS") != "" {
			t.Fatal("promtool is not installed (Debian: prometheus)")
		}
		t.Skip("skipped: promtool is not installed (Debian: prometheus)")
	}
	check := exec.CommandContext(t.Context(), promtool, "check", "metrics")
	check.Stdin = strings.NewReader(body(t, get(t, busy(t), "/metrics")))
	if out, err := check.CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}

// gathered are our metrics by name.
func gathered(t *testing.T, s *Server) map[string]*dto.MetricFamily {
	t.Helper()
	all, err := s.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	ours := map[string]*dto.MetricFamily{}
	for _, f := range all {
		if strings.HasPrefix(f.GetName(), "lastro_") {
			ours[f.GetName()] = f
		}
	}
	return ours
}

// value is that of the series of a metric with the labels, which are given as
// name=value.
func value(t *testing.T, s *Server, name string, labels ...string) float64 {
	t.Helper()
	for _, m := range gathered(t, s)[name].GetMetric() {
		if slices.Equal(labelsOf(m, "="), labels) {
			return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return -1
}

func labelsOf(m *dto.Metric, sep string) []string {
	var labels []string
	for _, l := range m.GetLabel() {
		if sep == "" {
			labels = append(labels, l.GetName())
		} else {
			labels = append(labels, l.GetName()+sep+l.GetValue())
		}
	}
	return labels
}

func TestTheTableInTheDocumentationIsWhatIsServed(t *testing.T) {
	var served []string
	for name, f := range gathered(t, busy(t)) {
		labels := labelsOf(f.GetMetric()[0], "")
		slices.Sort(labels)
		served = append(served, fmt.Sprint(name, " ", strings.ToLower(f.GetType().String()), " ", labels))
	}
	slices.Sort(served)
	if d := cmp.Diff(documented(t), served); d != "" {
		t.Errorf("doc.go (-) and /metrics (+) differ:\n%s", d)
	}
}

func documented(t *testing.T) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "doc.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for line := range strings.Lines(file.Doc.Text()) {
		cells := strings.Split(line, "|")
		if len(cells) != 6 || !strings.Contains(cells[1], "`lastro_") {
			continue
		}
		var labels []string
		if l := strings.TrimSpace(cells[3]); l != "" {
			labels = strings.Split(l, ", ")
		}
		slices.Sort(labels)
		rows = append(rows, fmt.Sprint(strings.Trim(cells[1], " `"), " ", strings.TrimSpace(cells[2]), " ", labels))
	}
	slices.Sort(rows)
	return rows
}

func TestNothingIsRegisteredWithTheDefaultRegistry(t *testing.T) {
	busy(t)
	all, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if strings.HasPrefix(f.GetName(), "lastro_") {
			t.Errorf("%s is registered there", f.GetName())
		}
	}
}

func TestMetricsOfTheEmbeddedRegistryCanBeAdded(t *testing.T) {
	s := New(Options{Now: fixed})
	namespace := gometrics.NewNamespace("registry", "storage", nil)
	namespace.NewLabeledCounter("cache", "The number of cache requests received", "type").WithValues("Hit").Inc()
	if err := s.Register(namespace); err != nil {
		t.Fatal(err)
	}
	if text, want := body(t, get(t, s, "/metrics")), `registry_storage_cache_total{type="Hit"} 1`; !strings.Contains(text, want) {
		t.Errorf("%s is not among\n%s", want, text)
	}
}

func TestJobs(t *testing.T) {
	s := New(Options{Now: fixed})
	debian, alpine := Job{"sync", "debian"}, Job{"sync", "alpine"}
	s.Jobs([]Job{debian})
	run := func(j Job, err error, failed int) {
		s.Began(j)
		s.Ended(Run{Job: j, Started: fixed().Add(-time.Minute), Ended: fixed(), Err: err, Failed: failed, Deferred: 2 * failed, Held: 4, Bytes: 10, Requests: 2})
	}
	run(debian, errors.New("disk full"), 0)
	if got := value(t, s, "lastro_job_last_success_timestamp_seconds", "kind=sync", "name=debian"); got != -1 {
		t.Errorf("success after a failure: %v", got)
	}
	run(debian, nil, 0)
	run(debian, nil, 3)
	run(debian, fmt.Errorf("sync: %w", context.Canceled), 0)
	run(alpine, nil, 0) // not in the configuration
	for _, c := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"lastro_job_runs_total", []string{"kind=sync", "name=debian", "result=ok"}, 1},
		{"lastro_job_runs_total", []string{"kind=sync", "name=debian", "result=part"}, 1},
		{"lastro_job_runs_total", []string{"kind=sync", "name=debian", "result=error"}, 1},
		{"lastro_job_runs_total", []string{"kind=sync", "name=debian", "result=interrupted"}, 1},
		{"lastro_job_runs_total", []string{"kind=sync", "name=other", "result=ok"}, 1},
		{"lastro_job_runs_total", []string{"kind=sync", "name=alpine", "result=ok"}, -1},
		{"lastro_job_running", []string{"kind=sync", "name=debian"}, 0},
		{"lastro_job_duration_seconds", []string{"kind=sync"}, 5},
		{"lastro_job_last_duration_seconds", []string{"kind=sync", "name=debian"}, 60},
		{"lastro_job_last_failed_items", []string{"kind=sync", "name=debian"}, 3},
		{"lastro_job_last_deferred_items", []string{"kind=sync", "name=debian"}, 6},
		{"lastro_job_last_held_items", []string{"kind=sync", "name=debian"}, 4},
		{"lastro_job_last_success_timestamp_seconds", []string{"kind=sync", "name=debian"}, seconds(fixed())},
		{"lastro_job_transferred_bytes_total", []string{"kind=sync", "name=debian"}, 40},
		{"lastro_job_upstream_requests_total", []string{"kind=sync", "name=debian"}, 8},
	} {
		if got := value(t, s, c.name, c.labels...); got != c.want {
			t.Errorf("%s%v: got %v, want %v", c.name, c.labels, got, c.want)
		}
	}
}

func TestAJobThatLeavesTheConfigurationWhileItRuns(t *testing.T) {
	s := New(Options{Now: fixed})
	debian, alpine := Job{"sync", "debian"}, Job{"sync", "alpine"}
	s.Jobs([]Job{debian})
	s.Began(debian)
	s.Jobs([]Job{alpine})
	if got := value(t, s, "lastro_job_running", "kind=sync", "name=other"); got != 1 {
		t.Errorf("running: got %v, want 1", got)
	}
	s.Ended(Run{Job: debian, Started: fixed(), Ended: fixed()})
	if got := value(t, s, "lastro_job_running", "kind=sync", "name=other"); got != -1 {
		t.Errorf("running: got %v, want no series", got)
	}
	if text := body(t, get(t, s, "/metrics")); strings.Contains(text, "debian") {
		t.Errorf("a job that is gone still has series:\n%s", text)
	}
	if got := value(t, s, "lastro_job_runs_total", "kind=sync", "name=alpine", "result=ok"); got != 0 {
		t.Errorf("a new job: got %v, want 0", got)
	}
}

func TestTheAgeOfASnapshotGrows(t *testing.T) {
	now := fixed()
	s := New(Options{Now: func() time.Time { return now }})
	s.Vaults([]Vault{{Name: "main", Snapshots: 1, Newest: now}, {Name: "gone", Snapshots: 1, Newest: now}})
	now = now.Add(time.Hour)
	s.Vaults([]Vault{{Name: "main", Snapshots: 1, Newest: fixed()}, {Name: "empty"}})
	if got, want := value(t, s, "lastro_vault_snapshot_age_seconds", "vault=main"), 3600.0; got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	for name, want := range map[string]float64{"empty": 0, "gone": -1} {
		if got := value(t, s, "lastro_vault_snapshots", "vault="+name); got != want {
			t.Errorf("snapshots of %s: got %v, want %v", name, got, want)
		}
	}
	if got := value(t, s, "lastro_vault_snapshot_age_seconds", "vault=empty"); got != -1 {
		t.Errorf("age of nothing: got %v, want no series", got)
	}
	s.Snapshot(Vault{Name: "empty", Snapshots: 1, Newest: now})
	if got := value(t, s, "lastro_vault_snapshot_age_seconds", "vault=empty"); got != 0 {
		t.Errorf("age of a new one: got %v, want 0", got)
	}
}

func TestUntilWhenAVaultIsLockedIsTold(t *testing.T) {
	s := New(Options{Now: fixed})
	s.Vaults([]Vault{{Name: "main", Locked: fixed()}, {Name: "open"}})
	for series, want := range map[string]float64{"main": seconds(fixed()), "open": -1} {
		if got := value(t, s, "lastro_vault_locked_until_timestamp_seconds", "vault="+series); got != want {
			t.Errorf("%s: got %v, want %v", series, got, want)
		}
	}
}

func TestWhatIsLongestUnreadInAVaultGetsOlder(t *testing.T) {
	now := fixed()
	s := New(Options{Now: func() time.Time { return now }})
	s.Vaults([]Vault{{Name: "main"}, {Name: "unread"}})
	s.ReadBack(ReadBack{Name: "main", Oldest: now, Problems: 2})
	s.ReadBack(ReadBack{Name: "gone", Oldest: now, Problems: 1})
	now = now.Add(time.Hour)
	for series, want := range map[string]float64{"main": 3600, "unread": -1, "gone": -1} {
		if got := value(t, s, "lastro_vault_oldest_unread_seconds", "vault="+series); got != want {
			t.Errorf("%s: got %v, want %v", series, got, want)
		}
	}
	for series, want := range map[string]float64{"main": 2, "unread": -1, "gone": -1} {
		if got := value(t, s, "lastro_vault_problems", "vault="+series); got != want {
			t.Errorf("problems of %s: got %v, want %v", series, got, want)
		}
	}
}

func TestADrillThatFailsDoesNotMakeTheLastGoodOneForgotten(t *testing.T) {
	now := fixed()
	s := New(Options{Now: func() time.Time { return now }})
	s.Vaults([]Vault{{Name: "main", Newest: now}, {Name: "never"}})
	s.Drilled(Drill{Name: "main", Good: now, RTO: time.Minute})
	now = now.Add(time.Hour)
	s.Drilled(Drill{Name: "main", Problems: 3})
	for metric, want := range map[string]float64{"drill_age_seconds": 3600, "drill_problems": 3, "rpo_seconds": 3600, "rto_seconds": -1} {
		if got := value(t, s, "lastro_vault_"+metric, "vault=main"); got != want {
			t.Errorf("%s: got %v, want %v", metric, got, want)
		}
		if got := value(t, s, "lastro_vault_"+metric, "vault=never"); got != -1 {
			t.Errorf("%s of one that was never tried: %v", metric, got)
		}
	}
}

func TestTheStockIsCountedNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		count, takes, failure := 0, time.Duration(0), error(nil)
		s := New(Options{Now: time.Now, Stock: func(ctx context.Context) (Stock, error) {
			count++
			mine := Stock{Tags: count}
			select {
			case <-time.After(takes):
				return mine, failure
			case <-ctx.Done():
				return Stock{}, ctx.Err()
			}
		}})
		want := func(what string, want float64) {
			t.Helper()
			if got := value(t, s, "lastro_store_tags"); got != want {
				t.Errorf("%s: got %v, want %v", what, got, want)
			}
		}
		want("at first", 1)
		time.Sleep(counted - time.Second)
		want("soon after", 1)
		takes = time.Minute
		time.Sleep(time.Second)
		want("while a slow count goes on", 1)
		want("and nobody begins another meanwhile", 1)
		time.Sleep(takes)
		want("once it is done", 2)
		failure = errors.New("disk on fire")
		time.Sleep(counted)
		time.Sleep(takes)
		want("after a count that failed", 2)
		time.Sleep(counted)
		s.metrics.stock.refresh()
		start := time.Now()
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if got := time.Since(start); got != 0 {
			t.Errorf("shutdown waited %v for a count", got)
		}
		want("after the end", 2)
	})
}

func TestManyMayReportAndReadAtOnce(t *testing.T) {
	s := busy(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			job := Job{"sync", fmt.Sprint(i % 3)}
			s.Began(job)
			s.Jobs([]Job{job})
			s.Snapshot(Vault{Name: "main", Snapshots: i})
			s.Ready(i%2 == 0)
			s.Reloaded(nil)
			if r := get(t, s, "/metrics"); r.StatusCode != 200 {
				t.Errorf("got %d", r.StatusCode)
			}
			s.Ended(Run{Job: job, Started: fixed(), Ended: fixed()})
		})
	}
	wg.Wait()
}

func TestRepairsOfVaultsAddUp(t *testing.T) {
	s := New(Options{Now: fixed})
	s.ReadBack(ReadBack{Name: "main", Repaired: map[string]int{"local store": 2, "upstream": 1}})
	s.ReadBack(ReadBack{Name: "main", Repaired: map[string]int{"local store": 3}})
	s.ReadBack(ReadBack{Name: "main"})
	for source, want := range map[string]float64{"local store": 5, "upstream": 1} {
		if got := value(t, s, "lastro_vault_repaired_total", "source="+source, "vault=main"); got != want {
			t.Errorf("from %s: got %v, want %v", source, got, want)
		}
	}
}
