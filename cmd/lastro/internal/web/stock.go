package web

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"
)

const (
	// counted is how long a count is good for.
	counted = 5 * time.Minute
	// waiting is how long reading the metrics waits for a new count.
	waiting = 2 * time.Second
)

// Stock is what the local registry holds.
type Stock struct {
	Repositories int
	Tags         int
	Images       int // manifests and indexes that a repository serves
	Blobs        int // files of content, manifests among them
	Bytes        int64
}

// stockMetrics counts what the registry holds, now and then.
type stockMetrics struct {
	s *Server

	mu    sync.Mutex
	stock Stock
	at    time.Time     // of stock; zero: it was never counted
	asked time.Time     // when counting began last
	done  chan struct{} // closed when the counting that goes on is done; nil: none does

	repositories, tags, images, blobs, bytes, when, available, size *prometheus.Desc
}

func newStockMetrics(s *Server) *stockMetrics {
	return &stockMetrics{
		s:            s,
		repositories: desc("store_repositories", "Repositories in the local registry."),
		tags:         desc("store_tags", "Tags in the local registry."),
		images:       desc("store_images", "Manifests and indexes in the local registry."),
		blobs:        desc("store_blobs", "Files of content in the local registry, manifests among them."),
		bytes:        desc("store_bytes", "Bytes of content in the local registry."),
		when:         desc("store_counted_timestamp_seconds", "When the local registry was counted."),
		available:    desc("data_available_bytes", "Bytes free for lastro on the disk of the data folder."),
		size:         desc("data_size_bytes", "Size of the disk of the data folder."),
	}
}

// Describe is for prometheus.
func (m *stockMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.repositories, m.tags, m.images, m.blobs, m.bytes, m.when, m.available, m.size} {
		ch <- d
	}
}

// Collect is for prometheus.
func (m *stockMetrics) Collect(ch chan<- prometheus.Metric) {
	m.disk(ch)
	stock, at := m.current()
	if at.IsZero() {
		return
	}
	send(ch, m.repositories, float64(stock.Repositories))
	send(ch, m.tags, float64(stock.Tags))
	send(ch, m.images, float64(stock.Images))
	send(ch, m.blobs, float64(stock.Blobs))
	send(ch, m.bytes, float64(stock.Bytes))
	send(ch, m.when, seconds(at))
}

func (m *stockMetrics) disk(ch chan<- prometheus.Metric) {
	if m.s.o.Data == "" {
		return
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(m.s.o.Data, &fs); err != nil {
		m.s.o.Log.Warn("the disk of the data folder cannot be asked", "err", err)
		return
	}
	send(ch, m.available, float64(fs.Bavail)*float64(fs.Bsize))
	send(ch, m.size, float64(fs.Blocks)*float64(fs.Bsize))
}

// current is the newest count. When that is too old another begins, which is
// waited for a little; slow ones are seen by a later caller.
func (m *stockMetrics) current() (Stock, time.Time) {
	if done := m.refresh(); done != nil {
		select {
		case <-done:
		case <-time.After(waiting):
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stock, m.at
}

// refresh begins a count when one is due and tells when the one that goes on
// is done.
func (m *stockMetrics) refresh() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.s.o.Now()
	age := now.Sub(m.asked)
	if m.done != nil || m.s.o.Stock == nil || m.s.background.Err() != nil || !m.asked.IsZero() && age >= 0 && age < counted {
		return m.done
	}
	m.asked, m.done = now, make(chan struct{})
	m.s.counting.Go(func() { m.count(m.s.background) })
	return m.done
}

// stop keeps a count from beginning.
func (m *stockMetrics) stop(cancel func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	cancel()
}

func (m *stockMetrics) count(ctx context.Context) {
	stock, err := m.s.o.Stock(ctx)
	if err != nil && ctx.Err() == nil {
		m.s.o.Log.Warn("the local registry cannot be counted", "err", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil {
		m.stock, m.at = stock, m.s.o.Now()
	}
	close(m.done)
	m.done = nil
}

func send(ch chan<- prometheus.Metric, d *prometheus.Desc, v float64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}
