package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	disk "lastro/store/layout"
	"lastro/store/ledger"
	"lastro/store/vault/catalog"
	"lastro/store/vault/layout"
)

// Store is the local registry as a restore needs it. *store.Store implements it.
type Store interface {
	mirror.Destination
	Ledger() *ledger.Ledger
}

// Options say what to bring back. The zero value is all of the newest snapshot.
type Options struct {
	Snapshot string    // "" or "latest", an id, or the start of one
	AsOf     time.Time // not zero: the newest snapshot that is not after this
	Patterns []string  // repositories, repository:tag, repository@digest or a digest; none: all
	Force    bool      // also over local tags that are newer
	By       string    // for the events
}

// Plan is what a restore would do.
type Plan struct {
	Snapshot  string            `json:"snapshot"`
	To        string            `json:"to,omitempty"` // where it copies to; "": into this registry
	Time      time.Time         `json:"time"`
	Images    []Image           `json:"images"`
	Unchanged int               `json:"unchanged"` // tags that are already so
	Blobs     int               `json:"blobs"`     // to be fetched
	Bytes     int64             `json:"bytes"`
	Requests  int64             `json:"requests"`      // to the vault, the same ones as for this plan among them
	Seconds   float64           `json:"takes_seconds"` // a guess, from how fast the vault answered just now
	Failed    []catalog.Failure `json:"failed"`

	record layout.Snapshot
	repos  []repositoryPlan
	reads  int64                // contents that are read after the plan
	large  []ocispec.Descriptor // of them, the largest
}

// Image is an image that a restore would bring back.
type Image struct {
	Repo     string        `json:"repo"`
	Tag      string        `json:"tag,omitempty"`
	Digest   digest.Digest `json:"digest"`
	Previous digest.Digest `json:"previous,omitempty"` // where the tag points now
}

// repositoryPlan is what is to be done in one repository, in order.
type repositoryPlan struct {
	name  string
	index ocispec.Descriptor
	whole bool // all images of the snapshot are selected and can be read
	units []unit
	fetch []ocispec.Descriptor   // contents that the store does not have
	all   map[digest.Digest]bool // everything below
}

// unit is what one publication makes visible: an image with its referrers.
type unit struct {
	desc      ocispec.Descriptor
	manifests []mirror.Manifest
	blobs     []digest.Digest
	absent    []digest.Digest
}

// attached says that the unit is only part of another image: a referrer, or what
// a tag attaches.
func (u unit) attached() bool {
	_, byTag := mirror.AttachedTag(layout.TagOf(u.desc))
	return byTag || slices.ContainsFunc(u.manifests, func(m mirror.Manifest) bool {
		return m.Descriptor.Digest == u.desc.Digest && m.Subject != nil
	})
}

// Prepare tells what Run would do. It reads the manifests that the store does not
// have, and changes nothing.
func Prepare(ctx context.Context, c *catalog.Catalog, st Store, o Options) (Plan, error) {
	p := &planner{Catalog: c, st: st, o: o, sparing: true, wanted: map[digest.Digest]bool{}}
	err := p.run(ctx)
	p.plan.reads = p.plan.later()
	return p.plan, err
}

// later is how many requests follow a plan: what is fetched, the history, and a last
// look at what the vault is by then.
func (p *Plan) later() int64 {
	fetch := map[digest.Digest]bool{}
	for _, r := range p.repos {
		for _, desc := range r.fetch {
			fetch[desc.Digest] = true
		}
	}
	const look = 2
	return int64(len(fetch) + len(p.record.History.Segments) + look)
}

// planner makes a plan. keep, if set, takes manifests into the store as they are
// read: all of a repository, if the planner is not sparing.
type planner struct {
	*catalog.Catalog
	st      Store
	o       Options
	keep    func(ctx context.Context, desc ocispec.Descriptor, raw []byte) error
	sparing bool // keep only what is chosen, which costs reading it twice
	choose  selection
	wanted  map[digest.Digest]bool // counted already
	moments map[name][]moment      // of all tags in the snapshot's history; nil: not read yet
	plan    Plan
}

func (p *planner) run(ctx context.Context) error { return p.each(ctx, p.repository) }

