package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"lastro/mirror"
	disk "lastro/store/layout"
	"lastro/store/ledger"
	"lastro/store/vault/catalog"
	"lastro/store/vault/layout"
)

// Report is what a restore did.
type Report struct {
	Snapshot    string            `json:"snapshot"`
	Time        time.Time         `json:"time"`         // of the snapshot
	To          string            `json:"to,omitempty"` // where it was copied to; "": into this registry
	Images      int               `json:"images"`       // that are now as in the snapshot; what is attached to others is not counted
	Blobs       int               `json:"blobs"`        // fetched from the vault
	Bytes       int64             `json:"bytes"`
	Requests    int64             `json:"requests"` // to the vault
	TookSeconds float64           `json:"took_seconds"`
	Failed      []catalog.Failure `json:"failed"`
}

// restore is one run of Restore.
type restore struct {
	*catalog.Catalog
	st       Store
	o        Options
	progress mirror.Progress
	plan     Plan
	slots    chan struct{} // one for each content on its way

	mu     sync.Mutex
	broken map[digest.Digest]error // contents that the vault does not have right
	report Report
}

// Run brings images and their history back into a store, as Prepare says.
// Every byte is checked against its digest. An image appears when it is whole, its
// tag last; one that the vault does not have whole is listed as failed and the
// rest is restored. Interrupted or repeated it goes on where it was. Over a local
// tag that points elsewhere since later it goes only by force. Afterwards the next
// backup continues from the snapshot. progress may not be nil.
func Run(ctx context.Context, c *catalog.Catalog, st Store, o Options, progress mirror.Progress) (Report, error) {
	r := &restore{Catalog: c, st: st, o: o, progress: progress, slots: make(chan struct{}, catalog.AtOnce), broken: map[digest.Digest]error{}}
	r.report.Failed = []catalog.Failure{}
	err := r.run(ctx)
	return r.report, err
}

func (r *restore) run(ctx context.Context) error {
	p := &planner{Catalog: r.Catalog, st: r.st, o: r.o, keep: r.keep, sparing: true, wanted: map[digest.Digest]bool{}}
	if err := p.run(ctx); err != nil {
		return err
	}
	r.plan = p.plan
	r.report.Snapshot, r.report.Time = r.plan.Snapshot, r.plan.Time
	r.report.Failed = append(r.report.Failed, r.plan.Failed...)
	if err := r.images(ctx); err != nil {
		return err
	}
	// The history comes after the tags: before them it would name tags that are
	// not there, and a crash would leave it so.
	if err := r.history(ctx, p.choose); err != nil {
		return err
	}
	if err := r.state(ctx, p.choose); err != nil {
		return err
	}
	r.tell(ctx)
	return r.remember(ctx)
}

func (r *restore) images(ctx context.Context) error {
	r.progress.Plan(r.plan.Blobs, r.plan.Bytes)
	var g errgroup.Group
	g.SetLimit(catalog.AtOnce)
	for _, repo := range r.plan.repos {
		g.Go(func() error { return r.repository(ctx, repo) })
	}
	return g.Wait()
}

// keep takes a manifest into the store. Nothing is visible by that.
func (r *restore) keep(ctx context.Context, desc ocispec.Descriptor, raw []byte) error {
	err := r.st.Ingest(ctx, desc, func(context.Context, int64) (io.ReadCloser, int64, error) {
		return io.NopCloser(bytes.NewReader(raw)), 0, nil
	})
	if err != nil {
		return &storeError{err}
	}
	r.fetched(desc.Size)
	return nil
}

// storeError is a fault of the store, not of the vault.
type storeError struct{ err error }

func (e *storeError) Error() string { return "local registry: " + e.err.Error() }
func (e *storeError) Unwrap() error { return e.err }

func (r *restore) fetched(size int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report.Blobs++
	r.report.Bytes += size
}

