package mirror

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"iter"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// MaxManifest is the size of the largest manifest that is read, in bytes.
const MaxManifest = 8 << 20

// Media types that Docker gave its manifests.
const (
	mediaTypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	mediaTypeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	mediaTypeSchema1        = "application/vnd.docker.distribution.manifest.v1+json"
	mediaTypeSchema1Signed  = "application/vnd.docker.distribution.manifest.v1+prettyjws"
	mediaTypeArtifact       = "application/vnd.oci.artifact.manifest.v1+json"
)

// Role is what a manifest refers to something for.
type Role string

// The roles. A foreign layer has urls elsewhere and is not kept here.
const (
	RoleConfig  Role = "config"
	RoleLayer   Role = "layer"
	RoleChild   Role = "child"
	RoleForeign Role = "foreign"
)

// Ref is one reference out of a manifest.
type Ref struct {
	Role Role
	ocispec.Descriptor
}

// Manifest is what lastro reads of a manifest: what it refers to. The bytes
// themselves are never re-encoded.
type Manifest struct {
	Descriptor  ocispec.Descriptor // its own: media type, digest, size, artifact type
	Refs        []Ref
	Subject     *ocispec.Descriptor
	Annotations map[string]string
}

// document is the union of the manifest formats.
type document struct {
	SchemaVersion int                  `json:"schemaVersion"`
	MediaType     string               `json:"mediaType"`
	ArtifactType  string               `json:"artifactType"`
	Config        *ocispec.Descriptor  `json:"config"`
	Layers        []ocispec.Descriptor `json:"layers"`
	Manifests     []ocispec.Descriptor `json:"manifests"`
	Blobs         []ocispec.Descriptor `json:"blobs"`
	FSLayers      []json.RawMessage    `json:"fsLayers"`
	Subject       *ocispec.Descriptor  `json:"subject"`
	Annotations   map[string]string    `json:"annotations"`
}

// ParseManifest reads a manifest of any format that refers by digest: OCI
// image, index and artifact manifests, Docker schema 2 and lists. Media types
// that it does not know are fine; a document that could be read in two ways is
// not (CVE-2021-41190), nor is Docker schema 1, whose digest does not cover
// what is referred to.
func ParseManifest(desc ocispec.Descriptor, raw []byte) (Manifest, error) {
	if len(raw) > MaxManifest {
		return Manifest{}, fmt.Errorf("manifest %s: %d bytes are more than the %d that a manifest may have", desc.Digest, len(raw), MaxManifest)
	}
	var doc document
	if err := json.Unmarshal(raw, &doc); err != nil {
		return Manifest{}, fmt.Errorf("manifest %s: not a JSON document: %w", desc.Digest, err)
	}
	m := Manifest{Descriptor: desc, Subject: doc.Subject, Annotations: doc.Annotations}
	err := m.read(doc)
	if err == nil {
		err = m.check()
	}
	if err != nil {
		return Manifest{}, fmt.Errorf("manifest %s: %w", desc.Digest, err)
	}
	return m, nil
}

func (m *Manifest) read(doc document) error {
	if err := m.setMediaType(doc); err != nil {
		return err
	}
	m.Descriptor.ArtifactType = doc.ArtifactType
	if doc.Config != nil {
		m.Refs = append(m.Refs, Ref{RoleConfig, *doc.Config})
		if m.Descriptor.ArtifactType == "" {
			m.Descriptor.ArtifactType = doc.Config.MediaType
		}
	}
	for _, l := range append(doc.Layers, doc.Blobs...) {
		role := RoleLayer
		if len(l.URLs) > 0 {
			role = RoleForeign
		}
		m.Refs = append(m.Refs, Ref{role, l})
	}
	for _, c := range doc.Manifests {
		m.Refs = append(m.Refs, Ref{RoleChild, c})
	}
	return nil
}