// each finds the snapshot and calls do for each repository of it that is meant.
func (p *planner) each(ctx context.Context, do func(ctx context.Context, repo string, desc ocispec.Descriptor) error) (err error) {
	p.plan.Images, p.plan.Failed = []Image{}, []catalog.Failure{}
	if p.choose, err = newSelection(p.o.Patterns); err != nil {
		return err
	}
	s, err := p.Find(ctx, p.o.Snapshot, p.o.AsOf)
	if err != nil {
		return err
	}
	p.plan.record, p.plan.Snapshot, p.plan.Time = s, s.ID, s.Created
	root, err := p.Index(ctx, s.Root)
	if err != nil {
		return err
	}
	for _, desc := range root.Manifests {
		repo := desc.Annotations[layout.AnnotationRepository]
		if !p.choose.repository(repo) {
			continue
		}
		if err := do(ctx, repo, desc); err != nil {
			return err
		}
	}
	return p.unused()
}

// unused fails what was named and is nowhere in the snapshot.
func (p *planner) unused() error {
	names, all := p.choose.unused()
	if all {
		return fmt.Errorf("no image of snapshot %s is meant by %s: see `lastro backup show %s`", p.plan.Snapshot, strings.Join(names, ", "), p.plan.Snapshot)
	}
	for _, name := range names {
		p.plan.Failed = append(p.plan.Failed, catalog.Failure{Repo: name, Error: "no image of the snapshot is meant by it"})
	}
	return nil
}

