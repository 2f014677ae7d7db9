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
	list      []ocispec.Descriptor
	trees     []catalog.Tree
	referrers map[digest.Digest][]int // of a subject: which of the list
	attached  map[digest.Digest][]int // by tag to a digest: which of the list
	refers    map[int]bool            // which of the list have a subject
}

func newImages(w *catalog.Walker, list []ocispec.Descriptor, foreign map[digest.Digest]bool) *images {
	m := &images{list: list, referrers: map[digest.Digest][]int{}, attached: map[digest.Digest][]int{}, refers: map[int]bool{}}
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

// selected are the images whose tag is meant, and what is attached to them by tag
// or reference, in the order in which they may become visible: what is attached
// to others first, tags last. An image without a tag goes by the tag "".
func (m *images) selected(meant func(tag string) bool) []int {
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
	for i, desc := range m.list {
		if meant(layout.TagOf(desc)) {
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
