package prune

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"lastro/store/vault/bucket"
	"lastro/store/vault/catalog"
	"lastro/store/vault/layout"
)

const (
	batchSize = 1000             // what one request removes, at most
	beatEvery = time.Minute      // how often a sweeper says that it goes on
	fresh     = 30 * time.Second // how old the knowledge may be that nobody took over
	lastWords = 5 * time.Second  // for giving up in good order
)

// errTaken says that this sweeper was taken for dead.
var errTaken = errors.New("another process took this prune over, because it stood still for too long: run it again")

// marked reads the plan that a head names.
func (p *pruner) marked(ctx context.Context, mark layout.Prune) ([]layout.Condemned, error) {
	rec, err := p.Bucket.Load(ctx, mark.Plan)
	if err != nil {
		return nil, err
	}
	if digest.FromBytes(rec.Data) != mark.Digest {
		return nil, fmt.Errorf("vault %s: %s: %w: not the bytes that were written", p.Bucket, mark.Plan, layout.ErrDamaged)
	}
	plan, err := layout.ParsePlan(rec.Data)
	return plan.Blobs, err
}

// unneededStill is what of a plan no snapshot came to need.
func (p *pruner) unneededStill(blobs []layout.Condemned) []layout.Condemned {
	return slices.DeleteFunc(slices.Clone(blobs), func(b layout.Condemned) bool { return p.live.has(b.Digest) })
}

// sweep removes what was marked and is still not needed. From the moment when it says
// so in the head until it says that it is done, nobody commits: what it decides on at
// that moment stays true.
func (p *pruner) sweep(ctx context.Context, mark layout.Prune) error {
	blobs, err := p.marked(ctx, mark)
	if _, lost := catalog.Damage(err); lost {
		p.Log.Warn("what was marked for removal is lost, and will be marked again", "job", "prune "+p.Name, "err", err)
		return p.unmark(ctx, mark.ID)
	}
	if err != nil {
		return err
	}
	left, h, err := p.begin(ctx, mark.ID, blobs)
	if err != nil || !p.sweeps(h) {
		return err
	}
	err = p.removeAll(ctx, h, left)
	if err == nil {
		err = p.done(ctx)
	}
	if err != nil {
		return errors.Join(err, p.giveUp(ctx))
	}
	p.Log.Info("unneeded blobs removed", "job", "prune "+p.Name, "blobs", p.report.Removed, "bytes", p.report.FreedBytes, "records", p.report.Records, "kept", p.report.Kept)
	return nil
}

func (p *pruner) sweeps(h layout.Head) bool { return h.Sweeping() && h.Prune.Sweeper == p.me }

// begin takes the plan over, in exactly the head by which it decided what to remove.
func (p *pruner) begin(ctx context.Context, id string, blobs []layout.Condemned) ([]layout.Condemned, layout.Head, error) {
	for {
		config, h, etag, err := p.Stored(ctx)
		if err != nil || h.Prune == nil || h.Prune.ID != id {
			return nil, h, err
		}
		if err := p.live.reach(ctx, h); err != nil {
			return nil, h, err
		}
		left := p.unneededStill(blobs)
		if nothing, err := p.nothing(ctx, h, left); err != nil || nothing {
			return nil, h, errors.Join(err, p.unmark(ctx, id))
		}
		err = p.SwapHead(ctx, config, h, etag, func(h *layout.Head) error {
			mine := *h.Prune
			mine.Sweeper, mine.Beat = p.me, p.Now().UTC()
			h.Prune, h.Swept = &mine, id
			return nil
		})
		if errors.Is(err, bucket.ErrChanged) {
			continue
		}
		_, h, _, again := p.Stored(ctx)
		return left, h, errors.Join(err, again)
	}
}

// nothing tells whether a sweep would remove nothing, and none has begun.
func (p *pruner) nothing(ctx context.Context, h layout.Head, left []layout.Condemned) (bool, error) {
	if h.Sweeping() || len(left) > 0 {
		return false, nil
	}
	orphans, err := p.orphans(ctx, h)
	return len(orphans) == 0, err
}

