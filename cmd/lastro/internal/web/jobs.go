package web

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Job is what runs are counted under. No label is called job: Prometheus calls
// what it scrapes so.
type Job struct {
	Kind string // sync, retain, collect, backup, verify, check, purge: one of a few words of the program's own
	Name string // of the rule or vault; the kind, where there is only one of it
}

// other is the name under which runs are counted whose job is not in the
// configuration, so that no caller can make series without end.
const other = "other"

// Run is a job's run that has ended.
type Run struct {
	Job
	Started, Ended time.Time
	Err            error // nil: done, perhaps in part

	Failed   int   // items that failed, of a run that went on without them
	Deferred int   // items that wait for an upstream that limits requests
	Held     int   // items that the upstream has and that are not to be published yet
	Bytes    int64 // moved: from upstreams in a sync, to a vault in a backup
	Requests int64 // to upstreams
}

// result is the run in one word.
func (r Run) result() string {
	switch {
	case errors.Is(r.Err, context.Canceled):
		return "interrupted"
	case r.Err != nil:
		return "error"
	case r.Failed+r.Deferred > 0:
		return "part"
	}
	return "ok"
}

func results() []string { return []string{"ok", "part", "error", "interrupted"} }

type jobMetrics struct {
	mu     sync.Mutex
	known  map[Job]bool
	active map[Job]int // runs that go on, also of jobs that are no longer known

	running   *prometheus.Desc
	runs      *prometheus.CounterVec
	took      *prometheus.HistogramVec
	lastTook  *prometheus.GaugeVec
	lastEnd   *prometheus.GaugeVec
	succeeded *prometheus.GaugeVec
	failed    *prometheus.GaugeVec
	deferred  *prometheus.GaugeVec
	held      *prometheus.GaugeVec
	bytes     *prometheus.CounterVec
	requests  *prometheus.CounterVec
}

func newJobMetrics() *jobMetrics {
	return &jobMetrics{
		known:     map[Job]bool{},
		active:    map[Job]int{},
		running:   desc("job_running", "Runs that go on.", "kind", "name"),
		runs:      counter("job_runs_total", "Runs that have ended, by result (ok, part, error, interrupted).", "kind", "name", "result"),
		took:      histogram("job_duration_seconds", "How long runs took.", []float64{1, 5, 15, 60, 300, 900, 1800, 3600, 7200, 21600}, "kind"),
		lastTook:  gauge("job_last_duration_seconds", "How long the last run took.", "kind", "name"),
		lastEnd:   gauge("job_last_end_timestamp_seconds", "When the last run ended, however it did.", "kind", "name"),
		succeeded: gauge("job_last_success_timestamp_seconds", "When the last run ended that left nothing undone.", "kind", "name"),
		failed:    gauge("job_last_failed_items", "Items that failed in the last run that was not broken off.", "kind", "name"),
		deferred:  gauge("job_last_deferred_items", "Items that waited for an upstream that limits requests, in the last run that was not broken off.", "kind", "name"),
		held:      gauge("job_last_held_items", "Items that were not to be published yet in the last run that was not broken off.", "kind", "name"),
		bytes:     counter("job_transferred_bytes_total", "Bytes that runs moved: from upstreams in a sync, to a vault in a backup.", "kind", "name"),
		requests:  counter("job_upstream_requests_total", "Requests that runs sent to upstreams.", "kind", "name"),
	}
}

func (m *jobMetrics) all() []prometheus.Collector {
	return []prometheus.Collector{m, m.runs, m.took, m.lastTook, m.lastEnd, m.succeeded, m.failed, m.deferred, m.held, m.bytes, m.requests}
}

// Describe is for prometheus.
func (m *jobMetrics) Describe(ch chan<- *prometheus.Desc) { ch <- m.running }

// Collect is for prometheus.
func (m *jobMetrics) Collect(ch chan<- prometheus.Metric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	counts := map[Job]int{}
	for j := range m.known {
		counts[j] = m.active[j]
	}
	for j, n := range m.active {
		if !m.known[j] {
			counts[Job{j.Kind, other}] += n
		}
	}
	for j, n := range counts {
		send(ch, m.running, float64(n), j.Kind, j.Name)
	}
}

// count adds to the runs of a job that go on.
func (m *jobMetrics) count(j Job, by int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.active[j] += by; m.active[j] <= 0 {
		delete(m.active, j)
	}
}

// label is the job whose series count for j.
func (m *jobMetrics) label(j Job) Job {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.known[j] {
		j.Name = other
	}
	return j
}

// Jobs says which jobs the configuration has. Their series exist from then on;
// those of other jobs end, and runs of other jobs count under the name "other".
func (s *Server) Jobs(jobs []Job) {
	m := s.metrics.jobs
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.known
	m.known = map[Job]bool{}
	for _, j := range jobs {
		m.known[j] = true
		delete(old, j)
		m.begin(j)
	}
	for gone := range old {
		m.forget(gone)
	}
}

// begin makes those series of a job that are zero until something happens.
func (m *jobMetrics) begin(j Job) {
	for _, r := range results() {
		m.runs.WithLabelValues(j.Kind, j.Name, r)
	}
	m.bytes.WithLabelValues(j.Kind, j.Name)
	m.requests.WithLabelValues(j.Kind, j.Name)
}

func (m *jobMetrics) forget(j Job) {
	for _, v := range []interface{ DeletePartialMatch(prometheus.Labels) int }{m.runs, m.lastTook, m.lastEnd, m.succeeded, m.failed, m.deferred, m.held, m.bytes, m.requests} {
		v.DeletePartialMatch(prometheus.Labels{"kind": j.Kind, "name": j.Name})
	}
}

// Succeeded tells when a job last ended well, as the records of an earlier life
// of the daemon say. The zero time is ignored.
func (s *Server) Succeeded(j Job, at time.Time) {
	if at.IsZero() {
		return
	}
	j = s.metrics.jobs.label(j)
	s.metrics.jobs.succeeded.WithLabelValues(j.Kind, j.Name).Set(seconds(at))
}

// Began counts a run that goes on until Ended is called for it.
func (s *Server) Began(j Job) {
	s.metrics.jobs.count(j, 1)
}

// Ended counts a run for which Began was called.
func (s *Server) Ended(r Run) {
	m := s.metrics.jobs
	m.count(r.Job, -1)
	j := m.label(r.Job)
	m.runs.WithLabelValues(j.Kind, j.Name, r.result()).Inc()
	took := r.Ended.Sub(r.Started).Seconds()
	m.took.WithLabelValues(j.Kind).Observe(took)
	m.lastTook.WithLabelValues(j.Kind, j.Name).Set(took)
	m.lastEnd.WithLabelValues(j.Kind, j.Name).Set(seconds(r.Ended))
	m.bytes.WithLabelValues(j.Kind, j.Name).Add(float64(max(r.Bytes, 0)))
	m.requests.WithLabelValues(j.Kind, j.Name).Add(float64(max(r.Requests, 0)))
	if r.Err == nil {
		m.failed.WithLabelValues(j.Kind, j.Name).Set(float64(r.Failed))
		m.deferred.WithLabelValues(j.Kind, j.Name).Set(float64(r.Deferred))
		m.held.WithLabelValues(j.Kind, j.Name).Set(float64(r.Held))
	}
	if r.result() == "ok" {
		m.succeeded.WithLabelValues(j.Kind, j.Name).Set(seconds(r.Ended))
	}
}

// seconds is a time as metrics show it.
func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
