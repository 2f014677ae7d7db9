package drill

import (
	"context"
	"math/rand/v2"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	"lastro/store/vault/catalog"
	"lastro/store/vault/layout"
	"lastro/store/vault/restore"
)

// tries is how many repositories are looked at for one for which there is room.
const tries = 5

// sample is what was chosen.
type sample struct {
	whole string                     // a repository
	tags  map[string]map[string]bool // of others
}

// patterns say the same to a restore.
func (s sample) patterns() (list []string) {
	if s.whole != "" {
		list = append(list, s.whole)
	}
	return append(list, s.images()...)
}

func (s sample) images() []string {
	list := []string{}
	for repo, tags := range s.tags {
		for tag := range tags {
			list = append(list, repo+":"+tag)
		}
	}
	slices.Sort(list)
	return list
}

func (s sample) has(repo, tag string) bool { return repo == s.whole || s.tags[repo][tag] }

// choose makes the sample: images first, because they are fewer.
func (d *drill) choose(ctx context.Context) error {
	root, err := d.Index(ctx, d.record.Root)
	if err != nil {
		return err
	}
	room, err := d.scratch.Room(ctx)
	if err != nil {
		return err
	}
	d.sample.tags = map[string]map[string]bool{}
	for range d.o.Images {
		if err := d.chooseImage(ctx, root.Manifests, room/2); err != nil {
			return err
		}
	}
	for _, desc := range someOf(d.o.Rand, root.Manifests, tries) {
		fits, err := d.fits(ctx, sample{repositoryOf(desc), d.sample.tags}, room/2)
		if err != nil {
			return err
		}
		if fits {
			d.sample.whole = repositoryOf(desc)
			break
		}
		d.report.LeftOut = append(d.report.LeftOut, repositoryOf(desc))
	}
	delete(d.sample.tags, d.sample.whole)
	d.report.Repository, d.report.Images = d.sample.whole, d.sample.images()
	return nil
}

// chooseImage takes an image that people name, each with about the same odds: of a
// repository with many images more often.
func (d *drill) chooseImage(ctx context.Context, repos []ocispec.Descriptor, room int64) error {
	if len(repos) == 0 {
		return nil
	}
	desc := weighted(d.o.Rand, repos)
	repo := repositoryOf(desc)
	list, err := d.images(ctx, desc)
	if err != nil {
		return err
	}
	var tags []string
	for _, img := range list {
		tag := layout.TagOf(img)
		if _, attached := mirror.AttachedTag(tag); tag != "" && !attached && !d.sample.tags[repo][tag] {
			tags = append(tags, tag)
		}
	}
	if len(tags) == 0 {
		return nil
	}
	tag := tags[d.o.Rand.IntN(len(tags))]
	if d.sample.tags[repo] == nil {
		d.sample.tags[repo] = map[string]bool{}
	}
	d.sample.tags[repo][tag] = true
	fits, err := d.fits(ctx, d.sample, room)
	if !fits {
		delete(d.sample.tags[repo], tag)
		d.report.LeftOut = append(d.report.LeftOut, repo+":"+tag)
	}
	return err
}

// fits reports whether there is room for a sample.
func (d *drill) fits(ctx context.Context, s sample, room int64) (bool, error) {
	plan, err := restore.Prepare(ctx, d.Catalog, d.scratch, restore.Options{Snapshot: d.record.ID, Patterns: s.patterns()})
	return err == nil && plan.Bytes <= room, err
}

// images is what the snapshot has of a repository.
func (d *drill) images(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	repo := repositoryOf(desc)
	if list, known := d.indexes[repo]; known {
		return list, nil
	}
	idx, err := d.Index(ctx, desc)
	if err == nil {
		d.indexes[repo] = idx.Manifests
	}
	return idx.Manifests, err
}

func repositoryOf(desc ocispec.Descriptor) string {
	return desc.Annotations[layout.AnnotationRepository]
}

// weighted takes one by its size.
func weighted(r *rand.Rand, list []ocispec.Descriptor) ocispec.Descriptor {
	total := int64(0)
	for _, desc := range list {
		total += max(desc.Size, 1)
	}
	at := r.Int64N(total)
	for _, desc := range list {
		if at -= max(desc.Size, 1); at < 0 {
			return desc
		}
	}
	return list[len(list)-1]
}

// someOf takes up to n of a list, in any order.
func someOf(r *rand.Rand, list []ocispec.Descriptor, n int) []ocispec.Descriptor {
	list = slices.Clone(list)
	r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list[:min(n, len(list))]
}

// foreign are the layers with a home elsewhere that the snapshot keeps.
func (d *drill) foreign() func(r mirror.Ref) bool {
	kept := catalog.Foreign(d.record)
	return func(r mirror.Ref) bool { return kept[r.Digest] }
}
