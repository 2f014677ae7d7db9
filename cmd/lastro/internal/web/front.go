package web

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Front is what the registry's address says of those who come.
type Front struct {
	Access      map[string]int64 // how it was decided who they are and what they may, by outcome
	Connections int              // that are open
	Refused     int64            // connections and requests that were too many
	Expires     time.Time        // when the certificate does; zero: there is no TLS
}

// frontMetrics ask when they are asked.
type frontMetrics struct {
	ask func() Front // nil: nothing is known

	access, connections, refused, expires *prometheus.Desc
}

func newFrontMetrics(o Options) *frontMetrics {
	return &frontMetrics{
		ask:         o.Front,
		access:      desc("registry_access_total", "Requests whose right was looked at, by outcome (ok, asked, denied, failed, throttled); none without auth.", "outcome"),
		connections: desc("registry_connections", "Connections of clients."),
		refused:     desc("registry_refused_total", "Connections and requests that were refused, because there were too many."),
		expires:     desc("registry_certificate_expiry_timestamp_seconds", "When the registry's certificate expires."),
	}
}

// Describe is for prometheus.
func (m *frontMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.access, m.connections, m.refused, m.expires} {
		ch <- d
	}
}

// Collect is for prometheus.
func (m *frontMetrics) Collect(ch chan<- prometheus.Metric) {
	if m.ask == nil {
		return
	}
	f := m.ask()
	for outcome, n := range f.Access {
		ch <- prometheus.MustNewConstMetric(m.access, prometheus.CounterValue, float64(n), outcome)
	}
	send(ch, m.connections, float64(f.Connections))
	ch <- prometheus.MustNewConstMetric(m.refused, prometheus.CounterValue, float64(f.Refused))
	if !f.Expires.IsZero() {
		send(ch, m.expires, float64(f.Expires.Unix()))
	}
}
