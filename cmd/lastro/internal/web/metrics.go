package web

import (
	"runtime"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are ours; doc.go lists them for people.
type metrics struct {
	build *prometheus.GaugeVec
	ready prometheus.GaugeFunc

	reloads  *prometheus.CounterVec
	reloaded prometheus.Gauge

	requests *prometheus.CounterVec
	took     *prometheus.HistogramVec
	inFlight *prometheus.GaugeVec
	sent     *prometheus.CounterVec

	jobs  *jobMetrics
	stock *stockMetrics
	vault *vaultMetrics
	check *checkMetrics

	collect *collectMetrics

	rehydrate *rehydrateMetrics
	prune     *pruneMetrics

	upstreams *upstreamMetrics
	front     *frontMetrics
}

func newMetrics(s *Server) *metrics {
	m := &metrics{
		build: gauge("build_info", "Always 1; its labels say which lastro this is.", "version", "goversion"),
		ready: prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "lastro_ready", Help: "1 while the registry takes requests, 0 before it listens and while the daemon drains."},
			func() float64 { return number(s.ready.Load()) }),
		reloads:  counter("config_reloads_total", "Times that the configuration was read again, by result (ok, error).", "result"),
		reloaded: prometheus.NewGauge(prometheus.GaugeOpts{Name: "lastro_config_last_reload_success_timestamp_seconds", Help: "When the configuration in use was read."}),
		requests: counter("registry_requests_total", "Answered requests to the registry.", "method", "kind", "code"),
		took:     histogram("registry_request_duration_seconds", "From the first byte of a request to the registry to the last of its answer.", []float64{.001, .005, .025, .1, .5, 2, 10, 60, 600}, "method", "kind"),
		inFlight: gauge("registry_requests_in_flight", "Requests to the registry that are being answered.", "kind"),
		sent:     counter("registry_response_bytes_total", "Bytes of answers of the registry.", "kind"),
		jobs:     newJobMetrics(),
		stock:    newStockMetrics(s),
		vault:    newVaultMetrics(s.o.Now),
		check:    newCheckMetrics(s.o.Now),
		collect:  newCollectMetrics(),

		rehydrate: newRehydrateMetrics(),
		prune:     newPruneMetrics(),

		upstreams: newUpstreamMetrics(s.o),
		front:     newFrontMetrics(s.o),
	}
	m.build.WithLabelValues(s.o.Version, runtime.Version()).Set(1)
	m.reloads.WithLabelValues("ok")
	m.reloads.WithLabelValues("error")
	m.reloaded.Set(seconds(s.o.Now()))
	return m
}

func (m *metrics) all() []prometheus.Collector {
	all := []prometheus.Collector{m.build, m.ready, m.reloads, m.reloaded, m.requests, m.took, m.inFlight, m.sent, m.stock, m.vault, m.upstreams, m.front}
	return slices.Concat(all, m.jobs.all(), m.check.all(), m.collect.all(), m.rehydrate.all(), m.prune.all())
}

// Reloaded counts a reading of the configuration.
func (s *Server) Reloaded(err error) {
	if err != nil {
		s.metrics.reloads.WithLabelValues("error").Inc()
		return
	}
	s.metrics.reloads.WithLabelValues("ok").Inc()
	s.metrics.reloaded.Set(seconds(s.o.Now()))
}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "lastro", Name: name, Help: help}, labels)
}

func gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "lastro", Name: name, Help: help}, labels)
}

func histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "lastro", Name: name, Help: help, Buckets: buckets}, labels)
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("lastro_"+name, help, labels, nil)
}

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
