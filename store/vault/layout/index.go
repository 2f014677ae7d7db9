package layout

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Annotations of our own, in the indexes that we write.
const (
	AnnotationRepository = "lastro.repository" // on an index of a repository, and on its descriptor
	AnnotationAbsent     = "lastro.absent"     // on an image: what a platform filter left out of it
	annotationContainerd = "io.containerd.image.name"
)

// MaxIndex is the size of the largest index of ours that is read.
const MaxIndex = 64 << 20

// NewImage describes an image as the index of its repository lists it: with its tag,
// "" for none, and what a platform filter left out of it.
func NewImage(desc ocispec.Descriptor, tag string, absent []digest.Digest) ocispec.Descriptor {
	desc.Annotations = map[string]string{}
	if tag != "" {
		desc.Annotations[ocispec.AnnotationRefName] = tag
	}
	if len(absent) > 0 {
		names := make([]string, len(absent))
		for i, d := range absent {
			names[i] = d.String()
		}
		slices.Sort(names)
		desc.Annotations[AnnotationAbsent] = strings.Join(names, ",")
	}
	return desc
}

// TagOf is the tag of an image that the index of its repository lists, "" for none.
func TagOf(desc ocispec.Descriptor) string { return desc.Annotations[ocispec.AnnotationRefName] }

// AbsentOf is what a platform filter left out of an image.
func AbsentOf(desc ocispec.Descriptor) []digest.Digest {
	return ParseAbsent(desc.Annotations[AnnotationAbsent])
}

// ParseAbsent reads AnnotationAbsent. What is no digest in it is left out.
func ParseAbsent(text string) (absent []digest.Digest) {
	for name := range strings.SplitSeq(text, ",") {
		if d := digest.Digest(name); CheckDigest(d) == nil {
			absent = append(absent, d)
		}
	}
	return absent
}

// Compare orders images: tags first, by name, then digests.
func Compare(a, b ocispec.Descriptor) int {
	x, y := TagOf(a), TagOf(b)
	if (x == "") != (y == "") {
		return strings.Compare(y, x)
	}
	return cmp.Or(strings.Compare(x, y), cmp.Compare(a.Digest, b.Digest))
}

// Repository is what a snapshot holds of one repository.
type Repository struct {
	Name   string
	Images []ocispec.Descriptor // ordered by Compare
}

// Document is bytes of ours with the descriptor that names them.
type Document struct {
	Desc ocispec.Descriptor
	Data []byte
}

func newIndex(manifests []ocispec.Descriptor, annotations map[string]string) (Document, error) {
	data, err := json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
		Manifests: manifests, Annotations: annotations,
	})
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromBytes(data), Size: int64(len(data)), Annotations: annotations}
	return Document{desc, data}, err
}

// index is the index of the repository. The same images give the same bytes.
func (r Repository) index() (Document, error) {
	return newIndex(r.Images, map[string]string{AnnotationRepository: r.Name})
}

// Indexes returns the index of each repository that has any image, and the root
// over them.
func Indexes(repos []Repository) (root Document, each []Document, err error) {
	list := []ocispec.Descriptor{}
	for _, r := range repos {
		if len(r.Images) == 0 {
			continue
		}
		doc, err := r.index()
		if err == nil && len(doc.Data) > MaxIndex {
			err = fmt.Errorf("repository %s: its list of images has %d bytes, and could not be read back: at most %d: remove tags or back up less of it", r.Name, len(doc.Data), MaxIndex)
		}
		if err != nil {
			return Document{}, nil, err
		}
		each = append(each, doc)
		list = append(list, doc.Desc)
	}
	root, err = newIndex(list, nil)
	return root, each, err
}

// Named describes an image as an index.json of ours lists it.
func Named(desc ocispec.Descriptor, repo, tag string) ocispec.Descriptor {
	name := repo + ":" + tag
	desc.Annotations = map[string]string{ocispec.AnnotationRefName: name, annotationContainerd: name}
	return desc
}

// Flat is the index.json of the layout: all images of the snapshot, with their
// full names.
func Flat(repos []Repository) (Document, error) {
	list := []ocispec.Descriptor{}
	unnamed := map[digest.Digest]bool{}
	for _, r := range repos {
		for _, desc := range r.Images {
			if tag := TagOf(desc); tag != "" {
				desc = Named(desc, r.Name, tag)
			} else if unnamed[desc.Digest] {
				continue
			} else {
				unnamed[desc.Digest] = true
				desc.Annotations = nil
			}
			list = append(list, desc)
		}
	}
	return newIndex(list, nil)
}

// ParseIndex reads an index of ours.
func ParseIndex(data []byte) (ocispec.Index, error) {
	var idx ocispec.Index
	if err := checkDense(data); err != nil {
		return idx, err
	}
	if err := json.Unmarshal(data, &idx); err != nil {
		return ocispec.Index{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if idx.MediaType != ocispec.MediaTypeImageIndex {
		return ocispec.Index{}, fmt.Errorf("%w: not an index", ErrDamaged)
	}
	for _, desc := range idx.Manifests {
		if CheckDigest(desc.Digest) != nil || desc.Size < 0 {
			return ocispec.Index{}, fmt.Errorf("%w: lists %.100q with %d bytes", ErrDamaged, desc.Digest, desc.Size)
		}
	}
	return idx, nil
}

// Measure counts contents and takes the closure digest: SHA-256 over the sorted
// digests, each with a line feed.
func Measure(all map[digest.Digest]int64) (blobs int, bytes int64, closure digest.Digest) {
	h := sha256.New()
	for _, d := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintln(h, d)
		bytes += all[d]
	}
	return len(all), bytes, digest.NewDigest(digest.SHA256, h)
}
