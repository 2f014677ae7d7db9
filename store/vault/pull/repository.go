package pull

import (
	"maps"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	disk "lastro/store/layout"
	"lastro/store/vault/catalog"
	"lastro/store/vault/layout"
)

// repository is what is known of a repository of the snapshot.
type repository struct {
	name   string
	images []ocispec.Descriptor
	tags   map[string]ocispec.Descriptor
	names  []string // of tags, in order

	mu        sync.Mutex
	manifests map[digest.Digest]known
	blobs     map[digest.Digest]ocispec.Descriptor
	walked    bool // all is known
	referrers map[digest.Digest][]ocispec.Descriptor
}

// known is a manifest below images that leave out these.
type known struct {
	desc   ocispec.Descriptor
	absent []string
}

func newRepository(name string, images []ocispec.Descriptor) *repository {
	r := &repository{name: name, images: images, tags: map[string]ocispec.Descriptor{},
		manifests: map[digest.Digest]known{}, blobs: map[digest.Digest]ocispec.Descriptor{}}
	for _, desc := range images {
		if tag := layout.TagOf(desc); disk.CheckTag(tag) == nil {
			r.tags[tag] = desc
		}
		r.meet(desc, desc.Annotations[layout.AnnotationAbsent])
	}
	r.names = slices.Sorted(maps.Keys(r.tags))
	return r
}

// meet takes down that the repository serves a manifest. The caller holds mu, or
// nobody else has r yet.
func (r *repository) meet(desc ocispec.Descriptor, absent string) {
	k, ok := r.manifests[desc.Digest]
	if !ok {
		k.desc = ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size, ArtifactType: desc.ArtifactType}
	}
	if !slices.Contains(k.absent, absent) {
		k.absent = append(k.absent, absent)
		r.manifests[desc.Digest] = k
	}
}

// manifest finds a manifest by tag or digest.
func (r *repository) manifest(ref string) (ocispec.Descriptor, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if desc, ok := r.tags[ref]; ok {
		return r.manifests[desc.Digest].desc, true
	}
	k, ok := r.manifests[digest.Digest(ref)]
	return k.desc, ok
}

func (r *repository) blob(d digest.Digest) (ocispec.Descriptor, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	desc, ok := r.blobs[d]
	return desc, ok
}

func (r *repository) whole() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.walked
}

// learn takes down what a manifest refers to, and says how much of it was new.
func (r *repository) learn(m mirror.Manifest, foreign map[digest.Digest]bool) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := len(r.manifests) + len(r.blobs)
	for _, absent := range r.manifests[m.Descriptor.Digest].absent {
		leftOut := layout.ParseAbsent(absent)
		for _, ref := range m.Refs {
			switch {
			case ref.Role != mirror.RoleChild:
				r.meetBlob(ref, foreign)
			case !slices.Contains(leftOut, ref.Digest):
				r.meet(ref.Descriptor, absent)
			}
		}
	}
	return len(r.manifests) + len(r.blobs) - before
}

func (r *repository) meetBlob(ref mirror.Ref, foreign map[digest.Digest]bool) {
	if ref.Role == mirror.RoleForeign && !foreign[ref.Digest] {
		return
	}
	if _, ok := r.blobs[ref.Digest]; !ok {
		r.blobs[ref.Digest] = ocispec.Descriptor{MediaType: ref.MediaType, Digest: ref.Digest, Size: ref.Size}
	}
}

// learnAll takes down everything that a walk has read, and the referrers.
func (r *repository) learnAll(w *catalog.Walker, foreign map[digest.Digest]bool) int {
	grown := 0
	referrers := map[digest.Digest][]ocispec.Descriptor{}
	for _, image := range r.images {
		t := w.Tree(image, foreign)
		for _, m := range slices.Backward(t.Manifests) { // parents first
			grown += r.learn(m, foreign)
		}
	}
	for d, k := range r.known() {
		m := w.Loaded[d]
		if m.Err != nil || m.Subject == nil {
			continue
		}
		k.desc.ArtifactType, k.desc.Annotations = m.Descriptor.ArtifactType, m.Annotations
		referrers[m.Subject.Digest] = append(referrers[m.Subject.Digest], k.desc)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.walked, r.referrers = true, referrers
	return grown
}

func (r *repository) known() map[digest.Digest]known {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.manifests)
}
