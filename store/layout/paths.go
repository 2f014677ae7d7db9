package layout

import (
	"fmt"
	"path"
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

// CheckRepository refuses what is not a repository name by the
// distribution-spec: ^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/…)*$, up to 255
// characters. It is asked several times for each request, so by hand.
func CheckRepository(repo string) error {
	for rest, more := repo, len(repo) <= 255; more; {
		var element string
		element, rest, more = strings.Cut(rest, "/")
		if !isElement(element) {
			break
		}
		if !more {
			return nil
		}
	}
	return fmt.Errorf("%q is not a repository name", repo)
}

// isElement reports whether text is one element of a repository name.
func isElement(text string) bool {
	for {
		word := 0
		for word < len(text) && isAlphanumeric(text[word]) {
			word++
		}
		if word == 0 {
			return false
		}
		if text = text[word:]; text == "" {
			return true
		}
		n := separator(text)
		if n == 0 {
			return false
		}
		text = text[n:]
	}
}

func isAlphanumeric(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }

// separator is the length of what text begins with, between words.
func separator(text string) int {
	switch {
	case strings.HasPrefix(text, "__"):
		return 2
	case text[0] == '.' || text[0] == '_':
		return 1
	}
	return len(text) - len(strings.TrimLeft(text, "-"))
}

// CheckTag refuses what is not a tag by the distribution-spec:
// ^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$.
func CheckTag(tag string) error {
	for i := range len(tag) {
		c := tag[i]
		if !(isAlphanumeric(c) || 'A' <= c && c <= 'Z' || c == '_' || i > 0 && (c == '.' || c == '-')) {
			return fmt.Errorf("%q is not a tag", tag)
		}
	}
	if tag == "" || len(tag) > 128 {
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
