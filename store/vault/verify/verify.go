package verify

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"lastro/mirror"
	"lastro/store/vault/bucket"
	"lastro/store/vault/catalog"
	"lastro/store/vault/layout"
)

// Report is what a verification found. It is also the receipt in the vault.
type Report struct {
	Format      int       `json:"format"`
	Vault       string    `json:"vault"`
	Snapshot    string    `json:"snapshot"`
	Time        time.Time `json:"time"`
	Blobs       int       `json:"blobs"` // read and hashed
	Bytes       int64     `json:"bytes"`
	Problems    []Problem `json:"problems"`
	Requests    int64     `json:"requests,omitempty"`     // not in the receipt
	TookSeconds float64   `json:"took_seconds,omitempty"` // not in the receipt
}

// Problem is something in a vault that is not as it has to be. Kind is missing,
// corrupt, unreadable, or incomplete (all there is right, and something that
// the commit record counted is not named any more).
type Problem struct {
	Digest digest.Digest `json:"digest"`
	Kind   string        `json:"kind"`
	Images []string      `json:"images"`
	Error  string        `json:"error"`
}

// verify is one run of Verify.
type verify struct {
	*catalog.Catalog
	progress mirror.Progress
	images   []string
	needs    map[digest.Digest]*need
	problems map[digest.Digest]Problem
	seen     map[digest.Digest]bool // all blobs that were looked at
	mu       sync.Mutex
	report   Report
}

// need is a content of the snapshot: how long it is and which images need it.
type need struct {
	size   int64
	images []int32
	read   bool // was hashed while walking
}

// Snapshot reads and hashes everything that a snapshot needs: "" or "latest", an id,
// or the start of one. What it finds is in the report, in a receipt in the vault,
// and in its head, from where the next backup repairs what it can. Only a vault
// that cannot be read is an error. progress may not be nil.
func Snapshot(ctx context.Context, c *catalog.Catalog, snapshot string, progress mirror.Progress) (Report, error) {
	r := &verify{Catalog: c, progress: progress, needs: map[digest.Digest]*need{}, problems: map[digest.Digest]Problem{}, seen: map[digest.Digest]bool{}}
	r.report = Report{Format: layout.Format, Vault: c.Name, Problems: []Problem{}}
	err := r.run(ctx, snapshot)
	return r.report, err
}

func (r *verify) run(ctx context.Context, snapshot string) error {
	c, err := r.Config(ctx)
	if err != nil {
		return err
	}
	h, _, err := r.Head(ctx, c)
	if err != nil {
		return err
	}
	e, err := h.Pick(snapshot, time.Time{})
	if err != nil {
		return err
	}
	r.report.Snapshot, r.report.Time = e.ID, r.Now().UTC()
	s, err := r.Record(ctx, e)
	if err == nil {
		err = r.snapshot(ctx, s)
	}
	if err = r.found(e.Digest, err); err != nil {
		return err
	}
	r.report.Problems = slices.SortedFunc(maps.Values(r.problems), func(a, b Problem) int { return cmp.Compare(a.Digest, b.Digest) })
	return r.receipt(ctx, c)
}

