package sample

import (
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

var platforms = []ocispec.Platform{
	{OS: "linux", Architecture: "amd64"},
	{OS: "linux", Architecture: "arm64"},
	{OS: "linux", Architecture: "arm", Variant: "v7"},
}

// format is one of the two families of media types.
type format struct{ image, index, config string }

var (
	oci    = format{ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageConfig}
	docker = format{dockerImage, dockerList, dockerConfig}
)

// image puts one platform's image and returns its descriptor, platform included.
func (r *repository) image(f format, p ocispec.Platform, layers ...layer) ocispec.Descriptor {
	config := ocispec.Image{Created: &created, Platform: p, Config: ocispec.ImageConfig{Entrypoint: []string{"/opt/run"}}}
	config.RootFS.Type = "layers"
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: f.image}
	for _, l := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, l.diffID)
		config.History = append(config.History, ocispec.History{Created: &created, CreatedBy: "lastro sample"})
		m.Layers = append(m.Layers, r.layer(l))
	}
	m.Config = r.blob(f.config, encode(config))
	desc := r.manifest(f.image, m)
	desc.Platform = &p
	return desc
}

// layer puts a layer, unless it is somewhere else.
func (r *repository) layer(l layer) ocispec.Descriptor {
	if len(l.urls) > 0 {
		desc := describe(l.mediaType, l.raw)
		desc.URLs = l.urls
		return desc
	}
	return r.blob(l.mediaType, l.raw)
}

func (r *repository) index(f format, children ...ocispec.Descriptor) ocispec.Descriptor {
	return r.manifest(f.index, ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: f.index, Manifests: children})
}

// provenance is BuildKit's attestation of one image of an index: a child for no
// platform that names its subject in annotations.
func (r *repository) provenance(of ocispec.Descriptor) ocispec.Descriptor {
	statement := fmt.Appendf(nil, `{"_type":"https://in-toto.io/Statement/v0.1","predicateType":"https://slsa.dev/provenance/v0.2","subject":[{"name":"sample","digest":{"sha256":%q}}],"predicate":{}}`, of.Digest.Encoded())
	desc := r.image(oci, ocispec.Platform{OS: "unknown", Architecture: "unknown"}, layer{mediaType: "application/vnd.in-toto+json", raw: statement, diffID: digest.FromBytes(statement)})
	desc.Annotations = map[string]string{"vnd.docker.reference.digest": of.Digest.String(), "vnd.docker.reference.type": "attestation-manifest"}
	return desc
}

// attested is an index of images and their attestations, as BuildKit writes it.
func (r *repository) attested(images ...ocispec.Descriptor) ocispec.Descriptor {
	children := slices.Clone(images)
	for _, desc := range images {
		children = append(children, r.provenance(desc))
	}
	return r.index(oci, children...)
}

// artifact is a manifest around one blob that is not an image; with a subject
// it refers to that.
func (r *repository) artifact(artifactType string, content, subject *ocispec.Descriptor, annotations map[string]string) ocispec.Descriptor {
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: oci.image, ArtifactType: artifactType,
		Config: r.blob(ocispec.MediaTypeEmptyJSON, []byte("{}")), Subject: subject, Annotations: annotations,
	}
	m.Layers = []ocispec.Descriptor{m.Config}
	if content != nil {
		m.Layers = []ocispec.Descriptor{*content}
	}
	desc := r.manifest(oci.image, m)
	desc.ArtifactType, desc.Annotations = artifactType, annotations
	return desc
}
