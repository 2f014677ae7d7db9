package prune

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/store/vault/bucket"
	"lastro/store/vault/catalog"
	"lastro/store/vault/layout"
)

// Candidate is a snapshot that may go.
type Candidate struct {
	ID     string
	Time   time.Time // as it says of itself
	Stored time.Time // when the bucket got it, by the bucket's clock; zero: not known
	Store  string    // what the store is called that it is of
}

// Candidates are all snapshots of a vault, the oldest first. It changes nothing.
func Candidates(ctx context.Context, c *catalog.Catalog) ([]Candidate, error) {
	_, h, _, err := c.Stored(ctx)
	if err != nil {
		return nil, err
	}
	stored := map[string]time.Time{}
	for info, err := range c.Bucket.List(ctx, layout.DirSnapshots) {
		if err != nil {
			return nil, err
		}
		stored[info.Key] = info.Modified
	}
	var all []Candidate
	for _, e := range h.Snapshots {
		all = append(all, Candidate{e.ID, e.Created, stored[e.Record], e.Store})
	}
	return all, nil
}

// Pick finds the candidate that is meant, as layout.Head.Pick does.
func Pick(all []Candidate, id string) (Candidate, error) {
	var h layout.Head
	for _, c := range all {
		h.Snapshots = append(h.Snapshots, layout.Entry{ID: c.ID})
	}
	e, err := h.Pick(id, time.Time{})
	if err != nil {
		return Candidate{}, err
	}
	return all[slices.IndexFunc(all, func(c Candidate) bool { return c.ID == e.ID })], nil
}

// Forgotten is what Forget did.
type Forgotten struct {
	Forgotten []string // ids
	Left      int      // snapshots that are in the vault now
}

// ErrLast says that a vault or a store would be left without a snapshot.
var ErrLast = errors.New("the last one is never forgotten")

// ForgetOptions say which snapshots go.
type ForgetOptions struct {
	IDs []string
	// AllowLastOfStore lets the last go that a store has in the vault, for a store that
	// is no more.
	AllowLastOfStore bool
}

// Forget takes snapshots off the vault, all that are named or none. One that is gone
// already is fine. What they needed stays in the bucket; ErrLast, catalog.ErrLost.
func Forget(ctx context.Context, c *catalog.Catalog, o ForgetOptions) (Forgotten, error) {
	for {
		done, err := forget(ctx, c, o)
		if !errors.Is(err, bucket.ErrChanged) {
			return done, err
		}
	}
}

func forget(ctx context.Context, c *catalog.Catalog, o ForgetOptions) (done Forgotten, err error) {
	config, h, etag, err := c.Stored(ctx)
	if err != nil {
		return done, err
	}
	goes := func(e layout.Entry) bool { return slices.Contains(o.IDs, e.ID) }
	left := slices.DeleteFunc(slices.Clone(h.Snapshots), goes)
	done = Forgotten{Left: len(left)}
	for _, e := range h.Snapshots {
		if goes(e) {
			done.Forgotten = append(done.Forgotten, e.ID)
		}
	}
	if len(done.Forgotten) == 0 {
		return done, nil
	}
	if err := o.last(h.Snapshots, left); err != nil {
		return Forgotten{}, err
	}
	newest := h.Snapshots[len(h.Snapshots)-1]
	if err := c.SwapHead(ctx, config, h, etag, func(h *layout.Head) error { h.Snapshots = left; return nil }); err != nil {
		return Forgotten{}, err
	}
	if goes(newest) {
		err = show(ctx, c, left[len(left)-1])
	}
	return done, err
}

// last refuses to leave nothing of a vault, or of a store that had something there.
func (o ForgetOptions) last(before, left []layout.Entry) error {
	if len(left) == 0 {
		return fmt.Errorf("forget all %d snapshots: %w: to give a vault up, remove its folder or prefix", len(before), ErrLast)
	}
	for _, e := range before {
		same := func(other layout.Entry) bool { return other.Store == e.Store }
		if !o.AllowLastOfStore && !slices.ContainsFunc(left, same) {
			return fmt.Errorf("forget snapshot %s: its daemon has no other here, and %w: of a daemon that is no more, --allow-last lets it go", e.ID, ErrLast)
		}
	}
	return nil
}

// show makes a snapshot the one that programs see which know only OCI image layouts.
// What they see is a cache: a fault here is only logged.
func show(ctx context.Context, c *catalog.Catalog, e layout.Entry) error {
	if c.Sealed != nil {
		return nil // they see nothing
	}
	repos, err := repositories(ctx, c, e)
	if err == nil {
		var doc layout.Document
		if doc, err = layout.Flat(repos); err == nil {
			err = c.Bucket.Replace(ctx, layout.KeyIndex, bucket.Bytes(doc.Data))
		}
	}
	if err != nil {
		c.Log.Warn("index.json could not be written, and shows a snapshot that was forgotten until the next backup", "err", err)
	}
	return ctx.Err()
}

func repositories(ctx context.Context, c *catalog.Catalog, e layout.Entry) (repos []layout.Repository, err error) {
	s, err := c.Record(ctx, e)
	if err != nil {
		return nil, err
	}
	root, err := c.Index(ctx, s.Root)
	for _, desc := range root.Manifests {
		var idx ocispec.Index
		if idx, err = c.Index(ctx, desc); err != nil {
			break
		}
		repos = append(repos, layout.Repository{Name: desc.Annotations[layout.AnnotationRepository], Images: idx.Manifests})
	}
	return repos, err
}
