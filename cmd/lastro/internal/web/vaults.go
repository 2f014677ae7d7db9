package web

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Vault is what is known of a vault without asking its bucket.
type Vault struct {
	Name      string
	Snapshots int
	Newest    time.Time // zero: there is no snapshot
}

// ReadBack is what the last verification of a vault has found.
type ReadBack struct {
	Name     string
	Oldest   time.Time // when what is longest unread was read, or sent there; zero: not known
	Problems int
}

// ReadBack says what a verification has found.
func (s *Server) ReadBack(r ReadBack) {
	m := s.metrics.vault
	m.mu.Lock()
	defer m.mu.Unlock()
	m.read[r.Name] = r
}

// Vaults says what the vaults of the configuration hold. Those that are not
// named are forgotten.
func (s *Server) Vaults(vaults []Vault) {
	m := s.metrics.vault
	m.mu.Lock()
	defer m.mu.Unlock()
	m.vaults = map[string]Vault{}
	for _, v := range vaults {
		m.vaults[v.Name] = v
	}
}

// Snapshot says what a vault holds now.
func (s *Server) Snapshot(v Vault) {
	m := s.metrics.vault
	m.mu.Lock()
	defer m.mu.Unlock()
	m.vaults[v.Name] = v
}

// vaultMetrics tell the age of snapshots at the moment of being asked.
type vaultMetrics struct {
	now    func() time.Time
	mu     sync.Mutex
	vaults map[string]Vault
	read   map[string]ReadBack

	snapshots, age, unread, problems *prometheus.Desc
}

func newVaultMetrics(now func() time.Time) *vaultMetrics {
	return &vaultMetrics{
		now:       now,
		vaults:    map[string]Vault{},
		read:      map[string]ReadBack{},
		snapshots: desc("vault_snapshots", "Snapshots in a vault.", "vault"),
		age:       desc("vault_snapshot_age_seconds", "Age of the newest snapshot in a vault: what a loss now would cost.", "vault"),
		unread:    desc("vault_oldest_unread_seconds", "For how long what is longest unread in a vault was not read and hashed.", "vault"),
		problems:  desc("vault_problems", "Problems that the last verification of a vault found.", "vault"),
	}
}

// Describe is for prometheus.
func (m *vaultMetrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.snapshots
	ch <- m.age
	ch <- m.unread
	ch <- m.problems
}

// Collect is for prometheus.
func (m *vaultMetrics) Collect(ch chan<- prometheus.Metric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, v := range m.vaults {
		send(ch, m.snapshots, float64(v.Snapshots), v.Name)
		if !v.Newest.IsZero() {
			send(ch, m.age, m.now().Sub(v.Newest).Seconds(), v.Name)
		}
		r, known := m.read[v.Name]
		if known {
			send(ch, m.problems, float64(r.Problems), v.Name)
		}
		if !r.Oldest.IsZero() {
			send(ch, m.unread, m.now().Sub(r.Oldest).Seconds(), v.Name)
		}
	}
}
