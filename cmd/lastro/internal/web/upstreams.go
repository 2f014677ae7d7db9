package web

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Upstream is what is known of a registry that images come from.
type Upstream struct {
	Host      string
	Limited   bool // it says how many pulls there may be
	Limit     int
	Remaining int
	Throttled time.Time        // until then nothing may be asked; it may have passed
	Requests  map[string]int64 // how requests ended, by outcome
}

// upstreamMetrics ask when they are asked.
type upstreamMetrics struct {
	now func() time.Time
	all func() []Upstream // nil: none

	limit, remaining, throttled, requests *prometheus.Desc
}

func newUpstreamMetrics(o Options) *upstreamMetrics {
	return &upstreamMetrics{
		now:       o.Now,
		all:       o.Upstreams,
		limit:     desc("upstream_pulls_limit", "Pulls that an upstream allows in its window, over all credentials.", "upstream"),
		remaining: desc("upstream_pulls_remaining", "Pulls of them that are left, the reserve among them.", "upstream"),
		throttled: desc("upstream_throttled_seconds", "For how long an upstream may not be asked, 0 when it may.", "upstream"),
		requests:  desc("upstream_requests_total", "Requests to an upstream, each with all its attempts, by outcome (ok, missing, refused, throttled, error).", "upstream", "outcome"),
	}
}

// Describe is for prometheus.
func (m *upstreamMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.limit, m.remaining, m.throttled, m.requests} {
		ch <- d
	}
}

// Collect is for prometheus.
func (m *upstreamMetrics) Collect(ch chan<- prometheus.Metric) {
	if m.all == nil {
		return
	}
	for _, u := range m.all() {
		if u.Limited {
			send(ch, m.limit, float64(u.Limit), u.Host)
			send(ch, m.remaining, float64(u.Remaining), u.Host)
		}
		send(ch, m.throttled, max(0, u.Throttled.Sub(m.now()).Seconds()), u.Host)
		for outcome, n := range u.Requests {
			ch <- prometheus.MustNewConstMetric(m.requests, prometheus.CounterValue, float64(n), u.Host, outcome)
		}
	}
}