// load reads the index of a repository, and by read the manifests below it. What
// cannot be read there fails its images, not the rest: nil.
func (p *planner) load(ctx context.Context, repo string, desc ocispec.Descriptor, read func(context.Context, ocispec.Descriptor) (mirror.Manifest, error)) (*images, error) {
	idx, err := p.Index(ctx, desc)
	if err == nil && disk.CheckRepository(repo) != nil {
		err = fmt.Errorf("%w: %w", layout.ErrDamaged, disk.CheckRepository(repo))
	}
	if _, bad := catalog.Damage(err); bad {
		p.plan.Failed = append(p.plan.Failed, catalog.Failure{Repo: repo, Digest: desc.Digest, Error: err.Error()})
		p.choose.unknown(repo)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	w := p.Walker(read)
	if err := w.Load(ctx, idx.Manifests); err != nil {
		return nil, err
	}
	return newImages(w, idx.Manifests, catalog.Foreign(p.plan.record)), nil
}

// repository plans one.
func (p *planner) repository(ctx context.Context, repo string, desc ocispec.Descriptor) error {
	read := p.read
	if p.spares(repo) {
		read = p.look
	}
	images, err := p.load(ctx, repo, desc, read)
	if err != nil || images == nil {
		return err
	}
	r := repositoryPlan{name: repo, index: desc, all: map[digest.Digest]bool{}}
	listed := len(images.list)
	selected := p.choose.from(images, repo)
	r.whole = len(selected) == listed && len(images.list) == listed
	for _, i := range selected {
		if err := p.image(ctx, &r, images, i); err != nil {
			return err
		}
	}
	p.plan.repos = append(p.plan.repos, r)
	return nil
}

// spares tells whether manifests of a repository are fetched when they are chosen.
func (p *planner) spares(repo string) bool { return p.sparing && !p.choose.all(repo) }

// look reads a manifest, from the store if that has it.
func (p *planner) look(ctx context.Context, desc ocispec.Descriptor) (mirror.Manifest, error) {
	return p.ManifestNear(ctx, p.st, desc)
}

// read is look, and keeps what it reads.
func (p *planner) read(ctx context.Context, desc ocispec.Descriptor) (mirror.Manifest, error) {
	if p.keep == nil {
		return p.look(ctx, desc)
	}
	if has, err := p.st.Has(ctx, desc); err == nil && has {
		return p.look(ctx, desc)
	}
	m, raw, err := p.Manifest(ctx, desc)
	if err == nil {
		err = p.keep(ctx, desc, raw)
	}
	return m, err
}

// image plans one image, with its referrers.
func (p *planner) image(ctx context.Context, r *repositoryPlan, images *images, i int) error {
	top := images.list[i]
	t := images.closure(i)
	f := catalog.Failure{Repo: r.name, Tag: layout.TagOf(top), Digest: top.Digest}
	if sound, err := p.sound(r, f, t); err != nil || !sound {
		return err
	}
	previous, ok, err := p.mayMove(ctx, r.name, top)
	if err != nil {
		return err
	}
	if !ok {
		f.Error = fmt.Sprintf("the local tag points at %s since a later time: restore with force to put it back", previous)
		p.fail(r, f)
		return nil
	}
	if previous == top.Digest {
		p.plan.Unchanged++
	}
	p.plan.Images = append(p.plan.Images, Image{r.name, f.Tag, top.Digest, previous})
	return p.contents(ctx, r, top, t)
}

// sound fails an image that is not whole in the vault.
func (p *planner) sound(r *repositoryPlan, f catalog.Failure, t closure) (bool, error) {
	err := faultOf(f.Tag, t)
	if err == nil {
		return true, nil
	}
	_, ours := errors.AsType[*storeError](err)
	if _, bad := catalog.Damage(err); ours || !bad {
		return false, err
	}
	f.Error = err.Error()
	p.fail(r, f)
	return false, nil
}

// faultOf is why an image cannot be restored from the vault.
func faultOf(tag string, t closure) error {
	if len(t.Faults) > 0 {
		return t.Faults[0].Err
	}
	if tag != "" && disk.CheckTag(tag) != nil {
		return fmt.Errorf("%w: %w", layout.ErrDamaged, disk.CheckTag(tag))
	}
	return nil
}

func (p *planner) fail(r *repositoryPlan, f catalog.Failure) {
	r.whole = false
	p.plan.Failed = append(p.plan.Failed, f)
}

// contents takes down what an image needs and what of it is to be fetched.
func (p *planner) contents(ctx context.Context, r *repositoryPlan, top ocispec.Descriptor, t closure) error {
	u := unit{desc: top, manifests: t.Manifests, absent: t.absent}
	for _, m := range t.Manifests {
		again := r.all[m.Descriptor.Digest]
		r.all[m.Descriptor.Digest] = true
		missing, err := p.missing(ctx, m.Descriptor)
		if err != nil {
			return err
		}
		if !missing || !p.spares(r.name) {
			continue
		}
		u.blobs = append(u.blobs, m.Descriptor.Digest)
		if !again {
			r.fetch = append(r.fetch, m.Descriptor)
		}
	}
	for _, blob := range t.Blobs {
		u.blobs = append(u.blobs, blob.Digest)
		if r.all[blob.Digest] {
			continue
		}
		r.all[blob.Digest] = true
		missing, err := p.missing(ctx, blob)
		if err != nil {
			return err
		}
		if missing {
			r.fetch = append(r.fetch, blob)
		}
	}
	r.units = append(r.units, u)
	return nil
}

// missing counts a content that the store does not have, once.
func (p *planner) missing(ctx context.Context, desc ocispec.Descriptor) (bool, error) {
	if p.wanted[desc.Digest] {
		return true, nil
	}
	has, err := p.st.Has(ctx, desc)
	if err != nil || has {
		return false, err
	}
	p.wanted[desc.Digest] = true
	p.plan.add(desc)
	return true, nil
}

// mayMove tells where the local tag points, and whether it may be moved: not when
// it came to point elsewhere after it had come to point where the snapshot has it.
func (p *planner) mayMove(ctx context.Context, repo string, top ocispec.Descriptor) (previous digest.Digest, ok bool, err error) {
	tag := layout.TagOf(top)
	if tag == "" {
		return "", true, nil
	}
	previous, err = p.st.Resolve(ctx, repo, tag)
	if errors.Is(err, fs.ErrNotExist) {
		return "", true, nil
	}
	if err != nil || previous == top.Digest || p.o.Force {
		return previous, true, err
	}
	local, err := p.st.Ledger().Tag(ctx, repo, tag)
	if err != nil {
		return previous, false, nil //nolint:nilerr // unknown since when: doubt keeps
	}
	since, err := p.tagSince(ctx, name{repo, tag}, top.Digest)
	return previous, !local.Since.After(since), err
}
