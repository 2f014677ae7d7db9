package vault

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	"lastro/store/vault/bucket"
	"lastro/store/vault/catalog"
	"lastro/store/vault/layout"
	"lastro/store/vault/prune"
)

// Report is what a backup did.
type Report struct {
	Vault       string            `json:"vault"`
	Snapshot    string            `json:"snapshot"`
	Images      int               `json:"images"`
	Blobs       int               `json:"blobs"` // all that the snapshot needs
	Bytes       int64             `json:"bytes"`
	NewBlobs    int               `json:"new_blobs"` // stored by this backup
	NewBytes    int64             `json:"new_bytes"`
	Repaired    int               `json:"repaired"` // damaged blobs in the vault, made good
	Requests    int64             `json:"requests"`
	TookSeconds float64           `json:"took_seconds"`
	Failed      []catalog.Failure `json:"failed"`
	Extended    int               `json:"extended,omitempty"`    // versions that were locked again
	LockedUntil time.Time         `json:"locked_until,omitzero"` // all that snapshots need, at least
}

// backup is one run of Backup.
type backup struct {
	*Vault
	st        Store
	by        string
	store     string // what the store is called
	swept     string // by the head when the backup began
	progress  mirror.Progress
	config    layout.Config
	parent    *layout.Snapshot
	damaged   map[digest.Digest]bool // in the vault, as it calls them, and not to be repaired from here
	repaired  map[digest.Digest]bool // the same that were
	hidden    bool                   // more may be damaged than is known
	wrong     map[digest.Digest]bool // found to be so by this backup
	manifests map[digest.Digest]bool // of those in all
	held      *held
	failed    map[digest.Digest]error // contents that the store does not have, or not right
	kept      map[digest.Digest]bool  // foreign layers that the store has
	elsewhere map[digest.Digest]int64 // foreign layers that it has not
	all       map[digest.Digest]int64 // what the snapshot needs below its root
	made      map[digest.Digest]bool  // stored by this backup
	locks     *locks                  // nil: none are wanted
	report    Report
}

// Backup saves what the store holds as a new snapshot, which is visible when it
// is whole or not at all. Only what the vault does not have is sent; the ledger
// knows that. An image that the store does not have whole is left as the
// snapshot before has it, or left out, and listed as failed in the report; the
// rest is saved. The first backup makes the vault. Syncs may go on meanwhile.
// An interrupted backup is continued by the next. progress may be nil.
func (v *Vault) Backup(ctx context.Context, st Store, by string, progress mirror.Progress) (Report, error) {
	start, sent := v.Now(), v.requests.Load()
	b := v.newBackup(st, by, progress)
	err := b.run(ctx)
	for n := 1; errors.Is(err, errSwept) && n < sweptTries; n++ {
		v.Log.Info("a prune has removed from the vault meanwhile; the backup looks again at what is there", "job", "backup "+v.Name)
		again := v.newBackup(st, by, progress)
		again.report.NewBlobs, again.report.NewBytes = b.report.NewBlobs, b.report.NewBytes
		b = again
		err = b.run(ctx)
	}
	b.report.Requests = v.requests.Load() - sent
	b.report.TookSeconds = v.Now().Sub(start).Seconds()
	if err != nil {
		return b.report, fmt.Errorf("backup to vault %s: %w", v.Name, err)
	}
	v.Log.Info("snapshot saved", "job", "backup "+v.Name, "snapshot", b.report.Snapshot, "blobs", b.report.NewBlobs, "bytes", b.report.NewBytes, "took", v.Now().Sub(start))
	return b.report, nil
}

// errSwept says that what was known to be in the vault may have gone since.
var errSwept = errors.New("other processes remove from the vault all the time: let fewer of them prune, and run the backup again")

// sweptTries is how often a backup looks again before it is an error.
const sweptTries = 5

func (v *Vault) newBackup(st Store, by string, progress mirror.Progress) *backup {
	b := &backup{Vault: v, st: st, by: by, progress: watched(progress), failed: map[digest.Digest]error{}, repaired: map[digest.Digest]bool{}, wrong: map[digest.Digest]bool{}, manifests: map[digest.Digest]bool{}, kept: map[digest.Digest]bool{}, elsewhere: map[digest.Digest]int64{}, made: map[digest.Digest]bool{}, locks: v.newLocks()}
	b.report = Report{Vault: v.Name, Failed: []catalog.Failure{}}
	return b
}

