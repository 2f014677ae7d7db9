package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"lastro/mirror"
	"lastro/store/vault/catalog"
	"lastro/store/vault/layout"
)

// Target is where images are copied to: another registry, or a folder. Its methods
// may be called from many goroutines. An error with a method Refused that returns
// true is of this one content or image, and leaves the others.
type Target interface {
	// String is where it is.
	String() string
	// Resolve returns what a tag points at there; fs.ErrNotExist.
	Resolve(ctx context.Context, repo, tag string) (digest.Digest, error)
	// Has reports whether a repository has a content, whole.
	Has(ctx context.Context, repo string, desc ocispec.Descriptor, manifest bool) (bool, error)
	// Blob stores a content. It calls open as often as it needs the bytes.
	Blob(ctx context.Context, repo string, desc ocispec.Descriptor, open Open) error
	// Manifest stores a manifest, all contents of which are stored.
	Manifest(ctx context.Context, repo string, desc ocispec.Descriptor, raw []byte) error
	// Publish stores a manifest as an image of its own, under a tag if that is not "".
	Publish(ctx context.Context, repo, tag string, desc ocispec.Descriptor, raw []byte) error
	// Flush makes what was published in a repository visible, where that is not so at once.
	Flush(ctx context.Context, repo string) error
}

// Open opens a content from its start. What is not right ends in an error before
// its last bytes.
type Open = func(ctx context.Context) (io.ReadCloser, error)

// repositoriesAtOnce is how many repositories are copied at the same time; one of
// the places is that of the plan.
const repositoriesAtOnce = 4 + 1

// PrepareCopy tells what Copy would do. It changes nothing.
func PrepareCopy(ctx context.Context, c *catalog.Catalog, to Target, o Options) (Plan, error) {
	x := newCopying(c, to, o, nil)
	err := x.each(ctx, func(ctx context.Context, repo string, desc ocispec.Descriptor) error {
		_, err := x.prepare(ctx, repo, desc)
		return err
	})
	return x.plan, err
}

// Copy brings images of a snapshot to a target, without their history, which only a
// registry of ours has a place for. Every byte is checked against its digest on its
// way, what is there is not sent again, and an image's name comes last. Over a name
// that is something else there it goes only by force. What fails, fails alone, and
// is in the report. Interrupted or repeated it goes on where it was. progress may
// not be nil.
func Copy(ctx context.Context, c *catalog.Catalog, to Target, o Options, progress mirror.Progress) (Report, error) {
	x := newCopying(c, to, o, progress)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(repositoriesAtOnce)
	g.Go(func() error {
		return x.each(ctx, func(ctx context.Context, repo string, desc ocispec.Descriptor) error {
			blobs, bytes := x.plan.Blobs, x.plan.Bytes
			r, err := x.prepare(ctx, repo, desc)
			if err != nil {
				return err
			}
			progress.Plan(x.plan.Blobs-blobs, x.plan.Bytes-bytes)
			g.Go(func() error { return x.repository(ctx, r) })
			return nil
		})
	})
	err := g.Wait()
	x.report.Snapshot, x.report.Time = x.plan.Snapshot, x.plan.Time
	x.report.Failed = append(x.plan.Failed, x.report.Failed...)
	return x.report, err
}

// copying is one run of Copy.
type copying struct {
	planner
	to       Target
	progress mirror.Progress
	slots    chan struct{} // one for each blob on its way

	mu      sync.Mutex
	turns   map[digest.Digest]*sync.Mutex // of those who bring a blob, to wherever
	counted map[digest.Digest]bool        // in the report
	report  Report
}

func newCopying(c *catalog.Catalog, to Target, o Options, progress mirror.Progress) *copying {
	x := &copying{to: to, progress: progress, slots: make(chan struct{}, catalog.AtOnce), turns: map[digest.Digest]*sync.Mutex{}, counted: map[digest.Digest]bool{}}
	x.planner = planner{Catalog: c, o: o, wanted: map[digest.Digest]bool{}}
	x.plan.Failed, x.plan.To, x.report.To = []catalog.Failure{}, to.String(), to.String()
	return x
}

// copyPlan is what is to be done in one repository.
type copyPlan struct {
	repositoryPlan
	now   map[string]digest.Digest // where tags are there
	lacks map[digest.Digest]bool   // manifests that are to be sent
}

