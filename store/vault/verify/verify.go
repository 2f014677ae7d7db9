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
	Blobs       int       `json:"blobs"` // that it needs
	Bytes       int64     `json:"bytes"`
	Problems    []Problem `json:"problems"`
	Part        string    `json:"part,omitempty"`         // what of them was read and hashed, as N/M; all were compared with a listing
	Read        *Amount   `json:"read,omitempty"`         // that part; nil: all
	Requests    int64     `json:"requests,omitempty"`     // not in the receipt
	TookSeconds float64   `json:"took_seconds,omitempty"` // not in the receipt
}

// Amount is so many contents with so many bytes.
type Amount struct {
	Blobs int   `json:"blobs"`
	Bytes int64 `json:"bytes"`
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

// Options say what is verified. The zero value is all of the newest snapshot.
type Options struct {
	Snapshot string // "" or "latest", an id, or the start of one
	All      bool   // every snapshot there is: what several need is read once
	List     bool   // blobs are compared with a listing, in name and length, and not read
	// Of all blobs the Part-th of so many Parts is read, and the others as with List.
	// Part 0 is the part that is longest unread. Parts 0 is all.
	Part, Parts int
}

// Result is what a verification found.
type Result struct {
	Snapshots []Report // the oldest first
	Part      int      // which was read; 0: all or none
	// OldestRead is when what is longest unread in the vault was read and hashed, or
	// sent there; zero: no part was ever read, as far as the vault knows.
	OldestRead time.Time
}

// Run reads and hashes what snapshots need. What it finds is in the reports, in a
// receipt of each in the vault, and in its head, from where the next backup repairs
// what it can. Records, indexes and manifests are always read. Only a vault that
// cannot be read is an error. progress may not be nil.
func Run(ctx context.Context, c *catalog.Catalog, o Options, progress mirror.Progress) (Result, error) {
	config, err := c.Config(ctx)
	if err != nil {
		return Result{}, err
	}
	h, _, err := c.Head(ctx, config)
	if err != nil {
		return Result{}, err
	}
	entries := h.Snapshots
	if !o.All {
		e, err := h.Pick(o.Snapshot, time.Time{})
		if err != nil {
			return Result{}, err
		}
		entries = []layout.Entry{e}
	}
	if o.Parts > 0 && o.Part == 0 {
		o.Part = next(divided(h.Read, o.Parts))
	}
	r := &verify{
		Catalog: c, progress: progress, o: o, began: c.Now().UTC(), again: map[digest.Digest]bool{},
		roots: map[digest.Digest]ocispec.Index{}, segments: map[layout.Segment]bool{}, sides: map[digest.Digest]bool{}, repos: map[string][]*version{},
		needs: map[digest.Digest]*need{}, problems: map[digest.Digest]Problem{},
	}
	for _, d := range h.Damaged {
		r.again[d] = true
	}
	return r.run(ctx, config, entries)
}

func (r *verify) run(ctx context.Context, config layout.Config, entries []layout.Entry) (Result, error) {
	if err := r.all(ctx, entries); err != nil {
		return Result{}, err
	}
	result := Result{Snapshots: make([]Report, len(r.snapshots)), Part: r.o.Part}
	for i, s := range r.snapshots {
		r.conclude(s)
		result.Snapshots[i] = s.report
	}
	h, err := r.record(ctx, config, result.Snapshots)
	result.OldestRead = oldest(h)
	return result, err
}

// verify is one run.
type verify struct {
	*catalog.Catalog
	progress  mirror.Progress
	o         Options
	began     time.Time
	again     map[digest.Digest]bool // was damaged, and is read whatever part is meant
	snapshots []*snapshot
	roots     map[digest.Digest]ocispec.Index
	segments  map[layout.Segment]bool // that were read
	sides     map[digest.Digest]bool  // the same of state and configurations
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
	read   bool // was hashed
}

// image is one of a version of its repository.
type image struct {
	name string
	in   *version
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
	if err := r.list(ctx); err != nil {
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