func (b *backup) run(ctx context.Context) error {
	if err := b.begin(ctx); err != nil {
		return err
	}
	repos, err := b.freeze(ctx, b.st.Ledger())
	if err != nil {
		return err
	}
	s := layout.Snapshot{Format: b.Format(), Vault: b.config.ID, Created: b.Now().UTC(), Writer: b.by, Store: b.store, Version: b.Version, Include: b.patterns}
	if b.parent != nil {
		s.Parent = b.parent.ID
	}
	same, err := b.unchanged(ctx, repos)
	if err != nil {
		return err
	}
	if p := b.parent; same {
		s.Root, s.Images, s.Blobs, s.Bytes, s.Closure, s.Foreign, s.Elsewhere = p.Root, p.Images, p.Blobs, p.Bytes, p.Closure, p.Foreign, p.Elsewhere
	} else if repos, err = b.save(ctx, &s, repos); err != nil {
		return err
	}
	if s.History, err = b.saveHistory(ctx); err != nil {
		return err
	}
	if err := b.saveBeside(ctx, &s); err != nil {
		return err
	}
	if err := b.lockReused(ctx, s, repos); err != nil {
		return err
	}
	if err := b.commit(ctx, s, repos); err != nil {
		return err
	}
	if p := b.parent; p != nil && p.Images > 0 && s.Images == 0 {
		b.Log.Warn("the new snapshot is empty and the one before is not: if this registry was lost, restore that one", "vault", b.Name, "images", p.Images, "restore", "lastro restore --snapshot "+p.ID)
	}
	return b.extendLocks(ctx)
}

// unchanged tells whether all is as in the snapshot before, and sound there.
func (b *backup) unchanged(ctx context.Context, repos []repository) (bool, error) {
	root, _, err := layout.Indexes(listed(repos))
	if err != nil || b.parent == nil || b.parent.Root.Digest != root.Desc.Digest || len(b.damaged) > 0 || b.hidden || !sound(repos) {
		return false, err
	}
	came, err := b.came(ctx)
	return !came, err
}

func sound(repos []repository) bool {
	return !slices.ContainsFunc(repos, func(r repository) bool {
		return slices.ContainsFunc(r.tops, func(t top) bool { return t.err != nil })
	})
}

// begin learns what is in the vault.
func (b *backup) begin(ctx context.Context) (err error) {
	if b.config, err = b.ConfigOrNew(ctx); err != nil {
		return err
	}
	if err := b.Ready(); err != nil {
		return err
	}
	b.hidden = b.NamesWereLost()
	if err := b.look(ctx); err != nil {
		return err
	}
	return b.repair(ctx)
}

// look reads which snapshots there are, at a moment when no prune removes anything.
func (b *backup) look(ctx context.Context) error {
	h, _, err := b.Head(ctx, b.config)
	if err == nil && h.Sweeping() {
		if err = prune.Await(ctx, b.Catalog, b.st); err == nil {
			return b.look(ctx)
		}
	}
	if err != nil {
		return err
	}
	if err := b.beginLocks(ctx, h); err != nil {
		return err
	}
	if b.store, err = b.st.Ledger().ID(ctx); err != nil {
		return err
	}
	b.swept, b.damaged = h.Swept, setOf(h.Damaged)
	b.held = &held{l: b.st.Ledger(), vault: h.HeldAs()}
	if err := b.st.Ledger().ForgetHeldBut(ctx, h.HeldAs(), h.Vault); err != nil {
		return err
	}
	return b.findParent(ctx, h)
}

// findParent takes the newest snapshot of this store, or the newest.
func (b *backup) findParent(ctx context.Context, h layout.Head) error {
	if len(h.Snapshots) == 0 {
		return nil
	}
	newest := h.Snapshots[len(h.Snapshots)-1]
	for _, e := range h.Snapshots {
		if e.Store == b.store {
			newest = e
		}
	}
	s, err := b.Trusted(ctx, newest)
	if kind, ok := unreadable(err); ok {
		b.Log.Warn("the record of the newest snapshot cannot be used: the history is sent again, and what the vault holds is asked for blob by blob", "snapshot", newest.ID, "kind", kind, "err", err)
		b.hidden = b.hidden || !errors.Is(err, ErrNoIdentity)
		return nil
	}
	if err == nil {
		b.parent = &s
	}
	return err
}

// repair replaces damaged blobs by the store's own.
func (b *backup) repair(ctx context.Context) error {
	found, err := b.digestsOf(ctx, b.damaged)
	if err != nil {
		return err
	}
	b.hidden = b.hidden || len(found) < len(b.damaged)
	for name, d := range found {
		hides, err := b.hides(ctx, d)
		if err != nil {
			return err
		}
		b.hidden = b.hidden || hides
		o, done, err := b.open(ctx, d)
		if err != nil {
			continue // not here: what needs it fails
		}
		err = b.ReplaceBlob(ctx, d, o)
		done()
		if _, ok := errors.AsType[*bucket.ContentError](err); ok {
			continue
		}
		if err != nil {
			return err
		}
		b.Log.Info("damaged blob in the vault replaced", "digest", d)
		b.repaired[name] = true
	}
	for name := range b.repaired {
		delete(b.damaged, name)
	}
	return nil
}

