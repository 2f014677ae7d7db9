package verify

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	"lastro/store/vault/catalog"
	"lastro/store/vault/layout"
	"lastro/store/vault/repair"
)

// Report is what a verification found in a snapshot. It is also the receipt in the vault.
type Report struct {
	Format      int       `json:"format"`
	Vault       string    `json:"vault"`
	Snapshot    string    `json:"snapshot"`
	Time        time.Time `json:"time"`
	Level       Level     `json:"level"`
	Part        string    `json:"part,omitempty"` // which of how many, as N/M
	Coverage              // of what it needs
	Problems    []Problem `json:"problems"`
	Requests    int64     `json:"requests,omitempty"`     // not in the receipt
	TookSeconds float64   `json:"took_seconds,omitempty"` // not in the receipt

	// OldestRead is that of the vault; see Result. It and its age are not in the receipt.
	OldestRead          time.Time `json:"oldest_read,omitzero"`
	OldestUnreadSeconds int64     `json:"oldest_unread_seconds,omitempty"`
}

// Left is how many problems are not repaired.
func (r Report) Left() (n int) {
	for _, p := range r.Problems {
		if !p.Repaired {
			n++
		}
	}
	return n
}

// Level is how far a verification goes. Records, indexes and manifests are read and
// hashed on each.
type Level string

const (
	List Level = "list" // blobs are compared with a listing, in name and length
	Head Level = "head" // blobs are asked for: the server's own SHA-256 is compared with the digest
	Part Level = "part" // a part of the blobs is read and hashed, the others as with List
	Full Level = "full" // all is read and hashed
)

// Coverage is how far contents were proven right: each that is no problem counts once,
// by the strongest proof.
type Coverage struct {
	Blobs    int    `json:"blobs"` // that are needed
	Bytes    int64  `json:"bytes"`
	Read     Amount `json:"read"`           // and hashed
	ByHash   Amount `json:"by_server_hash"` // the server's own SHA-256 of all bytes is the digest
	ByLength Amount `json:"by_length"`      // only name and length are right: the server has no such hash, or was not asked
}

// Amount is so many contents with so many bytes.
type Amount struct {
	Blobs int   `json:"blobs"`
	Bytes int64 `json:"bytes"`
}

// Problem is something in a vault that is not as it has to be, or was not. Kind is missing,
// corrupt, unreadable, or incomplete (all there is right, and something that
// the commit record counted is not named any more).
type Problem struct {
	Digest digest.Digest `json:"digest"`
	Kind   string        `json:"kind"`
	Images []string      `json:"images"`
	Error  string        `json:"error"`

	Repaired   bool   `json:"repaired"`
	Source     string `json:"source,omitempty"`     // where right bytes came from
	Unrepaired string `json:"unrepaired,omitempty"` // why it was not repaired, if that was tried
	Next       string `json:"next,omitempty"`       // what to do
}

// Options say what is verified. The zero value is all of the newest snapshot.
type Options struct {
	Snapshot string // "" or "latest", an id, or the start of one
	All      bool   // every snapshot there is: what several need is read once
	List     bool   // Level List
	Head     bool   // Level Head
	// Of all blobs the Part-th of so many Parts is read, and the others as with List.
	// Part 0 is the part that is longest unread. Parts 0 is all.
	Part, Parts int
	// Repair is where right bytes may come from for what is damaged; nil: nothing is
	// repaired.
	Repair *repair.Options
}

// Result is what a verification found.
type Result struct {
	Snapshots []Report // the oldest first
	Level     Level
	Part      int // which was read; 0: all or none
	Coverage      // of all that the snapshots need
	// OldestRead is when what is longest unread in the vault was read and hashed, or
	// sent there; zero: no part was ever read, as far as the vault knows.
	OldestRead time.Time
}

// Run reads and hashes what snapshots need. What it finds is in the reports, in a
// receipt of each in the vault, and in its head, from where the next backup repairs
// what it can, as this does if it is told where from. Records, indexes and manifests are always read. Only a vault that
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
	h.Snapshots = h.All()
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
		Catalog: c, progress: progress, o: o, began: c.Now().UTC(), hashes: config.Proven.Checksum && c.Sealed == nil, again: map[digest.Digest]bool{},
		roots: map[digest.Digest]ocispec.Index{}, segments: map[layout.Segment]bool{}, sides: map[digest.Digest]bool{}, repos: map[string][]*version{},
		needs: map[digest.Digest]*need{}, problems: map[digest.Digest]Problem{},
	}
	for _, d := range h.Damaged {
		r.again[d] = true
	}
	if o.Repair != nil {
		r.repairer = repair.New(c, *o.Repair)
	}
	return r.run(ctx, config, entries)
}

func (r *verify) run(ctx context.Context, config layout.Config, entries []layout.Entry) (Result, error) {
	if err := r.all(ctx, entries); err != nil {
		return Result{}, err
	}
	result := Result{Snapshots: make([]Report, len(r.snapshots)), Level: r.o.level(), Part: r.o.Part}
	result.Coverage = r.coverage(maps.Keys(r.needs))
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
	hashes    bool                   // what the server says of a SHA-256 is worth something
	repairer  *repair.Repairer       // nil: nothing is repaired
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
	proof  proof
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
	if err := r.compare(ctx); err != nil {
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
	p := Problem{Digest: d, Kind: kind, Images: []string{}, Error: err.Error()}
	if u, tried := errors.AsType[*unrepaired](err); tried {
		p.Error, p.Unrepaired = u.found.Error(), u.why.Error()
	}
	r.note(p)
	return nil
}

func (r *verify) note(p Problem) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.problems[p.Digest] = p
}

// bad reports whether a content is wrong, and was not repaired.
func (r *verify) bad(d digest.Digest) bool {
	p, known := r.problems[d]
	return known && !p.Repaired
}