// repository fetches what is missing and makes the images visible.
func (r *restore) repository(ctx context.Context, p repositoryPlan) error {
	g, gctx := errgroup.WithContext(ctx)
	for _, desc := range p.fetch {
		select {
		case r.slots <- struct{}{}:
		case <-gctx.Done():
			return errors.Join(g.Wait(), ctx.Err())
		}
		g.Go(func() error {
			defer func() { <-r.slots }()
			return r.fetch(gctx, desc)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, u := range p.units {
		if err := r.publish(ctx, p, u); err != nil {
			return err
		}
	}
	return nil
}

// fetch takes a blob into the store. Wrong bytes break what needs it, if they come
// twice: the first time it may be what an earlier run left half.
func (r *restore) fetch(ctx context.Context, desc ocispec.Descriptor) error {
	src := &source{r: r, desc: desc}
	err := r.st.Ingest(ctx, desc, src.open)
	if wrong(err) {
		err = r.st.Ingest(ctx, desc, src.open)
	}
	r.progress.Done(desc.Digest.String(), err)
	if err == nil {
		if src.body != nil {
			r.fetched(desc.Size)
		}
		return nil
	}
	if _, there := catalog.Damage(src.err); ctx.Err() != nil || !there && !wrong(err) {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken[desc.Digest] = fmt.Errorf("vault %s: %w", r.Bucket, err)
	return nil
}

func wrong(err error) bool { return errors.Is(err, disk.ErrDigest) || errors.Is(err, disk.ErrSize) }

// source is a blob in the vault, and what was wrong with reading it.
type source struct {
	r    *restore
	desc ocispec.Descriptor
	body io.ReadCloser
	err  error
}

func (s *source) open(ctx context.Context, offset int64) (io.ReadCloser, int64, error) {
	body, info, err := s.r.OpenBlob(ctx, s.desc.Digest, offset)
	if err == nil && info.Size != s.desc.Size {
		err = errors.Join(fmt.Errorf("blob %s: %w: %d bytes, not %d", s.desc.Digest, layout.ErrDamaged, info.Size, s.desc.Size), body.Close())
	}
	if err != nil {
		s.err = err
		return nil, 0, err
	}
	s.body = body
	return s, offset, nil
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.body.Read(p)
	s.r.progress.Bytes(int64(n))
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

func (s *source) Close() error { return s.body.Close() }

// publish makes one image visible.
func (r *restore) publish(ctx context.Context, p repositoryPlan, u unit) error {
	f := catalog.Failure{Repo: p.name, Tag: layout.TagOf(u.desc), Digest: u.desc.Digest}
	r.mu.Lock()
	for _, d := range u.blobs {
		if err := r.broken[d]; err != nil {
			f.Error = err.Error()
		}
	}
	r.mu.Unlock()
	if f.Error == "" {
		desc := u.desc
		desc.Annotations = nil
		_, err := r.st.Publish(ctx, mirror.Publication{
			Repo: p.name, Tag: f.Tag, Root: desc, Manifests: u.manifests, Absent: u.absent,
			Kind: ledger.Restored, By: r.o.By, Reason: "snapshot " + r.plan.Snapshot,
		})
		if err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if f.Error != "" {
		r.report.Failed = append(r.report.Failed, f)
		return nil
	}
	if !u.attached() {
		r.report.Images++
	}
	r.Log.Info("image restored", "repo", p.name, "tag", f.Tag, "digest", f.Digest)
	return nil
}

// remember tells the ledger what the vault holds, so that the next backup goes on. What
// only a snapshot needed that was forgotten meanwhile may not stay there.
func (r *restore) remember(ctx context.Context) error {
	h, err := r.Heads(ctx)
	if err != nil || !slices.ContainsFunc(h.Snapshots, func(e layout.Entry) bool { return e.ID == r.plan.record.ID }) {
		return err
	}
	var all []digest.Digest
	whole := len(r.report.Failed) == 0 && len(r.o.Patterns) == 0
	for _, p := range r.plan.repos {
		for d := range p.all {
			if r.broken[d] == nil {
				all = append(all, d)
			}
		}
		if p.whole && whole {
			all = append(all, p.index.Digest)
		}
	}
	if whole {
		all = append(all, r.plan.record.Root.Digest)
		all = append(all, r.plan.record.Beside()...)
	}
	return r.st.Ledger().RecordHeld(ctx, h.HeldAs(), all)
}
