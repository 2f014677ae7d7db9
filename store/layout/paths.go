package layout

import (
	"fmt"
	"path"
	"regexp"

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

// Data is where the content of a digest lies.
func Data(d digest.Digest) string {
	return path.Join(Blobs, d.Algorithm().String(), d.Encoded()[:2], d.Encoded(), "data")
}

// Layer is the link by which a repository serves a blob.
func Layer(repo string, d digest.Digest) string {
	return path.Join(Repositories, repo, "_layers", d.Algorithm().String(), d.Encoded(), "link")
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
