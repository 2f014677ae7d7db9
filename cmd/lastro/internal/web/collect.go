package web

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Collect is what a run of the collector did, and what it left.
type Collect struct {
	Waiting     int    // condemned, and served still
	KeptByDoubt int    // that could not be decided
	Deleted     int    // by this run
	FreedBytes  int64  // by this run
	TakenBack   uint64 // condemned digests that somebody asked for, since the daemon started
}

// Collected says what the last run of the collector did.
func (s *Server) Collected(c Collect) {
	m := s.metrics.collect
	m.waiting.Set(float64(c.Waiting))
	m.doubt.Set(float64(c.KeptByDoubt))
	m.deleted.Add(float64(max(c.Deleted, 0)))
	m.freed.Add(float64(max(c.FreedBytes, 0)))
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.TakenBack > m.told {
		m.taken.Add(float64(c.TakenBack - m.told))
		m.told = c.TakenBack
	}
}

type collectMetrics struct {
	waiting, doubt        prometheus.Gauge
	deleted, freed, taken prometheus.Counter

	mu   sync.Mutex
	told uint64 // of what was taken back
}

func newCollectMetrics() *collectMetrics {
	count := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "lastro", Name: name, Help: help})
	}
	level := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "lastro", Name: name, Help: help})
	}
	return &collectMetrics{
		waiting: level("collect_condemned", "Digests that nothing needs and that are served still, until they are deleted or somebody asks for them."),
		doubt:   level("collect_kept_by_doubt", "What the last run of the collector kept because something could not be read or decided."),
		deleted: count("collect_deleted_total", "Digests that the collector deleted."),
		freed:   count("collect_freed_bytes_total", "Bytes of content that the collector deleted."),
		taken:   count("collect_taken_back_total", "Condemned digests that somebody asked for, which took them back: many say that collect.grace is too short."),
	}
}

func (m *collectMetrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.waiting, m.doubt, m.deleted, m.freed, m.taken}
}
