package vault

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/oklog/ulid/v2"
	"github.com/opencontainers/go-digest"

	"lastro/store/vault/bucket"
	"lastro/store/vault/layout"
)

// encode writes a commit record, signed if there is a key.
func (b *backup) encode(s *layout.Snapshot) ([]byte, error) {
	if b.key == nil {
		return layout.Encode(s)
	}
	return layout.Sign(b.key, func(signature *layout.Signature) any {
		s.Signature = signature
		return s
	})
}

// commit makes the snapshot visible. All below it is stored.
func (b *backup) commit(ctx context.Context, s layout.Snapshot, repos []repository) error {
	if err := b.held.flush(ctx); err != nil {
		return err
	}
	s.ID = ulid.MustNew(ulid.Timestamp(s.Created), ulid.DefaultEntropy()).String()
	record, err := b.encode(&s)
	if err != nil {
		return err
	}
	data, err := b.SealRecord(record)
	if err != nil {
		return err
	}
	key := layout.DirSnapshots + s.Created.Format("20060102T150405Z") + "-" + s.ID + ".json"
	if _, err := b.Bucket.Put(ctx, key, bucket.Bytes(data)); err != nil {
		return err
	}
	err = b.ChangeHead(ctx, b.config, func(h *layout.Head) error {
		// What is to be removed stays when this is committed before; afterwards some of
		// what the snapshot needs may be gone. It may be committed already, by a request
		// that had no answer.
		committed := slices.ContainsFunc(h.Snapshots, func(e layout.Entry) bool { return e.ID == s.ID })
		if h.Swept != b.swept && !committed {
			return errSwept
		}
		h.Snapshots = slices.DeleteFunc(h.Snapshots, func(e layout.Entry) bool { return e.ID == s.ID })
		h.Locked = b.locks.after(*h)
		h.Snapshots = append(h.Snapshots, b.Entry(s, key, data))
		h.Damaged = slices.DeleteFunc(h.Damaged, func(d digest.Digest) bool { return b.repaired[d] })
		b.report.LockedUntil = h.Locked
		return nil
	})
	if errors.Is(err, errSwept) { // its record is of a snapshot that there will never be
		_, _ = b.Bucket.Remove(ctx, []bucket.Info{{Key: key}})
	}
	if err != nil {
		return err
	}
	b.report.Snapshot, b.report.Images, b.report.Blobs, b.report.Bytes = s.ID, s.Images, s.Blobs, s.Bytes
	b.report.Repaired = len(b.repaired)
	if err := b.Keep(record); err != nil {
		return fmt.Errorf("snapshot %s is saved, but its record is not kept on this machine: %w", s.ID, err)
	}
	return b.cache(ctx, repos)
}

// cache rewrites what other programs read. The snapshot is saved: a fault here is
// only logged.
func (b *backup) cache(ctx context.Context, repos []repository) error {
	if b.Sealed != nil {
		return nil
	}
	doc, err := layout.Flat(listed(repos))
	if err == nil {
		err = b.Bucket.Replace(ctx, layout.KeyIndex, bucket.Bytes(doc.Data))
	}
	if err == nil {
		err = b.Mark(ctx)
	}
	if err != nil {
		b.Log.Warn("index.json or oci-layout could not be written; the snapshot is saved all the same", "err", err)
	}
	return ctx.Err()
}
