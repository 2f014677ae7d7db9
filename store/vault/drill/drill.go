package drill

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	"lastro/store/vault/catalog"
	"lastro/store/vault/layout"
	"lastro/store/vault/restore"
)

// Scratch is an empty local registry that is thrown away afterwards, and the handler
// that serves it. The caller closes and removes it.
type Scratch interface {
	restore.Store
	http.Handler
	// Room is how many bytes it may still take.
	Room(ctx context.Context) (int64, error)
}

// Options say what is tried.
type Options struct {
	Snapshot string     // "" or "latest", an id, or the start of one
	Images   int        // random images, besides one whole repository
	Rand     *rand.Rand // chooses
}

// Report is what a drill has found.
type Report struct {
	Format       int       `json:"format"`
	ID           string    `json:"id"`
	Vault        string    `json:"vault"`
	Snapshot     string    `json:"snapshot"`
	SnapshotTime time.Time `json:"snapshot_time"`
	Time         time.Time `json:"time"` // when it began
	OK           bool      `json:"ok"`   // nothing is wrong with what was tried

	Repository string    `json:"repository"`         // that was restored whole; "": there is none, or none for which there is room
	Images     []string  `json:"images"`             // that were chosen besides
	LeftOut    []string  `json:"left_out,omitempty"` // what was chosen and needs more room than there is
	Tags       int       `json:"tags"`               // that were pulled and compared
	Manifests  int       `json:"manifests"`          // that were pulled and hashed
	Blobs      int       `json:"blobs"`              // the same of blobs
	Bytes      int64     `json:"bytes"`              // of both
	Restored   Amount    `json:"restored"`           // what came from the vault
	Problems   []Problem `json:"problems"`

	RestoreSeconds float64 `json:"restore_seconds"` // of the sample
	PullSeconds    float64 `json:"pull_seconds"`
	RPOSeconds     int64   `json:"rpo_seconds"` // age of the snapshot
	RTOSeconds     int64   `json:"rto_seconds"` // how long a restore of all of it would take, by this sample

	Signature *layout.Signature `json:"signature,omitempty"` // of the report as it lies in the vault
}

// Amount is so many contents with so many bytes.
type Amount struct {
	Blobs int   `json:"blobs"`
	Bytes int64 `json:"bytes"`
}

// Problem is something that a client of the restored registry would have met.
type Problem struct {
	Image  string        `json:"image"` // repository:tag or repository@digest; a repository alone for its list of tags
	Digest digest.Digest `json:"digest,omitempty"`
	Error  string        `json:"error"`
}

// drill is one run of Run.
type drill struct {
	*catalog.Catalog
	scratch Scratch
	o       Options
	record  layout.Snapshot
	indexes map[string][]ocispec.Descriptor // that were read, of repositories
	failed  map[string]bool                 // images that could not be restored
	sample  sample
	report  Report
}

// Run restores a sample of a snapshot into scratch, pulls it from there and compares.
// What is wrong is in the report; an error is a vault that cannot be reached or has no
// snapshot, or a scratch store that fails. progress may not be nil.
func Run(ctx context.Context, c *catalog.Catalog, scratch Scratch, o Options, progress mirror.Progress) (Report, error) {
	// What is restored into scratch is no news.
	d := &drill{Catalog: c.Quiet(), scratch: scratch, o: o, indexes: map[string][]ocispec.Descriptor{}, failed: map[string]bool{}}
	d.report = Report{Format: c.Format(), ID: ulid.Make().String(), Vault: c.Name, Time: c.Now().UTC(), Images: []string{}, Problems: []Problem{}}
	err := d.run(ctx, progress)
	d.report.OK = err == nil && len(d.report.Problems) == 0
	return d.report, err
}

func (d *drill) run(ctx context.Context, progress mirror.Progress) (err error) {
	if d.record, err = d.Find(ctx, d.o.Snapshot, time.Time{}); err != nil {
		return err
	}
	d.report.Snapshot, d.report.SnapshotTime = d.record.ID, d.record.Created.UTC()
	d.report.RPOSeconds = int64(d.report.Time.Sub(d.record.Created) / time.Second)
	if err := d.choose(ctx); err != nil {
		return d.damaged(err)
	}
	if len(d.sample.patterns()) == 0 {
		return d.nothing()
	}
	began := d.Now()
	restored, err := restore.Run(ctx, d.Catalog, d.scratch, restore.Options{Snapshot: d.record.ID, Patterns: d.sample.patterns(), By: "drill"}, progress)
	d.report.RestoreSeconds = d.Now().Sub(began).Seconds()
	d.report.Restored = Amount{restored.Blobs, restored.Bytes}
	if err != nil {
		return d.damaged(err)
	}
	for _, f := range restored.Failed {
		d.problem(nameOf(f.Repo, f.Tag, f.Digest), f.Digest, errors.New(f.Error))
	}
	d.report.RTOSeconds = d.wholeTakes()
	began = d.Now()
	err = d.pull(ctx)
	d.report.PullSeconds = d.Now().Sub(began).Seconds()
	return err
}

// nothing is an empty snapshot, which restores to nothing, or no room for any of it.
func (d *drill) nothing() error {
	if d.record.Images == 0 {
		return nil
	}
	return fmt.Errorf("there is no room for any of %q: a drill takes half of what is free", d.report.LeftOut)
}

// damaged makes a problem of what is wrong in the vault, and leaves the rest an error.
func (d *drill) damaged(err error) error {
	if _, there := catalog.Damage(err); !there {
		return err
	}
	d.problem("snapshot "+d.record.ID, "", err)
	return nil
}

func (d *drill) problem(image string, of digest.Digest, err error) {
	d.report.Problems = append(d.report.Problems, Problem{image, of, err.Error()})
	d.failed[image] = true
}

// wholeTakes guesses in seconds.
func (d *drill) wholeTakes() int64 {
	parts := 1.0
	if d.report.Restored.Bytes > 0 {
		parts = max(parts, float64(d.record.Bytes)/float64(d.report.Restored.Bytes))
	}
	if d.report.Restored.Blobs > 0 {
		parts = max(parts, float64(d.record.Blobs)/float64(d.report.Restored.Blobs))
	}
	return int64(parts*d.report.RestoreSeconds) + 1
}

func nameOf(repo, tag string, d digest.Digest) string {
	if tag != "" {
		return repo + ":" + tag
	}
	return fmt.Sprintf("%s@%s", repo, d)
}
