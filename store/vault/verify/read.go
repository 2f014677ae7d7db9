package verify

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"lastro/mirror"
	"lastro/store/vault/catalog"
	"lastro/store/vault/layout"
)

// snapshot reads the record, the history and the root of one.
func (r *verify) snapshot(ctx context.Context, e layout.Entry) error {
	s := &snapshot{entry: e, own: []digest.Digest{e.Digest}, versions: map[*version]bool{}}
	s.report = Report{Format: r.Format(), Vault: r.Name, Snapshot: e.ID, Time: r.Now().UTC(), Problems: []Problem{}}
	r.snapshots = append(r.snapshots, s)
	err := r.mend(ctx, recordOf(e), func() (err error) {
		s.record, err = r.Trusted(ctx, e)
		return err
	})
	if err != nil {
		return r.found(e.Digest, err)
	}
	record := s.record
	for _, g := range record.History.Segments {
		s.own = append(s.own, g.Digest)
		if err := r.segment(ctx, g); err != nil {
			return err
		}
	}
	if err := r.beside(ctx, s); err != nil {
		return err
	}
	s.root = r.need(record.Root, nil)
	root, err := r.rootIndex(ctx, record.Root)
	for _, desc := range root.Manifests {
		s.versions[r.version(record, desc)] = true
	}
	return err
}

// beside reads what a snapshot has of state and configuration.
func (r *verify) beside(ctx context.Context, s *snapshot) error {
	if l := s.record.State; l != nil && r.first(s, l) {
		err := r.mend(ctx, small(l.Digest, l.Size), func() error {
			_, err := r.State(ctx, s.record)
			return err
		})
		if err := r.found(l.Digest, err); err != nil {
			return err
		}
	}
	if l := s.record.Config; l != nil && r.first(s, l) {
		return r.found(l.Digest, r.mend(ctx, small(l.Digest, l.Size), func() error {
			_, err := r.Configuration(ctx, s.record)
			return err
		}))
	}
	return nil
}

// first reports whether a content beside the images was not read yet.
func (r *verify) first(s *snapshot, l *layout.Layer) bool {
	s.own = append(s.own, l.Digest)
	known := r.sides[l.Digest]
	r.sides[l.Digest] = true
	return !known
}

func (r *verify) segment(ctx context.Context, g layout.Segment) error {
	if r.segments[g] {
		return nil
	}
	r.segments[g] = true
	return r.found(g.Digest, r.mend(ctx, small(g.Digest, g.Size), func() error {
		_, err := r.Events(ctx, g)
		return err
	}))
}

func (r *verify) rootIndex(ctx context.Context, desc ocispec.Descriptor) (ocispec.Index, error) {
	idx, known := r.roots[desc.Digest]
	if known {
		return idx, nil
	}
	idx, err := r.ours(ctx, desc)
	r.roots[desc.Digest] = idx
	return idx, err
}

// ours reads an index of ours.
func (r *verify) ours(ctx context.Context, desc ocispec.Descriptor) (ocispec.Index, error) {
	r.need(desc, nil).proof = read
	var idx ocispec.Index
	err := r.mend(ctx, small(desc.Digest, desc.Size), func() (err error) {
		idx, err = r.Index(ctx, desc)
		return err
	})
	return idx, r.found(desc.Digest, err)
}

// version is the repository that an index describes, the same one for all snapshots
// that have it so.
func (r *verify) version(s layout.Snapshot, desc ocispec.Descriptor) *version {
	repo := desc.Annotations[layout.AnnotationRepository]
	for _, v := range r.repos[repo] {
		if v.index.Digest == desc.Digest && slices.Equal(v.of.Foreign, s.Foreign) {
			return v
		}
	}
	v := &version{repo: repo, index: desc, of: s}
	r.repos[repo] = append(r.repos[repo], v)
	return v
}

func (r *verify) need(desc ocispec.Descriptor, img *image) *need {
	n := r.needs[desc.Digest]
	if n == nil {
		n = &need{digest: desc.Digest, size: desc.Size}
		r.needs[desc.Digest] = n
	}
	if img != nil {
		n.images = append(n.images, img)
		img.in.needs = append(img.in.needs, n)
	}
	return n
}

// repositories reads all manifests, repository by repository.
func (r *verify) repositories(ctx context.Context) error {
	for _, repo := range slices.Sorted(maps.Keys(r.repos)) {
		w := r.walker(repo)
		indexes := map[digest.Digest]ocispec.Index{}
		for _, v := range r.repos[repo] {
			idx, known := indexes[v.index.Digest]
			if !known {
				var err error
				if idx, err = r.ours(ctx, v.index); err != nil {
					return err
				}
				indexes[v.index.Digest] = idx
			}
			if err := r.manifests(ctx, w, v, idx); err != nil {
				return err
			}
		}
	}
	return nil
}

// walker reads manifests of a repository.
func (r *verify) walker(repo string) *catalog.Walker {
	return r.Walker(func(ctx context.Context, desc ocispec.Descriptor) (m mirror.Manifest, err error) {
		err = r.mend(ctx, manifestOf(repo, desc), func() (err error) {
			m, _, err = r.Manifest(ctx, desc)
			return err
		})
		return m, err
	})
}

// manifests reads those of one version of a repository that were not read yet, and
// takes down what they need.
func (r *verify) manifests(ctx context.Context, w *catalog.Walker, v *version, idx ocispec.Index) error {
	v.needs = append(v.needs, r.need(v.index, nil))
	if err := w.Load(ctx, idx.Manifests); err != nil {
		return err
	}
	foreign := catalog.Foreign(v.of)
	for _, top := range idx.Manifests {
		img := &image{fullName(v.repo, top), v}
		if err := r.tree(w.Tree(top, foreign), img); err != nil {
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

func (r *verify) tree(t catalog.Tree, img *image) error {
	for _, f := range t.Faults {
		r.need(ocispec.Descriptor{Digest: f.Digest}, img).proof = read
		if err := r.found(f.Digest, f.Err); err != nil {
			return err
		}
	}
	for _, m := range t.Manifests {
		r.need(m.Descriptor, img).proof = read
	}
	for _, blob := range t.Blobs {
		r.need(blob, img)
	}
	return nil
}

// hashAll hashes all blobs, many at once.
func (r *verify) hashAll(ctx context.Context) error {
	var bytes int64
	todo := slices.DeleteFunc(slices.Sorted(maps.Keys(r.needs)), func(d digest.Digest) bool { return r.needs[d].proof != unproven || !r.meant(d) })
	for _, d := range todo {
		bytes += r.needs[d].size
		r.needs[d].proof = read
	}
	r.progress.Plan(len(todo), bytes)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(catalog.AtOnce)
	for _, d := range todo {
		g.Go(func() error {
			n := r.needs[d]
			err := r.mend(gctx, n.blob(), func() error { return r.hash(gctx, d, n.size) })
			r.progress.Done(d.String(), err)
			return r.found(d, err)
		})
	}
	return g.Wait()
}

func (r *verify) hash(ctx context.Context, d digest.Digest, size int64) error {
	body, _, err := r.OpenBlob(ctx, d, 0)
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
