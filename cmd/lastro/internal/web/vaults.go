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
	Locked    time.Time // until when all that they need is locked; zero: not at all
}

// ReadBack is what the last verification of a vault has found.
type ReadBack struct {
	Name     string
	Oldest   time.Time      // when what is longest unread was read, or sent there; zero: not known
	Problems int            // that are left
	Repaired map[string]int // what it repaired, by source; counted each time it is told
}

// ReadBack says what a verification has found.
func (s *Server) ReadBack(r ReadBack) {
	m := s.metrics.vault
	m.mu.Lock()
	defer m.mu.Unlock()
	for source, n := range r.Repaired {
		m.repaired.WithLabelValues(r.Name, source).Add(float64(n))
	}
	m.read[r.Name] = r
}

// Drill is what the last drill with a vault has found.
type Drill struct {
	Name     string
	Good     time.Time // when the last one began, or ended, that found nothing wrong; zero: none
	Problems int
	RTO      time.Duration // how long a whole restore would take; zero: not known
}

// Drilled says what a drill has found. That one was good before is not forgotten.
func (s *Server) Drilled(d Drill) {
	m := s.metrics.vault
	m.mu.Lock()
	defer m.mu.Unlock()
	if d.Good.IsZero() {
		d.Good = m.drilled[d.Name].Good
	}
	m.drilled[d.Name] = d
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
	now     func() time.Time
	mu      sync.Mutex
	vaults  map[string]Vault
	read    map[string]ReadBack
	drilled map[string]Drill

	repaired *prometheus.CounterVec

	snapshots, age, locked, unread, problems, drillAge, drillProblems, rpo, rto *prometheus.Desc
}

func newVaultMetrics(now func() time.Time) *vaultMetrics {
	return &vaultMetrics{
		now:           now,
		vaults:        map[string]Vault{},
		read:          map[string]ReadBack{},
		drilled:       map[string]Drill{},
		repaired:      counter("vault_repaired_total", "What verifications of a vault repaired, by where right bytes came from.", "vault", "source"),
		snapshots:     desc("vault_snapshots", "Snapshots in a vault.", "vault"),
		age:           desc("vault_snapshot_age_seconds", "Age of the newest snapshot in a vault: what a loss now would cost.", "vault"),
		locked:        desc("vault_locked_until_timestamp_seconds", "Until when all that the snapshots of a vault need is locked at least, by Object Lock.", "vault"),
		unread:        desc("vault_oldest_unread_seconds", "For how long what is longest unread in a vault was not read and hashed.", "vault"),
		problems:      desc("vault_problems", "Problems that the last verification of a vault found.", "vault"),
		drillAge:      desc("vault_drill_age_seconds", "Age of the last drill with a vault that found nothing wrong.", "vault"),
		drillProblems: desc("vault_drill_problems", "Problems that the last drill with a vault found.", "vault"),
		rpo:           desc("vault_rpo_seconds", "How much a loss now would cost: the age of the newest snapshot in a vault, as vault_snapshot_age_seconds.", "vault"),
		rto:           desc("vault_rto_seconds", "How long a restore of everything in a vault would take, by the last drill.", "vault"),
	}
}

// Describe is for prometheus.
func (m *vaultMetrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.snapshots
	ch <- m.age
	ch <- m.locked
	ch <- m.unread
	ch <- m.problems
	ch <- m.drillAge
	ch <- m.drillProblems
	ch <- m.rpo
	ch <- m.rto
	m.repaired.Describe(ch)
}

// Collect is for prometheus.
func (m *vaultMetrics) Collect(ch chan<- prometheus.Metric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, v := range m.vaults {
		send(ch, m.snapshots, float64(v.Snapshots), v.Name)
		if !v.Newest.IsZero() {
			send(ch, m.age, m.now().Sub(v.Newest).Seconds(), v.Name)
			send(ch, m.rpo, m.now().Sub(v.Newest).Seconds(), v.Name)
		}
		if !v.Locked.IsZero() {
			send(ch, m.locked, float64(v.Locked.Unix()), v.Name)
		}
		r, known := m.read[v.Name]
		if known {
			send(ch, m.problems, float64(r.Problems), v.Name)
		}
		if !r.Oldest.IsZero() {
			send(ch, m.unread, m.now().Sub(r.Oldest).Seconds(), v.Name)
		}
		m.sendDrill(ch, v.Name)
	}
	m.repaired.Collect(ch)
}

func (m *vaultMetrics) sendDrill(ch chan<- prometheus.Metric, name string) {
	d, known := m.drilled[name]
	if !known {
		return
	}
	send(ch, m.drillProblems, float64(d.Problems), name)
	if !d.Good.IsZero() {
		send(ch, m.drillAge, m.now().Sub(d.Good).Seconds(), name)
	}
	if d.RTO > 0 {
		send(ch, m.rto, d.RTO.Seconds(), name)
	}
}
