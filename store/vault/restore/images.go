package restore

import (
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	"lastro/store/vault/catalog"
	"lastro/store/vault/layout"
)

// images are what an index of a repository lists, and what belongs to what.
type images struct {
	walker    *catalog.Walker
	foreign   map[digest.Digest]bool
	list      []ocispec.Descriptor
	added     map[int]bool // which of the list no index has
	trees     []catalog.Tree
	referrers map[digest.Digest][]int // of a subject: which of the list
	attached  map[digest.Digest][]int // by tag to a digest: which of the list
	refers    map[int]bool            // which of the list have a subject
}

func newImages(w *catalog.Walker, list []ocispec.Descriptor, foreign map[digest.Digest]bool) *images {
	m := &images{walker: w, foreign: foreign, list: slices.Clone(list), added: map[int]bool{}, referrers: map[digest.Digest][]int{}, attached: map[digest.Digest][]int{}, refers: map[int]bool{}}
	for i, desc := range list {
		m.trees = append(m.trees, w.Tree(desc, foreign))
		if loaded := w.Loaded[desc.Digest]; loaded.Err == nil && loaded.Subject != nil {
			m.referrers[loaded.Subject.Digest] = append(m.referrers[loaded.Subject.Digest], i)
			m.refers[i] = true
		}
		if subject, ok := mirror.AttachedTag(layout.TagOf(desc)); ok {
			m.attached[subject] = append(m.attached[subject], i)
		}
	}
	return m
}

// byDigest is the image without a tag that a digest is: one that the index lists, or
// one made of what is listed with a tag or inside of an image.
func (m *images) byDigest(d digest.Digest) (i int, ok bool) {
	for i, desc := range m.list {
		if desc.Digest == d && layout.TagOf(desc) == "" {
			return i, true
		}
	}
	for i, desc := range m.list {
		if desc.Digest == d {
			return m.addOne(layout.NewImage(desc, "", layout.AbsentOf(desc))), true
		}
		for _, manifest := range m.trees[i].Manifests {
			if manifest.Descriptor.Digest == d {
				return m.addOne(layout.NewImage(manifest.Descriptor, "", layout.AbsentOf(desc))), true
			}
		}
	}
	return 0, false
}

// addOne adds an image. Of what it leaves out only that counts which is in it.
func (m *images) addOne(desc ocispec.Descriptor) int {
	i := len(m.list)
	var absent []digest.Digest
	for _, manifest := range m.walker.Tree(desc, m.foreign).Manifests {
		for child := range manifest.Children() {
			if slices.Contains(layout.AbsentOf(desc), child.Digest) {
				absent = append(absent, child.Digest)
			}
		}
	}
	desc = layout.NewImage(desc, "", absent)
	m.list, m.trees = append(m.list, desc), append(m.trees, m.walker.Tree(desc, m.foreign))
	m.added[i], m.refers[i] = true, m.walker.Loaded[desc.Digest].Subject != nil
	return i
}

// closure is an image with all its referrers.
type closure struct {
	catalog.Tree
	absent []digest.Digest
	seen   map[digest.Digest]bool
}

// closure puts each referrer after its subject. What is broken in a referrer breaks
// the image: it is part of it.
func (m *images) closure(i int) closure {
	all := closure{seen: map[digest.Digest]bool{}}
	m.add(&all, i)
	return all
}

func (m *images) add(all *closure, i int) {
	t := m.trees[i]
	all.absent = append(all.absent, layout.AbsentOf(m.list[i])...)
	all.Faults = append(all.Faults, t.Faults...)
	var fresh []digest.Digest
	for _, manifest := range t.Manifests {
		if d := manifest.Descriptor.Digest; !all.seen[d] {
			all.seen[d] = true
			fresh = append(fresh, d)
			all.Manifests = append(all.Manifests, manifest)
		}
	}
	all.Blobs = append(all.Blobs, t.Blobs...)
	for _, d := range fresh {
		for _, referrer := range m.referrers[d] {
			m.add(all, referrer)
		}
	}
}

// selected are the images that are meant, and what is attached to them by tag
// or reference, in the order in which they may become visible: what is attached
// to others first, tags last.
func (m *images) selected(meant func(i int) bool) []int {
	chosen := map[int]bool{}
	var choose func(i int)
	choose = func(i int) {
		if chosen[i] {
			return
		}
		chosen[i] = true
		for _, manifest := range m.trees[i].Manifests {
			for _, j := range slices.Concat(m.attached[manifest.Descriptor.Digest], m.referrers[manifest.Descriptor.Digest]) {
				choose(j)
			}
		}
	}
	for i := range m.list {
		if meant(i) {
			choose(i)
		}
	}
	var order []int
	for rank := range 4 {
		for i := range m.list {
			if chosen[i] && m.rank(i) == rank {
				order = append(order, i)
			}
		}
	}
	return order
}

// rank orders publications: digests without a subject, then those with one, then
// tags that attach something, then tags.
func (m *images) rank(i int) int {
	tag := layout.TagOf(m.list[i])
	if _, attached := mirror.AttachedTag(tag); attached {
		return 2
	}
	switch {
	case tag != "":
		return 3
	case m.refers[i]:
		return 1
	}
	return 0
}
