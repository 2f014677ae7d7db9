// Package lock keeps the Object Locks of what snapshots need from running out.
//
// What is written is locked for Options.Retain. What snapshots need longer is locked
// again, all of it at once, when less than half of that is left: so an object costs a
// request in half that time, and nothing is asked of the server meanwhile. Until when
// all is locked at least stands in the head of the vault. What no snapshot needs any
// more is not locked again, and can be removed when its lock is over.
package lock

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	"lastro/store/vault/bucket"
	"lastro/store/vault/catalog"
	"lastro/store/vault/layout"
)

// Options are what Extend must be told.
type Options struct {
	Retain   time.Duration
	Manifest func(context.Context, ocispec.Descriptor) (mirror.Manifest, error) // reads one, from wherever it is
}

// Due reports whether locks are to be extended.
func Due(h layout.Head, now time.Time, retain time.Duration) bool {
	return h.Locked.Before(now.Add(retain / 2))
}

// Extend locks all that the snapshots of a vault need, and returns of how many
// versions. What cannot be reached because something is damaged is not locked: then
// all else is, and it is an error.
func Extend(ctx context.Context, c *catalog.Catalog, config layout.Config, o Options) (n int, err error) {
	r := &run{Catalog: c, o: o, until: c.Now().Add(o.Retain), covered: map[string]bool{}}
	for all := false; !all; {
		if err := r.extend(ctx, config); err != nil {
			return r.n, fmt.Errorf("extend the locks in vault %s: %w", c.Name, err)
		}
		if all, err = r.note(ctx, config); err != nil {
			return r.n, fmt.Errorf("extend the locks in vault %s: %w", c.Name, err)
		}
	}
	return r.n, nil
}

// run is one extension.
type run struct {
	*catalog.Catalog
	o       Options
	until   time.Time
	covered map[string]bool // snapshots
	n       int
}

// extend locks what the snapshots need that are not covered yet.
func (r *run) extend(ctx context.Context, config layout.Config) error {
	h, _, err := r.Head(ctx, config)
	if err != nil {
		return err
	}
	entries := slices.DeleteFunc(slices.Clone(h.Snapshots), func(e layout.Entry) bool { return r.covered[e.ID] })
	live, damage := r.Live(ctx, entries, r.o.Manifest)
	if _, bad := catalog.Damage(damage); damage != nil && !bad {
		return damage
	}
	if err := r.lock(ctx, r.wanted(config, entries, live)); err != nil {
		return err
	}
	for _, e := range entries {
		r.covered[e.ID] = true
	}
	return damage
}

// anySize stands for the length of what may change.
const anySize = -1

// wanted is what is to be locked, with its length.
func (r *run) wanted(config layout.Config, entries []layout.Entry, live map[digest.Digest]int64) map[string]int64 {
	keys := map[string]int64{layout.KeyConfig: anySize}
	if config.Encrypted != nil {
		keys[layout.NamesKey(config.Encrypted.Names)] = anySize
	}
	for _, e := range entries {
		keys[e.Record] = anySize
	}
	for d, size := range live {
		keys[r.BlobKey(d)] = size
	}
	return keys
}

// lock locks every version that may be the right one: who writes other bytes over an
// object must not let the right ones go.
func (r *run) lock(ctx context.Context, keys map[string]int64) error {
	var found []bucket.Info
	there := map[string]bool{}
	for _, under := range []string{layout.DirBlobs, layout.DirSnapshots, layout.KeyConfig, layout.DirKeys} {
		for v, err := range r.Server.Versions(ctx, under) {
			if err != nil {
				return err
			}
			size, wanted := keys[v.Key]
			if marker := v.ETag == ""; wanted && !marker && (size == anySize || r.Fits(v.Size, size)) {
				found = append(found, v)
				there[v.Key] = true
			}
		}
	}
	for key := range keys {
		if !there[key] {
			r.Log.Warn("what a snapshot needs is not there to be locked: run lastro backup verify", "vault", r.Name, "key", key)
		}
	}
	r.n += len(found)
	return r.Server.Retain(ctx, found, r.until)
}

// note writes down until when all is locked, if no snapshot came meanwhile.
func (r *run) note(ctx context.Context, config layout.Config) (all bool, err error) {
	err = r.ChangeHead(ctx, config, func(h *layout.Head) error {
		all = !slices.ContainsFunc(h.Snapshots, func(e layout.Entry) bool { return !r.covered[e.ID] })
		if all {
			h.Locked = r.until.UTC().Truncate(time.Second)
		}
		return nil
	})
	return all, err
}
