package sample

import (
	"cmp"
	"encoding/json"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Options say how much is generated. The zero value is a few hundred KiB.
type Options struct {
	Seed        uint64 // another seed gives other bytes
	LayerBytes  int    // random bytes in each layer; 0: 4 KiB
	Versions    int    // version tags of apps/web; 0: 5
	NoReferrers bool   // the registry has no referrers API: every subject gets a fallback tag
}

// Content is one blob or manifest.
type Content struct {
	ocispec.Descriptor
	Raw      []byte
	Manifest bool
}

// Images is the content of a registry. One goroutine at a time may use it.
type Images struct {
	options Options
	repos   []*repository
	builds  int
}

// repository is what was put into one repository, in an order in which a
// registry takes it.
type repository struct {
	name      string
	puts      []put
	held      map[digest.Digest]Content
	tags      map[string]digest.Digest
	referrers map[digest.Digest][]ocispec.Descriptor // subject → what refers to it
}

// put is one request: a blob, a manifest by its digest, or a tag.
type put struct {
	Content
	tag string
}

// Expect is what a mirror of one tag must hold.
type Expect struct {
	Repo, Tag string
	Digest    digest.Digest
	Attached  bool      // the tag attaches something to an image: a fallback tag, or one of cosign's
	Image     []Content // below the tag, children before parents; without foreign layers
	Referrers []Content // what refers to any of it, however indirectly, and the blobs of that
}

// Expect lists every tag, sorted by repository and tag.
func (im *Images) Expect() []Expect {
	var all []Expect
	for _, r := range im.repos {
		for tag := range r.tags {
			all = append(all, r.expect(tag))
		}
	}
	slices.SortFunc(all, func(a, b Expect) int { return cmp.Or(cmp.Compare(a.Repo, b.Repo), cmp.Compare(a.Tag, b.Tag)) })
	return all
}

// Bytes is the size of everything, content that several repositories have counted once.
func (im *Images) Bytes() int64 {
	var n int64
	seen := map[digest.Digest]bool{}
	for _, r := range im.repos {
		for d, c := range r.held {
			if !seen[d] {
				seen[d] = true
				n += c.Size
			}
		}
	}
	return n
}

func (im *Images) repo(name string) *repository {
	for _, r := range im.repos {
		if r.name == name {
			return r
		}
	}
	r := &repository{name: name, held: map[digest.Digest]Content{}, tags: map[string]digest.Digest{}, referrers: map[digest.Digest][]ocispec.Descriptor{}}
	im.repos = append(im.repos, r)
	return r
}

func (r *repository) put(c Content, tag string) {
	if _, ok := r.held[c.Digest]; ok && tag == "" {
		return
	}
	r.held[c.Digest] = c
	r.puts = append(r.puts, put{c, tag})
}

func (r *repository) blob(mediaType string, raw []byte) ocispec.Descriptor {
	desc := describe(mediaType, raw)
	r.put(Content{Descriptor: desc, Raw: raw}, "")
	return desc
}

// manifest puts a document by its digest and returns its descriptor.
func (r *repository) manifest(mediaType string, document any) ocispec.Descriptor {
	raw := encode(document)
	desc := describe(mediaType, raw)
	r.put(Content{desc, raw, true}, "")
	if subject := parse(raw).Subject; subject != nil {
		r.referrers[subject.Digest] = append(r.referrers[subject.Digest], desc)
	}
	return desc
}

func (r *repository) tag(tag string, desc ocispec.Descriptor) {
	r.put(r.held[desc.Digest], tag)
	r.tags[tag] = desc.Digest
}

func (r *repository) expect(tag string) Expect {
	d := r.tags[tag]
	w := &walk{repository: r, seen: map[digest.Digest]bool{}}
	w.down(d)
	below := len(w.found)
	w.up()
	return Expect{Repo: r.name, Tag: tag, Digest: d, Attached: attached.MatchString(tag), Image: w.found[:below], Referrers: w.found[below:]}
}

// walk collects a closure.
type walk struct {
	*repository
	seen  map[digest.Digest]bool
	found []Content
}

func (w *walk) down(d digest.Digest) {
	c, ok := w.held[d]
	if w.seen[d] || !ok {
		return // not ok: a foreign layer
	}
	w.seen[d] = true
	if c.Manifest {
		for _, desc := range parse(c.Raw).refs() {
			w.down(desc.Digest)
		}
	}
	w.found = append(w.found, c)
}

// up adds what refers to what was found; found grows meanwhile.
func (w *walk) up() {
	for i := 0; i < len(w.found); i++ {
		for _, desc := range w.referrers[w.found[i].Digest] {
			w.down(desc.Digest)
		}
	}
}

// document is what is read of any manifest.
type document struct {
	Config    *ocispec.Descriptor  `json:"config"`
	Layers    []ocispec.Descriptor `json:"layers"`
	Manifests []ocispec.Descriptor `json:"manifests"`
	Subject   *ocispec.Descriptor  `json:"subject"`
}

// parse reads a manifest; anything else refers to nothing.
func parse(raw []byte) document {
	var doc document
	if json.Unmarshal(raw, &doc) != nil {
		return document{}
	}
	return doc
}

// refs are the children, the config and the layers; not those that are elsewhere.
func (doc document) refs() []ocispec.Descriptor {
	refs := slices.Clone(doc.Manifests)
	if doc.Config != nil {
		refs = append(refs, *doc.Config)
	}
	for _, l := range doc.Layers {
		if len(l.URLs) == 0 {
			refs = append(refs, l)
		}
	}
	return refs
}

func describe(mediaType string, raw []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
}

func encode(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err) // our own structs marshal
	}
	return raw
}
