package ledger

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"

	"lastro/mirror"
	"lastro/store/ledger/file"
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
// too, or a crash leaves the old one. History, tag states, jobs and what is
// known to be absent stay; what is found is served, so it is not absent, and
// that is true of a rebuild that fails too. One rebuild runs at a time; a second waits.
func (l *Ledger) RebuildGraph(ctx context.Context, found iter.Seq2[RepoManifest, error]) error {
	select {
	case l.rebuilding <- struct{}{}:
		defer func() { <-l.rebuilding }()
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
	// The graph is rebuilt, and stays so whatever becomes of this.
	if err := l.forgetPulls(context.WithoutCancel(ctx)); err != nil {
		l.log.Warn("pulls of manifests that are gone stay until the next rebuild", "err", err)
	}
	return nil
}

func (l *Ledger) refill(ctx context.Context, found iter.Seq2[RepoManifest, error]) error {
	if err := l.update(ctx, startGeneration); err != nil {
		return err
	}
	page, refs := make([]RepoManifest, 0, closurePage), 0
	flush := func() error {
		if len(page) == 0 {
			return nil
		}
		err := l.update(ctx, func(tx *bolt.Tx) error { return fillPage(tx, page) })
		page, refs = page[:0], 0
		return err
	}
	for m, err := range found {
		if err != nil {
			return err
		}
		if err := checkRepo(m.Repo); err != nil {
			return err
		}
		page, refs = append(page, m), refs+len(m.Manifest.Refs)
		if !isPage(len(page), refs) {
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
	all := tx.Bucket([]byte(bucketGraph))
	inUse, err := number(all.Get([]byte(graphInUse)))
	if err != nil {
		return err
	}
	if err := all.Put([]byte(graphFilling), numberKey(inUse+1)); err != nil {
		return err
	}
	return createGeneration(tx, inUse+1)
}

func fillPage(tx *bolt.Tx, page []RepoManifest) error {
	g, err := openGraph(tx, tx.Bucket([]byte(bucketGraph)).Get([]byte(graphFilling)))
	if err != nil {
		return err
	}
	for _, m := range page {
		if err := g.add(m.Repo, m.Manifest); err != nil {
			return fmt.Errorf("manifest %s@%s: %w", m.Repo, m.Manifest.Descriptor.Digest, err)
		}
		if err := g.settleAbsent(tx, m); err != nil {
			return err
		}
	}
	return nil
}

// settleAbsent makes absent what is so beside m, and nothing that was found.
func (g graph) settleAbsent(tx *bolt.Tx, m RepoManifest) error {
	self, err := repoDigestKey(m.Repo, m.Manifest.Descriptor.Digest)
	if err != nil {
		return err
	}
	if err := unmark(tx, [][]byte{self}); err != nil {
		return err
	}
	for _, d := range m.Absent {
		k, err := repoDigestKey(m.Repo, d)
		if err != nil {
			return err
		}
		if g.link.Get(k) != nil {
			continue
		}
		if err := file.Put(tx.Bucket([]byte(bucketAbsent)), k, nil); err != nil {
			return err
		}
	}
	return nil
}

// switchGeneration puts the new generation to use and drops the old one.
func switchGeneration(tx *bolt.Tx) error {
	all := tx.Bucket([]byte(bucketGraph))
	old, filled := bytes.Clone(all.Get([]byte(graphInUse))), bytes.Clone(all.Get([]byte(graphFilling)))
	if err := all.Put([]byte(graphInUse), filled); err != nil {
		return err
	}
	if err := all.Delete([]byte(graphFilling)); err != nil {
		return err
	}
	return all.DeleteBucket(old)
}

// dropUnfinished drops the generation that was not put to use, if there is one.
func dropUnfinished(tx *bolt.Tx) error {
	all := tx.Bucket([]byte(bucketGraph))
	unfinished := bytes.Clone(all.Get([]byte(graphFilling)))
	if unfinished == nil {
		return nil
	}
	if err := all.Delete([]byte(graphFilling)); err != nil {
		return err
	}
	return all.DeleteBucket(unfinished)
}