// setMediaType refuses what is no manifest, or could be two, and settles what m is.
func (m *Manifest) setMediaType(doc document) error {
	if doc.isSchema1() || m.Descriptor.MediaType == mediaTypeSchema1 || m.Descriptor.MediaType == mediaTypeSchema1Signed {
		return errors.New("it is a Docker schema 1 manifest, which cannot be copied by digest: push the image again with a current client")
	}
	index, image := doc.isIndex(), doc.isImage()
	switch {
	case !index && !image && doc.MediaType == "" && doc.SchemaVersion != 2:
		return errors.New("it is a JSON document, but no manifest")
	case index && image:
		return errors.New("it has both manifests and layers, so that clients could read it in two ways (CVE-2021-41190)")
	case doc.MediaType != "" && m.Descriptor.MediaType != "" && doc.MediaType != m.Descriptor.MediaType:
		return fmt.Errorf("it says that it is %q and was given as %q", doc.MediaType, m.Descriptor.MediaType)
	}
	m.Descriptor.MediaType = cmp.Or(m.Descriptor.MediaType, doc.MediaType, doc.guess())
	if wantIndex, known := isIndexType(m.Descriptor.MediaType); known && wantIndex != index && (index || image) {
		return fmt.Errorf("its content is not what %q promises", m.Descriptor.MediaType)
	}
	return nil
}

func (doc document) isSchema1() bool { return doc.FSLayers != nil || doc.SchemaVersion == 1 }
func (doc document) isIndex() bool   { return doc.Manifests != nil }
func (doc document) isImage() bool {
	return doc.Config != nil || doc.Layers != nil || doc.Blobs != nil
}

// guess is the media type of a document that nobody named.
func (doc document) guess() string {
	if doc.isIndex() {
		return ocispec.MediaTypeImageIndex
	}
	return ocispec.MediaTypeImageManifest
}

// isIndexType tells whether a media type is an index's, if it is known at all.
func isIndexType(mediaType string) (index, known bool) {
	switch mediaType {
	case ocispec.MediaTypeImageIndex, mediaTypeDockerList:
		return true, true
	case ocispec.MediaTypeImageManifest, mediaTypeDockerManifest, mediaTypeArtifact:
		return false, true
	}
	return false, false
}

func (m *Manifest) check() error {
	for _, r := range m.Refs {
		if err := checkDescriptor(r.Descriptor); err != nil {
			return fmt.Errorf("%s: %w", r.Role, err)
		}
		if r.Digest == m.Descriptor.Digest {
			return errors.New("it lists itself")
		}
	}
	if m.Subject == nil {
		return nil
	}
	if err := checkDescriptor(*m.Subject); err != nil {
		return fmt.Errorf("subject: %w", err)
	}
	return nil
}

func checkDescriptor(d ocispec.Descriptor) error {
	if err := d.Digest.Validate(); err != nil {
		return fmt.Errorf("digest %q: %w", d.Digest, err)
	}
	if d.Size < 0 {
		return fmt.Errorf("size %d of %s", d.Size, d.Digest)
	}
	return nil
}

// IsIndex reports whether m refers to other manifests.
func (m Manifest) IsIndex() bool {
	if index, _ := isIndexType(m.Descriptor.MediaType); index {
		return true
	}
	for range m.Children() {
		return true
	}
	return false
}

// Children are the manifests that an index lists.
func (m Manifest) Children() iter.Seq[Ref] {
	return m.only(func(r Role) bool { return r == RoleChild })
}

// Blobs are the config and the layers, without foreign ones.
func (m Manifest) Blobs() iter.Seq[Ref] {
	return m.only(func(r Role) bool { return r == RoleConfig || r == RoleLayer })
}

func (m Manifest) only(keep func(Role) bool) iter.Seq[Ref] {
	return func(yield func(Ref) bool) {
		for _, r := range m.Refs {
			if keep(r.Role) && !yield(r) {
				return
			}
		}
	}
}
