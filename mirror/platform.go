package mirror

import (
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Platform is what an image runs on: linux/amd64, linux/arm/v7. No variant
// matches every variant.
type Platform struct{ OS, Architecture, Variant string }

// ParsePlatform reads os/architecture or os/architecture/variant.
func ParsePlatform(text string) (Platform, error) {
	parts := strings.Split(text, "/")
	if len(parts) < 2 || len(parts) > 3 || strings.Contains(text, "//") || parts[0] == "" || parts[len(parts)-1] == "" {
		return Platform{}, fmt.Errorf("%q is not a platform (examples: linux/amd64, linux/arm/v7)", text)
	}
	return Platform{parts[0], parts[1], strings.Join(parts[2:], "")}, nil
}

// Match reports whether an index entry's platform is this one.
func (p Platform) Match(q *ocispec.Platform) bool {
	return q != nil && q.OS == p.OS && q.Architecture == p.Architecture && (p.Variant == "" || q.Variant == p.Variant)
}

func (p Platform) String() string {
	if p.Variant == "" {
		return p.OS + "/" + p.Architecture
	}
	return p.OS + "/" + p.Architecture + "/" + p.Variant
}

// attests is BuildKit's annotation that ties an attestation manifest to the
// child that it is about.
const attests = "vnd.docker.reference.digest"

// split parts the children of an index into those that a filter selects and
// those that it leaves out. Children without a platform are selected; an
// attestation follows what it is about. A child that is listed twice is selected
// if one of its entries is. No filter selects all.
func split(m Manifest, filter []Platform) (selected []Ref, absent []digest.Digest) {
	chosen := map[digest.Digest]bool{}
	for c := range m.Children() {
		if _, attestation := c.Annotations[attests]; !attestation && (len(filter) == 0 || c.Platform == nil || matchesAny(filter, c.Platform)) {
			chosen[c.Digest] = true
		}
	}
	for c := range m.Children() {
		subject, attestation := c.Annotations[attests]
		if chosen[c.Digest] || attestation && (len(filter) == 0 || chosen[digest.Digest(subject)]) {
			selected = append(selected, c)
		} else {
			absent = append(absent, c.Digest)
		}
	}
	return selected, absent
}

func matchesAny(filter []Platform, p *ocispec.Platform) bool {
	for _, f := range filter {
		if f.Match(p) {
			return true
		}
	}
	return false
}

// platformsOf lists what indexes have, for messages.
func platformsOf(indexes []Manifest) string {
	var names []string
	for _, m := range indexes {
		for c := range m.Children() {
			if c.Platform != nil && c.Platform.OS != "unknown" {
				names = append(names, Platform{c.Platform.OS, c.Platform.Architecture, c.Platform.Variant}.String())
			}
		}
	}
	return strings.Join(names, ", ")
}
