package layout

import (
	"fmt"
	"path"
	"regexp"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Base is where distribution keeps everything, below the root.
const Base = "docker/registry/v2"

// Blobs and Repositories are the two halves of the layout.
const (
	Blobs        = Base + "/blobs"
	Repositories = Base + "/repositories"
)

var (
	repositoryName = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagName        = regexp.MustCompile(`^[\w][\w.-]{0,127}$`)
)

// CheckRepository refuses what is not a repository name by the distribution-spec.
func CheckRepository(repo string) error {
	if len(repo) > 255 || !repositoryName.MatchString(repo) {
		return fmt.Errorf("%q is not a repository name", repo)
	}
	return nil
}

// CheckTag refuses what is not a tag by the distribution-spec.
func CheckTag(tag string) error {
	if !tagName.MatchString(tag) {
		return fmt.Errorf("%q is not a tag", tag)
	}
	return nil
}

// CheckDigest refuses what is not a digest of a kind that is kept.
func CheckDigest(d digest.Digest) error {
	if encoded, ok := strings.CutPrefix(string(d), "sha256:"); ok && len(encoded) == 64 && strings.Trim(encoded, "0123456789abcdef") == "" {
		return nil
	}
	if err := d.Validate(); err != nil {
		return fmt.Errorf("digest %q: %w", d, err)
	}
	return nil
}

// Data is where the content of a digest lies.
func Data(d digest.Digest) string {
	encoded := d.Encoded()
	return Blobs + "/" + d.Algorithm().String() + "/" + encoded[:2] + "/" + encoded + "/data"
}

// Layers is the folder of the links of a repository's blobs.
func Layers(repo string) string { return path.Join(Repositories, repo, "_layers") }

// Layer is the link by which a repository serves a blob.
func Layer(repo string, d digest.Digest) string {
	return Layers(repo) + "/" + d.Algorithm().String() + "/" + d.Encoded() + "/link"
}

// Revisions is the folder of a repository's manifests.
func Revisions(repo string) string { return path.Join(Repositories, repo, "_manifests/revisions") }

// Revision is the link by which a repository serves a manifest.
func Revision(repo string, d digest.Digest) string {
	return path.Join(Revisions(repo), d.Algorithm().String(), d.Encoded(), "link")
}

// Tags is the folder of a repository's tags.
func Tags(repo string) string { return path.Join(Repositories, repo, "_manifests/tags") }

// Tag is the link that a tag is.
func Tag(repo, tag string) string { return path.Join(Tags(repo), tag, "current/link") }