func (x *copying) readManifest(ctx context.Context, desc ocispec.Descriptor) (mirror.Manifest, error) {
	m, _, err := x.Manifest(ctx, desc)
	return m, err
}

// prepare plans one repository.
func (x *copying) prepare(ctx context.Context, repo string, desc ocispec.Descriptor) (copyPlan, error) {
	r := copyPlan{repositoryPlan{name: repo, all: map[digest.Digest]bool{}}, map[string]digest.Digest{}, map[digest.Digest]bool{}}
	m, err := x.load(ctx, repo, desc, x.readManifest)
	if err != nil || m == nil {
		return r, err
	}
	selected := x.choose.from(m, repo)
	if err = x.resolve(ctx, &r, m, selected); err == nil {
		for _, i := range selected {
			if err = x.image(&r, m, i); err != nil {
				return r, err
			}
		}
		err = x.look(ctx, &r)
	}
	if refused(err) {
		x.fail(&r.repositoryPlan, catalog.Failure{Repo: repo, Digest: desc.Digest, Error: err.Error()})
		return copyPlan{}, nil
	}
	return r, err
}

// refused tells an error about one thing from one about the target.
func refused(err error) bool {
	var r interface{ Refused() bool }
	return errors.As(err, &r) && r.Refused()
}

// resolve learns where the tags are.
func (x *copying) resolve(ctx context.Context, r *copyPlan, m *images, selected []int) error {
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(catalog.AtOnce)
	for _, i := range selected {
		tag := layout.TagOf(m.list[i])
		if tag == "" || faultOf(tag, m.closure(i)) != nil {
			continue
		}
		g.Go(func() error {
			d, err := x.to.Resolve(ctx, r.name, tag)
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			r.now[tag] = d
			return err
		})
	}
	return g.Wait()
}

// image plans one image.
func (x *copying) image(r *copyPlan, m *images, i int) error {
	top := m.list[i]
	t := m.closure(i)
	f := catalog.Failure{Repo: r.name, Tag: layout.TagOf(top), Digest: top.Digest}
	if sound, err := x.sound(&r.repositoryPlan, f, t); err != nil || !sound {
		return err
	}
	previous := r.now[f.Tag]
	if previous != "" && previous != top.Digest && !x.o.Force {
		f.Error = fmt.Sprintf("the tag points at %s there: restore with force to move it", previous)
		x.fail(&r.repositoryPlan, f)
		return nil
	}
	if previous == top.Digest {
		x.plan.Unchanged++
	}
	x.plan.Images = append(x.plan.Images, Image{r.name, f.Tag, top.Digest, previous})
	u := unit{desc: top, manifests: t.Manifests}
	for _, b := range t.Blobs {
		u.blobs = append(u.blobs, b.Digest)
		if !r.all[b.Digest] {
			r.all[b.Digest] = true
			r.fetch = append(r.fetch, b)
		}
	}
	r.units = append(r.units, u)
	return nil
}

// look finds out what of the images is not there.
func (x *copying) look(ctx context.Context, r *copyPlan) error {
	var mu sync.Mutex
	var missing []ocispec.Descriptor
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(catalog.AtOnce)
	ask := func(desc ocispec.Descriptor, manifest bool) {
		g.Go(func() error {
			has, err := x.to.Has(ctx, r.name, desc, manifest)
			if err != nil || has {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			if manifest {
				r.lacks[desc.Digest] = true
			} else {
				missing = append(missing, desc)
			}
			x.count(desc)
			return nil
		})
	}
	asked := map[digest.Digest]bool{}
	for _, u := range r.units {
		for _, m := range u.manifests {
			if d := m.Descriptor.Digest; !asked[d] {
				asked[d] = true
				ask(m.Descriptor, true)
			}
		}
	}
	for _, b := range r.fetch {
		ask(b, false)
	}
	err := g.Wait()
	r.fetch = missing
	return err
}

// count counts what is to be fetched, each content once.
func (x *copying) count(desc ocispec.Descriptor) {
	if !x.wanted[desc.Digest] {
		x.wanted[desc.Digest] = true
		x.plan.add(desc)
		x.plan.reads++
	}
}
