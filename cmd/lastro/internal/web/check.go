package web

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Check is what is known of the daemon's own check of the store.
type Check struct {
	Ended     time.Time      // of the last run; zero: there was none
	Succeeded time.Time      // of the last run that left no problem; zero: there was none
	Problems  map[string]int // that the last run left, by kind, those with none too
	Oldest    time.Time      // when what was longest unread was read, or the first run began; zero: not known
}

// Checked says what the last check has found. bytes and repaired are what it has
// read and healed since the daemon started and was not told before.
func (s *Server) Checked(c Check, bytes int64, repaired int) {
	m := s.metrics.check
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last = c
	m.bytes.Add(float64(max(bytes, 0)))
	m.repaired.Add(float64(max(repaired, 0)))
}

// checkMetrics tell the age of what was read at the moment of being asked.
type checkMetrics struct {
	now  func() time.Time
	mu   sync.Mutex
	last Check

	ended, succeeded, problems, unread *prometheus.Desc

	bytes, repaired prometheus.Counter
}

func newCheckMetrics(now func() time.Time) *checkMetrics {
	count := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "lastro", Name: name, Help: help})
	}
	return &checkMetrics{
		now:       now,
		ended:     desc("check_last_end_timestamp_seconds", "When the daemon's last check of the store ended, whatever it found."),
		succeeded: desc("check_last_success_timestamp_seconds", "When the daemon's last check ended that left no problem but waste."),
		problems:  desc("check_problems", "Problems that the last check left, by kind; orphaned and abandoned are waste that hurts nobody.", "kind"),
		unread:    desc("check_oldest_unread_seconds", "For how long what is longest unread was not read and hashed."),
		bytes:     count("check_read_bytes_total", "Bytes that checks read and hashed."),
		repaired:  count("check_repaired_total", "Problems that checks healed."),
	}
}

func (m *checkMetrics) all() []prometheus.Collector {
	return []prometheus.Collector{m, m.bytes, m.repaired}
}

// Describe is for prometheus.
func (m *checkMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.ended, m.succeeded, m.problems, m.unread} {
		ch <- d
	}
}

// Collect is for prometheus.
func (m *checkMetrics) Collect(ch chan<- prometheus.Metric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for kind, n := range m.last.Problems {
		send(ch, m.problems, float64(n), kind)
	}
	if !m.last.Ended.IsZero() {
		send(ch, m.ended, seconds(m.last.Ended))
	}
	if !m.last.Succeeded.IsZero() {
		send(ch, m.succeeded, seconds(m.last.Succeeded))
	}
	if !m.last.Oldest.IsZero() {
		send(ch, m.unread, m.now().Sub(m.last.Oldest).Seconds())
	}
}
