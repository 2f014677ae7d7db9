package vault

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"lastro/mirror"
	"lastro/store/ledger"
	"lastro/store/vault/bucket"
	"lastro/store/vault/catalog"
)

// held collects what the vault holds for the ledger, which writes it in batches.
type held struct {
	l     *ledger.Ledger
	vault string

	mu      sync.Mutex
	pending []digest.Digest
	bytes   int64
}

// add notes a content. A crash forgets at most one batch, which is then asked for
// again, not sent again.
func (h *held) add(ctx context.Context, d digest.Digest, size int64) error {
	const batch, bytes = 1000, 256 << 20
	h.mu.Lock()
	h.pending = append(h.pending, d)
	h.bytes += size
	full := len(h.pending) >= batch || h.bytes >= bytes
	h.mu.Unlock()
	if full {
		return h.flush(ctx)
	}
	return nil
}

func (h *held) flush(ctx context.Context) error {
	h.mu.Lock()
	list := h.pending
	h.pending, h.bytes = nil, 0
	h.mu.Unlock()
	if len(list) == 0 {
		return nil
	}
	return h.l.RecordHeld(ctx, h.vault, list)
}

// upload stores what the vault does not have. What the store does not have, or
// not right, is put into failed; a fault of the bucket is an error.
func (b *backup) upload(ctx context.Context, repos []repository) error {
	if err := b.measure(ctx, repos); err != nil {
		return err
	}
	missing, err := b.missing(ctx)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(catalog.AtOnce)
	for _, d := range missing {
		g.Go(func() error {
			created, err := b.send(gctx, d, b.all[d])
			mu.Lock()
			defer mu.Unlock()
			b.progress.Done(d.String(), err)
			if local(err) && gctx.Err() == nil {
				b.failed[d] = err
				return nil
			}
			if created {
				b.made[d] = true
				b.report.NewBlobs++
				b.report.NewBytes += b.all[d]
			}
			return err
		})
	}
	err = g.Wait()
	if err == nil {
		b.settleWrong()
	}
	return errors.Join(err, b.noteHeld(ctx))
}

// noteHeld notes what was sent, also when the backup is broken off.
func (b *backup) noteHeld(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return b.held.flush(ctx)
}

// measure takes down all that the sound images need.
func (b *backup) measure(ctx context.Context, repos []repository) error {
	b.all = map[digest.Digest]int64{}
	for _, r := range repos {
		some, err := b.contents(ctx, r.tops)
		if err != nil {
			return err
		}
		maps.Copy(b.all, some)
	}
	return nil
}

// missing is what the vault is not known to hold.
func (b *backup) missing(ctx context.Context) ([]digest.Digest, error) {
	all := slices.Collect(maps.Keys(b.all))
	known, err := b.st.Ledger().Held(ctx, b.held.vault, all)
	if err == nil {
		err = b.distrust(ctx, known)
	}
	if err != nil {
		return nil, err
	}
	var bytes int64
	missing := slices.DeleteFunc(all, func(d digest.Digest) bool { return known[d] })
	for _, d := range missing {
		bytes += b.all[d]
	}
	slices.Sort(missing)
	b.progress.Plan(len(missing), bytes)
	return missing, nil
}

// errLocal marks what is wrong in the store.
var errLocal = errors.New("local content")

func local(err error) bool {
	_, wrong := errors.AsType[*bucket.ContentError](err)
	return wrong || errors.Is(err, errLocal)
}

// send stores one content. Bytes in the vault that are not what their name says
// are replaced: ours were just hashed.
func (b *backup) send(ctx context.Context, d digest.Digest, size int64) (created bool, err error) {
	o, done, err := b.open(ctx, d)
	if err != nil {
		return false, fmt.Errorf("%w %s: %w", errLocal, d, err)
	}
	defer done()
	if o.Size != size {
		return false, fmt.Errorf("%w %s: %d bytes, not %d", errLocal, d, o.Size, size)
	}
	err = bucket.ErrDiffers
	if !b.wrong[d] {
		created, err = b.PutBlob(ctx, d, o)
	}
	if errors.Is(err, bucket.ErrDiffers) || errors.Is(err, bucket.ErrInTurn) {
		b.Log.Warn("damaged blob in the vault replaced", "digest", d)
		created, err = true, b.ReplaceBlob(ctx, d, o)
	}
	if err != nil {
		return false, err
	}
	b.progress.Bytes(size)
	return created, b.held.add(ctx, d, size)
}

// learn tells the ledger what the newest snapshot holds, if that is news to it:
// after a restore, a rebuild, or a backup by another machine.
func (b *backup) learn(ctx context.Context) error {
	if b.parent == nil {
		return nil
	}
	root := b.parent.Root
	idx, err := b.unheld(ctx, []ocispec.Descriptor{root})
	if err != nil || len(idx) == 0 {
		return err
	}
	doc, err := b.Index(ctx, root)
	if err == nil {
		err = b.learnRepositories(ctx, doc.Manifests)
	}
	if kind, ok := unreadable(err); ok {
		b.Log.Warn("the newest snapshot cannot be read whole; what the vault holds is asked for blob by blob", "kind", kind, "err", err)
		return nil
	}
	if err != nil {
		return err
	}
	if err := b.held.add(ctx, root.Digest, root.Size); err != nil {
		return err
	}
	return b.held.flush(ctx)
}

func (b *backup) unheld(ctx context.Context, descs []ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	var ds []digest.Digest
	for _, d := range descs {
		ds = append(ds, d.Digest)
	}
	known, err := b.st.Ledger().Held(ctx, b.held.vault, ds)
	return slices.DeleteFunc(slices.Clone(descs), func(d ocispec.Descriptor) bool { return known[d.Digest] }), err
}

// learnRepositories goes below indexes that are not known. One that is known was
// noted after all below it.
func (b *backup) learnRepositories(ctx context.Context, indexes []ocispec.Descriptor) error {
	indexes, err := b.unheld(ctx, indexes)
	if err != nil {
		return err
	}
	for _, desc := range indexes {
		idx, err := b.Index(ctx, desc)
		if err != nil {
			return err
		}
		all, err := b.saved(ctx, idx.Manifests)
		if err != nil {
			return err
		}
		for d, size := range all {
			if b.bad(d) {
				continue
			}
			if err := b.held.add(ctx, d, size); err != nil {
				return err
			}
		}
		if err := b.held.add(ctx, desc.Digest, desc.Size); err != nil {
			return err
		}
	}
	return nil
}

// saved is all that lies below images of an earlier snapshot.
func (b *backup) saved(ctx context.Context, images []ocispec.Descriptor) (map[digest.Digest]int64, error) {
	w := b.Walker(func(ctx context.Context, desc ocispec.Descriptor) (mirror.Manifest, error) {
		return b.ManifestNear(ctx, b.st, desc)
	})
	all := map[digest.Digest]int64{}
	if err := w.Load(ctx, images); err != nil {
		return nil, err
	}
	foreign := catalog.Foreign(*b.parent)
	for _, desc := range images {
		t := w.Tree(desc, foreign)
		if len(t.Faults) > 0 {
			return nil, t.Faults[0].Err
		}
		for _, m := range t.Manifests {
			all[m.Descriptor.Digest] = m.Descriptor.Size
		}
		for _, blob := range t.Blobs {
			all[blob.Digest] = blob.Size
		}
	}
	return all, nil
}
