package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"

	"lastro/store/vault/bucket"
	"lastro/store/vault/catalog"
	"lastro/store/vault/layout"
)

// ErrPruned says that a prune removed something meanwhile.
var ErrPruned = errors.New("a prune removes something at this moment: try again")

// Known verifies a sealed vault for who writes to it and cannot read it: contents that
// as a ledger's name for it are known to lie there, with their sizes or -1, are compared
// with a listing, and so are the commit records. Nothing is read. What is not right is
// in the report, and in the head, from where the next backup repairs it.
func Known(ctx context.Context, c *catalog.Catalog, as string, sizes map[digest.Digest]int64) (Report, error) {
	r := &verify{Catalog: c, needs: map[digest.Digest]*need{}, problems: map[digest.Digest]Problem{}}
	report := Report{Format: c.Format(), Vault: c.Name, Time: c.Now().UTC(), Level: List, Problems: []Problem{}}
	config, err := c.Config(ctx)
	if err == nil {
		err = c.Ready()
	}
	if err != nil {
		return report, err
	}
	h, _, err := c.Head(ctx, config)
	if err != nil {
		return report, err
	}
	if h.HeldAs() != as {
		return report, ErrPruned
	}
	for d, size := range sizes {
		r.needs[d] = &need{digest: d, size: size}
	}
	if err := r.listKnown(ctx, h); err != nil {
		return report, err
	}
	if n := len(h.Snapshots); n > 0 {
		report.Snapshot = h.Snapshots[n-1].ID
	}
	report.Coverage = r.coverage(maps.Keys(sizes))
	for _, p := range r.problems {
		p.Next = "lastro backup " + c.Name + " sends again what is here"
		report.Problems = append(report.Problems, p)
	}
	slices.SortFunc(report.Problems, func(a, b Problem) int { return cmp.Compare(a.Digest, b.Digest) })
	return report, r.tellKnown(ctx, config, as)
}

func (r *verify) listKnown(ctx context.Context, h layout.Head) error {
	blobs, err := sizesBelow(ctx, r.Bucket, layout.DirBlobs)
	if err != nil {
		return err
	}
	for d, n := range r.needs {
		if err := r.found(d, r.listed(n, blobs)); err != nil {
			return err
		}
	}
	records, err := sizesBelow(ctx, r.Bucket, layout.DirSnapshots)
	if err != nil {
		return err
	}
	for _, e := range h.Snapshots {
		if records[e.Record] == 0 {
			_ = r.found(e.Digest, fmt.Errorf("vault %s: %s: the record of snapshot %s is not listed: %w", r.Bucket, e.Record, e.ID, fs.ErrNotExist)) // it is one
		}
	}
	return nil
}

// listed is nil when a content is there with a length that it can have.
func (r *verify) listed(n *need, blobs map[string]int64) error {
	n.proof = byLength
	here := n.size >= 0
	n.size = max(0, n.size)
	size, there := blobs[r.BlobKey(n.digest)]
	switch {
	case !there:
		return fmt.Errorf("vault %s: %s, which was sent there, is not listed: %w", r.Bucket, n.digest, fs.ErrNotExist)
	case here:
		return r.long(n, size)
	}
	return nil
}

func sizesBelow(ctx context.Context, b bucket.Bucket, prefix string) (map[string]int64, error) {
	sizes := map[string]int64{}
	for info, err := range b.List(ctx, prefix) {
		if err != nil {
			return nil, err
		}
		sizes[info.Key] = info.Size
	}
	return sizes, nil
}

// tellKnown has the head name what is damaged, unless something was removed since it was
// read: that is not missing.
func (r *verify) tellKnown(ctx context.Context, config layout.Config, as string) error {
	if len(r.problems) == 0 {
		return nil
	}
	return r.ChangeHead(ctx, config, func(h *layout.Head) error {
		if h.HeldAs() != as {
			return ErrPruned
		}
		h.Damaged = r.damaged(h.Damaged)
		return nil
	})
}
