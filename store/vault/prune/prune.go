package prune

import (
	"context"
	"crypto/rand"
	"fmt"
	"math"
	"time"

	"lastro/mirror"
	"lastro/store/vault/catalog"
	"lastro/store/vault/layout"
)

// What Options are when they do not say otherwise.
const (
	Grace       = 23 * time.Hour // so that who prunes every day removes what he marked the day before
	MinAge      = 7 * 24 * time.Hour
	MaxRemovals = 0.5
	// aloneGrace is the least where nothing keeps another writer away.
	aloneGrace = 72 * time.Hour
)

// Options say how a prune goes.
type Options struct {
	// Near may have the same manifests, and saves reading them from the vault; may be nil.
	Near        mirror.Destination
	Grace       time.Duration // between marking and removing; see layout.Config.Mode
	MinAge      time.Duration // what is younger is not marked: a backup may have just brought it
	MaxRemovals float64       // the share of the blobs, or of their bytes, that may be marked
	DryRun      bool
}

// Report is what a prune did.
type Report struct {
	Vault       string    `json:"vault"`
	DryRun      bool      `json:"dry_run"`
	Live        int       `json:"live"` // blobs that snapshots need, or that wait for nothing
	LiveBytes   int64     `json:"live_bytes"`
	Removed     int       `json:"removed"` // blobs, this time
	FreedBytes  int64     `json:"freed_bytes"`
	Records     int       `json:"removed_records"` // of snapshots that are not there, and what was found out about them
	Condemned   int       `json:"condemned"`       // blobs that are marked
	Bytes       int64     `json:"condemned_bytes"`
	Due         time.Time `json:"due,omitzero"` // when they can be removed
	Young       int       `json:"young"`        // blobs that nothing needs, and that are too young to be marked
	Kept        int       `json:"kept"`         // could not be removed
	Locked      int       `json:"locked"`       // of these, until their lock ends
	Problems    []string  `json:"problems"`     // why, of the first
	Requests    int64     `json:"requests"`
	TookSeconds float64   `json:"took_seconds"`
}

// mostProblems is how many reasons a report tells.
const mostProblems = 10

// pruner is one run.
type pruner struct {
	*catalog.Catalog
	o       Options
	me      string // among all that remove
	live    *live
	doubt   bool // a removal was sent, and nobody knows what became of it
	report  Report
	removed map[key]struct{}
}

func newPruner(c *catalog.Catalog, o Options) *pruner {
	return &pruner{Catalog: c, o: o, me: rand.Text(), live: newLive(c, o.Near), removed: map[key]struct{}{}, report: Report{Vault: c.Name, DryRun: o.DryRun, Problems: []string{}}}
}

// Run removes what was marked long enough ago and is still not needed, then marks what
// no snapshot needs now. It never removes what it has not marked before; with no Grace
// that is in the same run. ErrUnread, catalog.ErrLost, *GuardError, or what the bucket
// said, change nothing that a snapshot needs. It may run beside backups and other prunes.
func Run(ctx context.Context, c *catalog.Catalog, o Options) (Report, error) {
	p := newPruner(c, o)
	err := p.run(ctx)
	return p.report, err
}

func (p *pruner) run(ctx context.Context) error {
	if p.o.DryRun {
		return p.dry(ctx)
	}
	if err := p.remove(ctx); err != nil {
		return err
	}
	marked, err := p.mark(ctx)
	if err != nil || !marked {
		return err
	}
	return p.remove(ctx)
}

// remove ends a prune that was cut short, and removes what is due.
func (p *pruner) remove(ctx context.Context) error {
	if err := p.await(ctx); err != nil {
		return err
	}
	config, h, _, err := p.Stored(ctx)
	if err != nil || h.Prune == nil {
		return err
	}
	p.report.Condemned, p.report.Bytes, p.report.Due = h.Prune.Blobs, h.Prune.Bytes, p.due(config, *h.Prune)
	due, err := p.isDue(ctx, config, *h.Prune)
	if err != nil || !due {
		return err
	}
	return p.sweep(ctx, *h.Prune)
}

func (p *pruner) grace(config layout.Config) time.Duration {
	if config.Mode() != layout.Strict {
		return max(p.o.Grace, aloneGrace)
	}
	return p.o.Grace
}

func (p *pruner) due(config layout.Config, mark layout.Prune) time.Time {
	return mark.Marked.Add(p.grace(config)).UTC()
}

// isDue asks our clock, and then the bucket's: ours may have been set.
func (p *pruner) isDue(ctx context.Context, config layout.Config, mark layout.Prune) (bool, error) {
	if p.Now().Before(p.due(config, mark)) {
		return false, nil
	}
	if p.grace(config) == 0 {
		return true, nil
	}
	marked, err := p.Bucket.Head(ctx, mark.Plan)
	if err != nil {
		return false, err
	}
	now, err := p.bucketTime(ctx, config)
	return err == nil && !now.Before(marked.Modified.Add(p.grace(config))), err
}

// bucketTime is the time by the bucket's clock, to be seen at what was just written.
func (p *pruner) bucketTime(ctx context.Context, config layout.Config) (time.Time, error) {
	if err := p.ChangeHead(ctx, config, func(*layout.Head) error { return nil }); err != nil {
		return time.Time{}, err
	}
	info, err := p.Bucket.Head(ctx, layout.KeyHead)
	return info.Modified, err
}

// GuardError refuses to mark too much of a vault.
type GuardError struct {
	Vault   string
	Blobs   int
	Of      int
	Bytes   int64
	OfBytes int64
	Allowed float64
}

// Share is how much would go.
func (e *GuardError) Share() float64 {
	share := float64(e.Blobs) / float64(max(e.Of, 1))
	return max(share, float64(e.Bytes)/float64(max(e.OfBytes, 1)))
}

// Error names the way out.
func (e *GuardError) Error() string {
	return fmt.Sprintf("refusing to remove %d of the %d blobs of vault %s (%d of %d bytes), which is more than %.0f%%: look at `lastro backup list %s` whether a snapshot is missing, then run lastro backup prune %s --max-removals %.0f%%",
		e.Blobs, e.Of, e.Vault, e.Bytes, e.OfBytes, 100*e.Allowed, e.Vault, e.Vault, math.Ceil(100*e.Share()))
}
