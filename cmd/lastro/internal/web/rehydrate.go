package web

import "github.com/prometheus/client_golang/prometheus"

// Rehydrate is how far the restore of a vault behind the pulls is.
type Rehydrate struct {
	Images   int   // of the snapshot
	Restored int   // of them
	Failed   int   // that the vault does not have whole
	Bytes    int64 // fetched since the start
	Done     bool
}

// Rehydrated says how far it is.
func (s *Server) Rehydrated(r Rehydrate) {
	m := s.metrics.rehydrate
	m.images.Set(float64(r.Images))
	m.restored.Set(float64(r.Restored))
	m.failed.Set(float64(r.Failed))
	m.bytes.Set(float64(r.Bytes))
	m.done.Set(number(r.Done))
}

type rehydrateMetrics struct{ images, restored, failed, bytes, done prometheus.Gauge }

func newRehydrateMetrics() *rehydrateMetrics {
	level := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "lastro", Name: "rehydrate_" + name, Help: help})
	}
	return &rehydrateMetrics{
		images:   level("images", "Images of the snapshot that is restored behind the pulls; 0: none is."),
		restored: level("restored_images", "Images of it that are here."),
		failed:   level("failed_images", "Images that the vault does not have whole, known at the end."),
		bytes:    level("fetched_bytes", "Bytes of it that were fetched since the start."),
		done:     level("done", "1 when all of it is here that the vault has, and the daemon is one like any other."),
	}
}

func (m *rehydrateMetrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.images, m.restored, m.failed, m.bytes, m.done}
}
