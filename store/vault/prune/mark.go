package prune

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/opencontainers/go-digest"

	"lastro/store/vault/bucket"
	"lastro/store/vault/layout"
)

// mark writes down what no snapshot needs, if nothing is marked yet.
func (p *pruner) mark(ctx context.Context) (marked bool, err error) {
	config, h, _, err := p.Stored(ctx)
	if err != nil || h.Prune != nil {
		return false, err
	}
	plan, err := p.plan(ctx, config, h)
	if err != nil || len(plan.Blobs)+plan.Records == 0 {
		return false, err
	}
	data, err := layout.Encode(plan)
	if err != nil {
		return false, err
	}
	mark := layout.Prune{ID: plan.ID, Plan: layout.PlanKey(plan.ID), Digest: digest.FromBytes(data), Blobs: len(plan.Blobs), Marked: plan.Created}
	for _, b := range plan.Blobs {
		mark.Bytes += b.Size
	}
	if _, err := p.Bucket.Put(ctx, mark.Plan, bucket.Bytes(data)); err != nil {
		return false, err
	}
	err = p.ChangeHead(ctx, config, func(h *layout.Head) error {
		if h.Prune != nil {
			return errMarked
		}
		h.Prune = &mark
		return nil
	})
	if errors.Is(err, errMarked) {
		return false, nil
	}
	if err == nil {
		p.report.Condemned, p.report.Bytes, p.report.Due = mark.Blobs, mark.Bytes, p.due(config, mark)
		p.Log.Info("blobs marked for removal", "job", "prune "+p.Name, "blobs", mark.Blobs, "bytes", mark.Bytes, "due", p.report.Due)
	}
	return err == nil, err
}

var errMarked = errors.New("another prune has marked meanwhile")

// plan is what would be marked.
func (p *pruner) plan(ctx context.Context, config layout.Config, h layout.Head) (layout.Plan, error) {
	now := p.Now().UTC()
	plan := layout.Plan{Format: p.Format(), ID: ulid.MustNew(ulid.Timestamp(now), ulid.DefaultEntropy()).String(), Vault: config.ID, Created: now}
	if len(h.Snapshots) == 0 {
		return plan, nil // a first backup may go on: nothing says what is needed
	}
	if err := p.live.reach(ctx, h); err != nil {
		return plan, err
	}
	latest, err := p.latest(ctx)
	if err != nil {
		return plan, err
	}
	if err := p.unneeded(ctx, latest, &plan); err != nil {
		return plan, err
	}
	orphans, err := p.orphans(ctx, h)
	for _, o := range orphans {
		if !o.Modified.After(latest.Add(-p.o.MinAge)) {
			plan.Records++
		}
	}
	return plan, err
}

// latest is a time that has passed by the bucket's clock.
func (p *pruner) latest(ctx context.Context) (time.Time, error) {
	info, err := p.Bucket.Head(ctx, layout.KeyHead)
	return info.Modified, err
}

// unneeded lists the blobs and compares them with what snapshots need.
func (p *pruner) unneeded(ctx context.Context, latest time.Time, plan *layout.Plan) error {
	var bytes, allBytes int64
	all := 0
	p.report.Live, p.report.LiveBytes, p.report.Young = 0, 0, 0
	for info, err := range p.Bucket.List(ctx, layout.DirBlobs) {
		if err != nil {
			return err
		}
		d, ours := layout.DigestOf(info.Key)
		if !ours {
			continue // whatever it is, nobody asked to remove it
		}
		all++
		allBytes += info.Size
		switch {
		case p.live.has(d):
			p.report.Live++
			p.report.LiveBytes += info.Size
		case info.Modified.After(latest.Add(-p.o.MinAge)):
			p.report.Young++
		case len(plan.Blobs) < layout.MaxPlan:
			plan.Blobs = append(plan.Blobs, layout.Condemned{Digest: d, Size: info.Size, Modified: info.Modified.UTC()})
			bytes += info.Size
		}
	}
	guard := &GuardError{p.Name, len(plan.Blobs), all, bytes, allBytes, p.o.MaxRemovals}
	if len(plan.Blobs) > 0 && guard.Share() > p.o.MaxRemovals {
		return guard
	}
	return nil
}

// orphans are commit records of snapshots that a head does not list.
func (p *pruner) orphans(ctx context.Context, h layout.Head) (list []bucket.Info, err error) {
	needed := map[string]bool{}
	for _, e := range h.Snapshots {
		needed[e.Record] = true
	}
	for info, err := range p.Bucket.List(ctx, layout.DirSnapshots) {
		if err != nil {
			return nil, err
		}
		if !needed[info.Key] && layout.IDOf(info.Key) != "" {
			list = append(list, info)
		}
	}
	return list, nil
}

// dry tells what a run would do, and writes nothing.
func (p *pruner) dry(ctx context.Context) error {
	config, h, _, err := p.Stored(ctx)
	if err != nil {
		return err
	}
	plan, err := p.plan(ctx, config, h)
	if err != nil {
		return err
	}
	p.report.Condemned = len(plan.Blobs)
	for _, b := range plan.Blobs {
		p.report.Bytes += b.Size
	}
	p.report.Due = p.due(config, layout.Prune{Marked: plan.Created})
	if h.Prune == nil {
		return nil
	}
	p.report.Due = p.due(config, *h.Prune)
	if p.Now().Before(p.report.Due) {
		return nil
	}
	marked, err := p.marked(ctx, *h.Prune)
	if err != nil {
		return fmt.Errorf("what is marked: %w", err)
	}
	for _, b := range p.unneededStill(marked) {
		p.report.Removed++
		p.report.FreedBytes += b.Size
	}
	return nil
}