// found takes down a problem of the vault; other errors it returns.
func (r *verify) found(d digest.Digest, err error) error {
	kind, ok := catalog.Damage(err)
	if !ok {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.problems[d] = Problem{d, kind, []string{}, err.Error()}
	return nil
}

func (r *verify) snapshot(ctx context.Context, s layout.Snapshot) error {
	for _, g := range s.History.Segments {
		r.seen[g.Digest] = true
		_, err := r.Events(ctx, g)
		if err := r.found(g.Digest, err); err != nil {
			return err
		}
	}
	root, err := r.ours(ctx, s.Root)
	if err != nil {
		return err
	}
	for _, desc := range root.Manifests {
		if err := r.repository(ctx, s, desc); err != nil {
			return err
		}
	}
	if err := r.read(ctx); err != nil {
		return err
	}
	all := map[digest.Digest]int64{}
	for d, n := range r.needs {
		all[d] = n.size
	}
	var closure digest.Digest
	r.report.Blobs, r.report.Bytes, closure = layout.Measure(all)
	if len(r.problems) == 0 && closure != s.Closure {
		r.problems[s.Closure] = Problem{s.Closure, "incomplete", []string{}, fmt.Sprintf("%d blobs are named below the root, the record counts %d", len(all), s.Blobs)}
	}
	r.blame()
	return nil
}

// ours reads an index of ours.
func (r *verify) ours(ctx context.Context, desc ocispec.Descriptor) (ocispec.Index, error) {
	r.need(desc, -1).read = true
	idx, err := r.Index(ctx, desc)
	return idx, r.found(desc.Digest, err)
}

func (r *verify) need(desc ocispec.Descriptor, image int32) *need {
	n := r.needs[desc.Digest]
	if n == nil {
		n = &need{size: desc.Size}
		r.needs[desc.Digest] = n
		r.seen[desc.Digest] = true
	}
	if image >= 0 {
		n.images = append(n.images, image)
	}
	return n
}

// repository reads all manifests of one and takes down what they need.
func (r *verify) repository(ctx context.Context, s layout.Snapshot, desc ocispec.Descriptor) error {
	idx, err := r.ours(ctx, desc)
	if err != nil {
		return err
	}
	w := catalog.NewWalker(s, func(ctx context.Context, desc ocispec.Descriptor) (mirror.Manifest, error) {
		m, _, err := r.Manifest(ctx, desc)
		return m, err
	})
	absent := catalog.AbsentIn(idx.Manifests)
	if err := w.Load(ctx, idx.Manifests, absent); err != nil {
		return err
	}
	for _, top := range idx.Manifests {
		t := w.Tree(top, absent)
		image := int32(len(r.images))
		r.images = append(r.images, fullName(desc.Annotations[layout.AnnotationRepository], top))
		if err := r.tree(t, image); err != nil {
			return err
		}
	}
	return nil
}

func fullName(repo string, desc ocispec.Descriptor) string {
	if tag := layout.TagOf(desc); tag != "" {
		return repo + ":" + tag
	}
	return repo + "@" + desc.Digest.String()
}

func (r *verify) tree(t catalog.Tree, image int32) error {
	for _, f := range t.Faults {
		r.need(ocispec.Descriptor{Digest: f.Digest}, image).read = true
		if err := r.found(f.Digest, f.Err); err != nil {
			return err
		}
	}
	for _, m := range t.Manifests {
		r.need(m.Descriptor, image).read = true
	}
	for _, blob := range t.Blobs {
		r.need(blob, image)
	}
	return nil
}

// read hashes all blobs, many at once.
func (r *verify) read(ctx context.Context) error {
	var bytes int64
	todo := slices.DeleteFunc(slices.Sorted(maps.Keys(r.needs)), func(d digest.Digest) bool { return r.needs[d].read })
	for _, d := range todo {
		bytes += r.needs[d].size
	}
	r.progress.Plan(len(todo), bytes)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(catalog.AtOnce)
	for _, d := range todo {
		g.Go(func() error {
			err := r.hash(gctx, d, r.needs[d].size)
			r.progress.Done(d.String(), err)
			return r.found(d, err)
		})
	}
	return g.Wait()
}

func (r *verify) hash(ctx context.Context, d digest.Digest, size int64) error {
	body, _, err := r.Bucket.Get(ctx, layout.BlobKey(d), 0)
	if err != nil {
		return err
	}
	defer body.Close()
	verifier := d.Verifier()
	n, err := io.CopyBuffer(io.MultiWriter(verifier, counter{r.progress}), onlyReader{io.LimitReader(body, size+1)}, make([]byte, 128<<10))
	if err != nil {
		return err
	}
	if n != size || !verifier.Verified() {
		return fmt.Errorf("vault %s: blob %s: %w: its bytes do not match its digest and size", r.Bucket, d, layout.ErrDamaged)
	}
	return nil
}

type onlyReader struct{ io.Reader }

// counter tells a progress what passes.
type counter struct{ p mirror.Progress }

func (c counter) Write(p []byte) (int, error) {
	c.p.Bytes(int64(len(p)))
	return len(p), nil
}

// blame names the images that a problem is in.
func (r *verify) blame() {
	for d, p := range r.problems {
		n := r.needs[d]
		if n == nil {
			continue
		}
		for _, i := range n.images {
			p.Images = append(p.Images, r.images[i])
		}
		slices.Sort(p.Images)
		p.Images = slices.Compact(p.Images)
		r.problems[d] = p
	}
}

// receipt leaves what was found in the vault.
func (r *verify) receipt(ctx context.Context, c layout.Config) error {
	id := ulid.MustNew(ulid.Timestamp(r.report.Time), ulid.DefaultEntropy()).String()
	data, err := layout.Encode(r.report)
	if err != nil {
		return err
	}
	if _, err := r.Bucket.Put(ctx, layout.DirVerified+r.report.Snapshot+"/"+id+".json", bucket.Bytes(data)); err != nil {
		return err
	}
	return r.ChangeHead(ctx, c, func(h *layout.Head) {
		for i, e := range h.Snapshots {
			if e.ID != r.report.Snapshot {
				continue
			}
			h.Snapshots[i].Verified = time.Time{}
			if len(r.report.Problems) == 0 {
				h.Snapshots[i].Verified = r.report.Time
			}
		}
		h.Damaged = r.damaged(h.Damaged)
	})
}

// damaged takes off the list what was found right and puts on it what was not.
func (r *verify) damaged(list []digest.Digest) []digest.Digest {
	set := map[digest.Digest]bool{}
	for _, d := range list {
		set[d] = true
	}
	for d := range r.seen {
		delete(set, d)
		if _, bad := r.problems[d]; bad {
			set[d] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}