func (p *pruner) removeAll(ctx context.Context, h layout.Head, blobs []layout.Condemned) error {
	// Records go first: if the head is lost later, no record may stand in for it whose
	// blobs are gone.
	if err := p.removeRecords(ctx, h); err != nil {
		return err
	}
	for batch := range slices.Chunk(blobs, batchSize) {
		infos, err := p.look(ctx, batch)
		if err == nil {
			err = p.removeBatch(ctx, infos, p.countBlob)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// removeRecords removes what belongs to snapshots that are not there. A commit record
// that stays is marked as one that says nothing.
func (p *pruner) removeRecords(ctx context.Context, h layout.Head) error {
	orphans, err := p.orphans(ctx, h)
	if err != nil {
		return err
	}
	stay := map[string]bool{}
	for _, o := range orphans {
		stay[layout.IDOf(o.Key)] = true
	}
	if err := p.removeBatch(ctx, orphans, func(o bucket.Info) { delete(stay, layout.IDOf(o.Key)); p.report.Records++ }); err != nil {
		return err
	}
	for id := range stay {
		if err := p.entomb(ctx, id); err != nil {
			return err
		}
	}
	old, err := p.remains(ctx, h, stay)
	if err == nil {
		err = p.removeBatch(ctx, old, func(bucket.Info) { p.report.Records++ })
	}
	return err
}

func (p *pruner) entomb(ctx context.Context, id string) error {
	_, err := p.Bucket.Put(ctx, layout.ForgottenKey(id), bucket.Bytes([]byte("{\n \"format\": 1,\n \"id\": \""+id+"\"\n}\n")))
	if errors.Is(err, bucket.ErrDiffers) {
		err = nil // its name says all
	}
	return err
}

// remains are what verifications found in snapshots that are not there, marks of
// commit records that have gone since, and plans of the past.
func (p *pruner) remains(ctx context.Context, h layout.Head, stay map[string]bool) (list []bucket.Info, err error) {
	there := map[string]bool{}
	for _, e := range h.Snapshots {
		there[e.ID] = true
	}
	for _, old := range []struct {
		under string
		is    func(key string) bool
	}{
		{layout.DirVerified, func(key string) bool { id := layout.VerifiedIDOf(key); return id != "" && !there[id] }},
		{layout.DirForgotten, func(key string) bool { id := layout.ForgottenIDOf(key); return id != "" && !stay[id] }},
		{layout.DirPrune, func(key string) bool { id := layout.PlanIDOf(key); return id != "" && id < h.Prune.ID }},
	} {
		for info, err := range p.Bucket.List(ctx, old.under) {
			if err != nil {
				return nil, err
			}
			if old.is(info.Key) {
				list = append(list, info)
			}
		}
	}
	return list, nil
}

// look reads again what was marked. What changed since stays, and what is gone is.
func (p *pruner) look(ctx context.Context, batch []layout.Condemned) ([]bucket.Info, error) {
	found := make([]*bucket.Info, len(batch))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(catalog.AtOnce)
	for i, b := range batch {
		g.Go(func() error {
			info, err := p.Bucket.Head(gctx, layout.BlobKey(b.Digest))
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil && info.Size == b.Size && info.Modified.Equal(b.Modified) {
				found[i] = &info
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var infos []bucket.Info
	for _, info := range found {
		if info != nil && !p.locked(*info) {
			infos = append(infos, *info)
		}
	}
	return infos, nil
}

func (p *pruner) locked(info bucket.Info) bool {
	if !info.LockedUntil.After(p.Now()) {
		return false
	}
	p.keep(bucket.Kept{Key: info.Key, Err: &bucket.LockedError{Until: info.LockedUntil}})
	return true
}

func (p *pruner) keep(k bucket.Kept) {
	p.report.Kept++
	if _, locked := errors.AsType[*bucket.LockedError](k.Err); locked {
		p.report.Locked++
	}
	if len(p.report.Problems) < mostProblems {
		p.report.Problems = append(p.report.Problems, k.Key+": "+k.Err.Error())
	}
}

// removeBatch removes objects, unless somebody else does so by now.
func (p *pruner) removeBatch(ctx context.Context, objects []bucket.Info, gone func(bucket.Info)) error {
	for batch := range slices.Chunk(objects, batchSize) {
		kept, err := p.removeHeld(ctx, batch)
		if err != nil {
			return err
		}
		stays := map[string]bool{}
		for _, k := range kept {
			stays[k.Key] = true
			p.keep(k)
		}
		for _, o := range batch {
			if !stays[o.Key] {
				gone(o)
			}
		}
	}
	return nil
}

// removeHeld removes while the prune is ours. Where the place cannot see to that, we
// look right before.
func (p *pruner) removeHeld(ctx context.Context, batch []bucket.Info) ([]bucket.Kept, error) {
	fence, fenced := p.Bucket.(bucket.Fenced)
	for {
		etag, err := p.hold(ctx)
		if err != nil {
			return nil, err
		}
		if fenced {
			kept, err := fence.RemoveWhile(ctx, layout.KeyHead, etag, batch)
			if errors.Is(err, bucket.ErrChanged) {
				continue
			}
			return kept, err
		}
		p.doubt = true
		kept, err := p.Bucket.Remove(ctx, batch)
		p.doubt = err != nil
		return kept, err
	}
}

func (p *pruner) countBlob(o bucket.Info) {
	p.report.Removed++
	p.report.FreedBytes += o.Size
	if d, ok := layout.DigestOf(o.Key); ok {
		p.removed[keyOf(d)] = struct{}{}
	}
}

// hold makes sure, at this very moment, that nobody took over, and says that we go on.
// The etag names the head that says so.
func (p *pruner) hold(ctx context.Context) (etag string, err error) {
	for {
		asked := p.Now()
		config, h, etag, err := p.Stored(ctx)
		if err != nil {
			return "", err
		}
		if !p.sweeps(h) {
			return "", errTaken
		}
		if asked.Sub(h.Prune.Beat) >= beatEvery {
			err = p.SwapHead(ctx, config, h, etag, func(h *layout.Head) error {
				mine := *h.Prune
				mine.Beat = asked.UTC()
				h.Prune = &mine
				return nil
			})
			if err != nil && !errors.Is(err, bucket.ErrChanged) {
				return "", err
			}
			continue
		}
		// A process that slept since it asked asks again.
		if p.Now().Sub(asked) < fresh {
			return etag, nil
		}
	}
}

// done ends the sweep: from now on others commit again.
func (p *pruner) done(ctx context.Context) error {
	err := p.change(ctx, func(h *layout.Head) {
		h.Prune = nil
		h.Damaged = slices.DeleteFunc(h.Damaged, func(d digest.Digest) bool { _, gone := p.removed[keyOf(d)]; return gone })
	})
	if err == nil {
		p.report.Condemned, p.report.Bytes, p.report.Due = 0, 0, time.Time{}
	}
	return err
}

// giveUp lets others take over at once, unless a removal may still be under way.
func (p *pruner) giveUp(ctx context.Context) error {
	if p.doubt {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
	defer cancel()
	err := p.change(ctx, func(h *layout.Head) {
		mine := *h.Prune
		mine.Beat = time.Time{}
		h.Prune = &mine
	})
	if errors.Is(err, errTaken) || errors.Is(err, catalog.ErrLost) {
		return nil
	}
	return err
}

// change changes the head while the prune in it is ours.
func (p *pruner) change(ctx context.Context, do func(*layout.Head)) error {
	config, _, _, err := p.Stored(ctx)
	if err != nil {
		return err
	}
	return p.ChangeHead(ctx, config, func(h *layout.Head) error {
		if !p.sweeps(*h) {
			return errTaken
		}
		do(h)
		return nil
	})
}

// unmark takes a mark off that cannot be read.
func (p *pruner) unmark(ctx context.Context, id string) error {
	config, _, _, err := p.Stored(ctx)
	if err != nil {
		return err
	}
	return p.ChangeHead(ctx, config, func(h *layout.Head) error {
		if h.Prune != nil && h.Prune.ID == id {
			h.Prune = nil
		}
		return nil
	})
}
