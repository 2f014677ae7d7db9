package vault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"lastro/mirror"
	"lastro/store/vault/bucket"
	"lastro/store/vault/catalog"
	"lastro/store/vault/layout"
	"lastro/store/vault/lock"
)

// locks is what a backup knows of Object Locks. What it stores is locked from then on;
// what snapshots needed before is locked until sure.
type locks struct {
	retain time.Duration
	start  time.Time
	sure   time.Time // zero: not known
}

// newLocks is nil if nothing is to be locked.
func (v *Vault) newLocks() *locks {
	if v.lock == nil || v.Server == nil {
		return nil
	}
	return &locks{retain: v.lock.Retain, start: v.Now()}
}

// beginLocks learns what the vault knows.
func (b *backup) beginLocks(ctx context.Context, h layout.Head) error {
	if b.locks == nil {
		return nil
	}
	if !b.config.Proven.Lock {
		return errors.New("s3.object-lock is set, and the bucket was not seen to have Object Lock: run `lastro backup init`, which says why, or take the setting out")
	}
	if b.locks.sure = h.Locked; len(h.Snapshots) > 0 {
		return nil
	}
	config, err := b.Bucket.Head(ctx, layout.KeyConfig) // all that was there before
	b.locks.sure = earlier(config.LockedUntil, b.locks.own())
	return err
}

// own is until when all is locked that this backup stores.
func (l *locks) own() time.Time { return l.start.Add(l.retain).UTC().Truncate(time.Second) }

// after is until when all is locked that is needed by the snapshots of a head and by
// the new one. A backup without locks makes that unknown.
func (l *locks) after(h layout.Head) time.Time {
	if l == nil {
		return time.Time{}
	}
	if len(h.Snapshots) == 0 {
		return l.least()
	}
	return earlier(h.Locked, l.least())
}

// least is until when all is locked that the new snapshot needs.
func (l *locks) least() time.Time { return earlier(l.sure, l.own()) }

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// lockReused locks what the snapshot needs and neither this backup has stored nor the
// snapshot before needs: it may have been of a forgotten one, and its lock be over.
func (b *backup) lockReused(ctx context.Context, s layout.Snapshot, repos []repository) error {
	if b.locks == nil || b.locks.sure.IsZero() {
		return nil // nothing, or all when the snapshot is there
	}
	reused, err := b.reused(ctx, s, repos)
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(catalog.AtOnce)
	for d := range reused {
		g.Go(func() error { return b.lockAgain(gctx, b.BlobKey(d)) })
	}
	return g.Wait()
}

func (b *backup) lockAgain(ctx context.Context, key string) error {
	info, err := b.Bucket.Head(ctx, key)
	if errors.Is(err, fs.ErrNotExist) {
		return b.gone(ctx, key, err)
	}
	if err != nil || !info.LockedUntil.Before(b.locks.least()) {
		return err
	}
	return b.Server.Retain(ctx, []bucket.Info{info}, b.locks.own())
}

// gone says why something is not there any more that was sent.
func (b *backup) gone(ctx context.Context, key string, why error) error {
	h, err := b.Heads(ctx)
	if err == nil && h.Swept != b.swept {
		err = errSwept
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("%s was sent, and is not there any more: run `lastro backup verify`, and back up again: %w", key, why)
}

// reused is what is not known to be locked.
func (b *backup) reused(ctx context.Context, s layout.Snapshot, repos []repository) (map[digest.Digest]bool, error) {
	list := map[digest.Digest]bool{}
	for d := range b.all {
		list[d] = true
	}
	for _, d := range s.Beside() {
		list[d] = true
	}
	if len(list) > 0 && b.parent != nil {
		if err := b.leaveOutBefore(ctx, list, repos); err != nil {
			return nil, err
		}
	}
	for d := range b.made {
		delete(list, d)
	}
	return list, nil
}

// leaveOutBefore takes out what the snapshot before needs, as far as it can be read.
func (b *backup) leaveOutBefore(ctx context.Context, list map[digest.Digest]bool, repos []repository) error {
	for _, d := range b.parent.Beside() {
		delete(list, d)
	}
	delete(list, b.parent.Root.Digest)
	if len(list) == 0 || b.all == nil {
		return nil // all is as it was
	}
	root, err := b.Index(ctx, b.parent.Root)
	if err != nil {
		return undamaged(err)
	}
	tops := map[string][]top{}
	for _, r := range repos {
		tops[r.name] = r.tops
	}
	for _, desc := range root.Manifests {
		all, err := b.ofRepository(ctx, desc, tops[desc.Annotations[layout.AnnotationRepository]])
		if err := undamaged(err); err != nil {
			return err
		}
		for d := range all {
			delete(list, d)
		}
		delete(list, desc.Digest)
	}
	return nil
}

// ofRepository is what the snapshot before needs of one. What it has as the new one
// is not read.
func (b *backup) ofRepository(ctx context.Context, index ocispec.Descriptor, tops []top) (map[digest.Digest]int64, error) {
	if _, same := b.all[index.Digest]; same {
		return b.contents(ctx, tops)
	}
	idx, err := b.Index(ctx, index)
	if err != nil {
		return nil, err
	}
	return b.saved(ctx, idx.Manifests)
}

// undamaged lets damage pass: what is not known costs a request more.
func undamaged(err error) error {
	if _, bad := catalog.Damage(err); bad {
		return nil
	}
	return err
}

// extendLocks locks all that snapshots need again, when that is due.
func (b *backup) extendLocks(ctx context.Context) error {
	if b.locks == nil || !lock.Due(layout.Head{Locked: b.report.LockedUntil}, b.Now(), b.locks.retain) {
		return nil
	}
	n, err := lock.Extend(ctx, b.Catalog, b.config, lock.Options{Retain: b.locks.retain, Manifest: func(ctx context.Context, desc ocispec.Descriptor) (mirror.Manifest, error) {
		return b.ManifestNear(ctx, b.st, desc)
	}})
	b.report.Extended = n
	if err != nil {
		return fmt.Errorf("snapshot %s is saved, but: %w", b.report.Snapshot, err)
	}
	h, _, err := b.Head(ctx, b.config)
	b.report.LockedUntil = h.Locked
	return err
}
