package web

import "github.com/prometheus/client_golang/prometheus"

// Prune is what a prune of a vault did, and what it left.
type Prune struct {
	Vault          string
	Condemned      int // blobs that are marked, and are there still
	CondemnedBytes int64
	Kept           int   // objects that it could not remove
	Removed        int   // blobs, by this run
	FreedBytes     int64 // by this run
}

// Pruned says what the last prune of a vault did.
func (s *Server) Pruned(p Prune) {
	m := s.metrics.prune
	m.condemned.WithLabelValues(p.Vault).Set(float64(p.Condemned))
	m.bytes.WithLabelValues(p.Vault).Set(float64(p.CondemnedBytes))
	m.kept.WithLabelValues(p.Vault).Set(float64(p.Kept))
	m.removed.WithLabelValues(p.Vault).Add(float64(max(p.Removed, 0)))
	m.freed.WithLabelValues(p.Vault).Add(float64(max(p.FreedBytes, 0)))
}

// Left says how many snapshots a vault has after some were forgotten.
func (s *Server) Left(vault string, snapshots int) {
	m := s.metrics.vault
	m.mu.Lock()
	defer m.mu.Unlock()
	if v, known := m.vaults[vault]; known {
		v.Snapshots = snapshots
		m.vaults[vault] = v
	}
}

type pruneMetrics struct {
	condemned, bytes, kept *prometheus.GaugeVec
	removed, freed         *prometheus.CounterVec
}

func newPruneMetrics() *pruneMetrics {
	labels := []string{"vault"}
	level := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "lastro", Name: name, Help: help}, labels)
	}
	count := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "lastro", Name: name, Help: help}, labels)
	}
	return &pruneMetrics{
		condemned: level("vault_condemned_blobs", "Blobs that no snapshot of a vault needs and that are marked to be removed."),
		bytes:     level("vault_condemned_bytes", "Bytes of the blobs that are marked to be removed from a vault."),
		kept:      level("vault_prune_kept", "Objects that the last prune of a vault could not remove: a lock, or missing rights."),
		removed:   count("vault_removed_blobs_total", "Blobs that prunes removed from a vault."),
		freed:     count("vault_freed_bytes_total", "Bytes of the blobs that prunes removed from a vault."),
	}
}

func (m *pruneMetrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.condemned, m.bytes, m.kept, m.removed, m.freed}
}
