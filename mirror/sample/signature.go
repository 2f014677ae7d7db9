package sample

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"regexp"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// attached matches tags that attach something to a digest.
var attached = regexp.MustCompile(`^sha256-[0-9a-f]{64}(\.(sig|att))?$`)

const (
	bundleType = "application/vnd.dev.sigstore.bundle.v0.3+json"
	sbomType   = "application/vnd.cyclonedx+json"
)

// signature attaches a signature as an OCI 1.1 referrer. It has the form of a
// Sigstore bundle and is signed by nobody.
func (im *Images) signature(r *repository, subject ocispec.Descriptor) ocispec.Descriptor {
	bundle := fmt.Appendf(nil, `{"mediaType":%q,"dsseEnvelope":{"payloadType":"application/vnd.in-toto+json","payload":%q,"signatures":[{"sig":%q}]}}`,
		bundleType, base64.StdEncoding.EncodeToString([]byte(subject.Digest)), im.sign(subject.Digest))
	content := r.blob(bundleType, bundle)
	return r.artifact(bundleType, &content, bare(subject), map[string]string{"org.opencontainers.image.created": created.Format("2006-01-02T15:04:05Z")})
}

// sbom attaches a bill of materials.
func (im *Images) sbom(r *repository, subject ocispec.Descriptor) ocispec.Descriptor {
	content := r.blob(sbomType, fmt.Appendf(nil, `{"bomFormat":"CycloneDX","specVersion":"1.6","metadata":{"component":{"type":"container","name":%q,"version":%q}}}`, r.name, subject.Digest))
	return r.artifact(sbomType, &content, bare(subject), nil)
}

// cosign attaches what cosign up to version 2 does: a tag made of the digest.
func (im *Images) cosign(r *repository, subject ocispec.Descriptor) {
	payload := fmt.Appendf(nil, `{"critical":{"identity":{"docker-reference":%q},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"},"optional":null}`, r.name, subject.Digest)
	sig := layer{mediaType: "application/vnd.dev.cosign.simplesigning.v1+json", raw: payload, diffID: digest.FromBytes(payload)}
	r.tag(dashed(subject.Digest)+".sig", r.image(oci, ocispec.Platform{}, sig))
	statement := fmt.Appendf(nil, `{"payloadType":"application/vnd.in-toto+json","payload":"","signatures":[{"sig":%q}]}`, im.sign(subject.Digest))
	att := layer{mediaType: "application/vnd.dsse.envelope.v1+json", raw: statement, diffID: digest.FromBytes(statement)}
	r.tag(dashed(subject.Digest)+".att", r.image(oci, ocispec.Platform{}, att))
}

// fallback puts the tag that stands for the referrers API where there is none.
func (r *repository) fallback(subject digest.Digest, referrers ...ocispec.Descriptor) {
	r.tag(dashed(subject), r.index(oci, referrers...))
}

// signed attaches a signature, an SBOM and the SBOM's own signature to an image.
func (im *Images) signed(r *repository, subject ocispec.Descriptor) {
	signature, sbom := im.signature(r, subject), im.sbom(r, subject)
	ofSBOM := im.signature(r, sbom)
	if im.options.NoReferrers {
		r.fallback(subject.Digest, signature, sbom)
		r.fallback(sbom.Digest, ofSBOM)
	}
}

// sign makes up a signature.
func (im *Images) sign(d digest.Digest) string {
	raw := make([]byte, 64)
	im.random(d.String()).Read(raw)
	return hex.EncodeToString(raw)
}

func dashed(d digest.Digest) string { return d.Algorithm().String() + "-" + d.Encoded() }

// bare is a descriptor with the three fields that a subject has.
func bare(desc ocispec.Descriptor) *ocispec.Descriptor {
	return &ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size}
}
