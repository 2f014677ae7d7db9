package verify

import (
	"context"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	"lastro/store/vault/catalog"
	"lastro/store/vault/layout"
)

// Report is what a verification found in a snapshot. It is also the receipt in the vault.
type Report struct {
	Format      int       `json:"format"`
	Vault       string    `json:"vault"`
	Snapshot    string    `json:"snapshot"`
	Time        time.Time `json:"time"`
	Blobs       int       `json:"blobs"` // read and hashed
	Bytes       int64     `json:"bytes"`
	Problems    []Problem `json:"problems"`
	Requests    int64     `json:"requests,omitempty"`     // not in the receipt
	TookSeconds float64   `json:"took_seconds,omitempty"` // not in the receipt
}

// Problem is something in a vault that is not as it has to be. Kind is missing,
// corrupt, unreadable, or incomplete (all there is right, and something that
// the commit record counted is not named any more).
type Problem struct {
	Digest digest.Digest `json:"digest"`
	Kind   string        `json:"kind"`
	Images []string      `json:"images"`
	Error  string        `json:"error"`
}

// Snapshot reads and hashes everything that a snapshot needs: "" or "latest", an id,
// or the start of one. What it finds is in the report, in a receipt in the vault,
// and in its head, from where the next backup repairs what it can. Only a vault
// that cannot be read is an error. progress may not be nil.
func Snapshot(ctx context.Context, c *catalog.Catalog, snapshot string, progress mirror.Progress) (Report, error) {
	reports, err := run(ctx, c, progress, func(h layout.Head) ([]layout.Entry, error) {
		e, err := h.Pick(snapshot, time.Time{})
		return []layout.Entry{e}, err
	})
	if len(reports) == 0 {
		return Report{Format: layout.Format, Vault: c.Name, Problems: []Problem{}}, err
	}
	return reports[0], err
}

// All does the same for every snapshot there is, with a report for each, the oldest
// first. What several snapshots need is read once.
func All(ctx context.Context, c *catalog.Catalog, progress mirror.Progress) ([]Report, error) {
	return run(ctx, c, progress, func(h layout.Head) ([]layout.Entry, error) { return h.Snapshots, nil })
}

// verify is one run.
type verify struct {
	*catalog.Catalog
	progress  mirror.Progress
	snapshots []*snapshot
	roots     map[digest.Digest]ocispec.Index
	segments  map[layout.Segment]bool // that were read
	repos     map[string][]*version
	needs     map[digest.Digest]*need

	mu       sync.Mutex
	problems map[digest.Digest]Problem
}

// snapshot is what is known of one.
type snapshot struct {
	entry    layout.Entry
	record   layout.Snapshot
	own      []digest.Digest // its record and its history
	root     *need
	versions map[*version]bool
	report   Report
}

// version is a repository as one or more snapshots have it.
type version struct {
	repo  string
	index ocispec.Descriptor
	of    layout.Snapshot // one of the snapshots that have it: all keep the same foreign layers
	needs []*need
}

// need is a content: how long it is and which images need it.
type need struct {
	digest digest.Digest
	size   int64
	images []*image
	read   bool // was hashed while walking
}

// image is one of a version of its repository.
type image struct {
	name string
	in   *version
}

func run(ctx context.Context, c *catalog.Catalog, progress mirror.Progress, pick func(layout.Head) ([]layout.Entry, error)) ([]Report, error) {
	config, err := c.Config(ctx)
	if err != nil {
		return nil, err
	}
	h, _, err := c.Head(ctx, config)
	if err != nil {
		return nil, err
	}
	entries, err := pick(h)
	if err != nil {
		return nil, err
	}
	r := &verify{
		Catalog: c, progress: progress,
		roots: map[digest.Digest]ocispec.Index{}, segments: map[layout.Segment]bool{}, repos: map[string][]*version{},
		needs: map[digest.Digest]*need{}, problems: map[digest.Digest]Problem{},
	}
	if err := r.all(ctx, entries); err != nil {
		return nil, err
	}
	reports := make([]Report, len(r.snapshots))
	for i, s := range r.snapshots {
		r.conclude(s)
		reports[i] = s.report
	}
	return reports, r.record(ctx, config, reports)
}

// all reads everything, each thing once.
func (r *verify) all(ctx context.Context, entries []layout.Entry) error {
	for _, e := range entries {
		if err := r.snapshot(ctx, e); err != nil {
			return err
		}
	}
	if err := r.repositories(ctx); err != nil {
		return err
	}
	return r.hashAll(ctx)
}

// found takes down a problem of the vault; other errors it returns.
func (r *verify) found(d digest.Digest, err error) error {
	kind, ok := catalog.Damage(err)
	if !ok {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.problems[d] = Problem{d, kind, []string{}, err.Error()}
	return nil
}