// open opens a content of the store for the bucket.
func (b *backup) open(ctx context.Context, d digest.Digest) (bucket.Object, func(), error) {
	f, err := b.st.OpenContent(ctx, d)
	if err != nil {
		return bucket.Object{}, nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return bucket.Object{}, nil, errors.Join(err, f.Close())
	}
	// No manifest is longer.
	bulk := info.Size() > mirror.MaxManifest
	return bucket.Object{Size: info.Size(), Digest: d, Content: f, Bulk: bulk}, func() { _ = f.Close() }, nil
}

// save stores all below the root, then the root. It returns the repositories as
// the snapshot has them.
func (b *backup) save(ctx context.Context, s *layout.Snapshot, repos []repository) ([]repository, error) {
	if err := b.learn(ctx); err != nil {
		return nil, err
	}
	err := b.upload(ctx, repos)
	if err == nil && (len(b.failed) > 0 || b.spoiled() || !sound(repos)) {
		repos, err = b.settle(ctx, repos)
	}
	if err != nil {
		return nil, err
	}
	root, each, err := layout.Indexes(listed(repos))
	if err != nil {
		return nil, err
	}
	for _, doc := range append(each, root) {
		if err := b.put(ctx, doc); err != nil {
			return nil, err
		}
		b.all[doc.Desc.Digest] = doc.Desc.Size
	}
	s.Root = root.Desc
	s.Images = countImages(repos)
	s.Blobs, s.Bytes, s.Closure = layout.Measure(b.all)
	b.noteForeign(s)
	return repos, nil
}

// noteForeign lists the foreign layers that the snapshot keeps, and those that it
// leaves elsewhere.
func (b *backup) noteForeign(s *layout.Snapshot) {
	for _, d := range slices.Sorted(maps.Keys(b.kept)) {
		if _, needed := b.all[d]; needed {
			s.Foreign = append(s.Foreign, d)
		}
	}
	s.Elsewhere = []layout.Layer{}
	for _, d := range slices.Sorted(maps.Keys(b.elsewhere)) {
		if !b.kept[d] {
			s.Elsewhere = append(s.Elsewhere, layout.Layer{Digest: d, Size: b.elsewhere[d]})
		}
	}
}

// spoiled tells whether the snapshot would need what is damaged in the vault.
func (b *backup) spoiled() bool {
	for d := range b.all {
		if b.bad(d) {
			return true
		}
	}
	return false
}

// countImages counts tags and digests, without what is attached to others.
func countImages(repos []repository) (n int) {
	for _, r := range repos {
		for _, t := range r.tops {
			if _, attached := mirror.AttachedTag(layout.TagOf(t.Descriptor)); !attached && !t.refers {
				n++
			}
		}
	}
	return n
}

// put stores a document of ours, unless the vault is known to have it.
func (b *backup) put(ctx context.Context, doc layout.Document) error {
	d := doc.Desc.Digest
	known, err := b.st.Ledger().Held(ctx, b.held.vault, []digest.Digest{d})
	if err != nil {
		return err
	}
	if known[d] && !b.bad(d) && b.hidden {
		right, err := b.right(ctx, d, doc.Desc.Size, true)
		if err != nil {
			return err
		}
		if !right {
			b.damaged[b.NameOf(d)] = true
		}
	}
	if known[d] && !b.bad(d) {
		return nil
	}
	created, err := b.PutBlob(ctx, d, bucket.Bytes(doc.Data))
	if errors.Is(err, bucket.ErrDiffers) || errors.Is(err, bucket.ErrInTurn) || b.bad(d) {
		created, err = true, b.ReplaceBlob(ctx, d, bucket.Bytes(doc.Data))
		b.repaired[b.NameOf(d)] = true
	}
	if err != nil {
		return err
	}
	if created {
		b.made[d] = true
		b.report.NewBlobs++
		b.report.NewBytes += doc.Desc.Size
	}
	return b.held.add(ctx, d, doc.Desc.Size)
}

// saveHistory stores what the ledger has recorded.
func (b *backup) saveHistory(ctx context.Context) (layout.History, error) {
	var before layout.History
	if p := b.parent; p != nil && slices.Equal(p.Include, b.patterns) {
		before = p.History
	}
	for _, s := range before.Segments {
		if b.bad(s.Digest) {
			before = layout.History{}
			break
		}
	}
	return b.history(ctx, b.st.Ledger(), before, func(data []byte) (digest.Digest, error) {
		doc := layout.Document{Desc: ocispec.Descriptor{Digest: digest.FromBytes(data), Size: int64(len(data))}, Data: data}
		return doc.Desc.Digest, b.put(ctx, doc)
	})
}
