package ledger

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"

	"lastro/mirror"
)

// RepoManifest is a manifest that a repository holds, read from storage.
type RepoManifest struct {
	Repo     string
	Manifest mirror.Manifest
	Absent   []digest.Digest // children that are known to be left out of Repo on purpose
}

// RebuildGraph replaces the graph by what found yields: all manifests of all
// repositories, in any order. Readers see the old graph until the new one is
// whole; what RecordGraph records meanwhile is in both. An error, from found
// too, or a crash leaves the old one. History, tag states, jobs and what is known to
// be absent stay. One rebuild runs at a time; a second waits.
func (l *Ledger) RebuildGraph(ctx context.Context, found iter.Seq2[RepoManifest, error]) error {
	select {
	case l.rebuild <- struct{}{}:
		defer func() { <-l.rebuild }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := l.refill(ctx, found); err != nil {
		// The context may be what ended it; the space is given back all the same.
		final, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if dropErr := l.update(final, dropUnfinished); dropErr != nil {
			l.log.Warn("unfinished graph stays until the ledger is opened again", "err", dropErr)
		}
		return fmt.Errorf("rebuild graph: %w", err)
	}
	return nil
}

func (l *Ledger) refill(ctx context.Context, found iter.Seq2[RepoManifest, error]) error {
	if err := l.update(ctx, startGeneration); err != nil {
		return err
	}
	page := make([]RepoManifest, 0, closurePage)
	flush := func() error {
		err := l.update(ctx, func(tx *bolt.Tx) error { return fillPage(tx, page) })
		page = page[:0]
		return err
	}
	for m, err := range found {
		if err != nil {
			return err
		}
		if err := checkRepo(m.Repo); err != nil {
			return err
		}
		if page = append(page, m); len(page) < closurePage {
			continue
		}
		if err := flush(); err != nil {
			return err
		}
	}
	if err := flush(); err != nil {
		return err
	}
	return l.update(ctx, switchGeneration)
}

// startGeneration makes the generation after the one in use.
func startGeneration(tx *bolt.Tx) error {
	if err := dropUnfinished(tx); err != nil {
		return err
	}
	meta := tx.Bucket([]byte(bucketMeta))
	inUse, err := number(meta.Get([]byte(metaGraph)))
	if err != nil {
		return err
	}
	if err := meta.Put([]byte(metaGraphNext), numberKey(inUse+1)); err != nil {
		return err
	}
	return createGraph(tx, inUse+1)
}

func fillPage(tx *bolt.Tx, page []RepoManifest) error {
	g, err := openGraph(tx, tx.Bucket([]byte(bucketMeta)).Get([]byte(metaGraphNext)))
	if err != nil {
		return err
	}
	for _, m := range page {
		if err := g.add(m.Repo, m.Manifest); err != nil {
			return fmt.Errorf("manifest %s@%s: %w", m.Repo, m.Manifest.Descriptor.Digest, err)
		}
		if err := markAbsent(tx, m.Repo, m.Absent); err != nil {
			return err
		}
	}
	return nil
}

// switchGeneration puts the new generation to use and drops the old one.
func switchGeneration(tx *bolt.Tx) error {
	meta, all := tx.Bucket([]byte(bucketMeta)), tx.Bucket([]byte(bucketGraph))
	next := meta.Get([]byte(metaGraphNext))
	if err := all.DeleteBucket(meta.Get([]byte(metaGraph))); err != nil {
		return err
	}
	if err := meta.Put([]byte(metaGraph), next); err != nil {
		return err
	}
	return meta.Delete([]byte(metaGraphNext))
}

// dropUnfinished drops the generation that was not put to use, if there is one.
func dropUnfinished(tx *bolt.Tx) error {
	meta := tx.Bucket([]byte(bucketMeta))
	next := meta.Get([]byte(metaGraphNext))
	if next == nil {
		return nil
	}
	if err := tx.Bucket([]byte(bucketGraph)).DeleteBucket(next); err != nil {
		return err
	}
	return meta.Delete([]byte(metaGraphNext))
}
