package mirror

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/opencontainers/go-digest"
)

// DockerHub is the host that names without one belong to.
const DockerHub = "docker.io"

// Reference names an image as people write it.
type Reference struct {
	Host, Repository, Tag string
	Digest                digest.Digest
}

var (
	hostPart       = regexp.MustCompile(`^(?:[a-zA-Z0-9]+(?:(?:\.|-+)[a-zA-Z0-9]+)*|\[[0-9a-fA-F:]*[0-9a-fA-F][0-9a-fA-F:]*\])(?::[0-9]{1,5})?$`)
	repositoryPart = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagPart        = regexp.MustCompile(`^[\w][\w.-]{0,127}$`)
)

// maxName is how long a repository's name may be.
const maxName = 255

// ValidTag reports whether a tag is one by the distribution-spec.
func ValidTag(tag string) bool { return tagPart.MatchString(tag) }

// ParseReference reads "alpine", "alpine:3.20", "ghcr.io/org/app@sha256:…".
// Docker Hub's names are completed: alpine is docker.io/library/alpine.
func ParseReference(text string) (Reference, error) {
	var ref Reference
	rest, d, hasDigest := strings.Cut(text, "@")
	if hasDigest {
		ref.Digest = digest.Digest(d)
		if err := ref.Digest.Validate(); err != nil {
			return Reference{}, fmt.Errorf("reference %q: digest: %w", text, err)
		}
	}
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, '/') {
		rest, ref.Tag = rest[:i], rest[i+1:]
		if !ValidTag(ref.Tag) {
			return Reference{}, fmt.Errorf("reference %q: %q is not a tag", text, ref.Tag)
		}
	}
	ref.Host, ref.Repository = splitHost(rest)
	if !hostPart.MatchString(ref.Host) || !repositoryPart.MatchString(ref.Repository) || len(ref.Local()) > maxName {
		return Reference{}, fmt.Errorf("reference %q is not an image name (examples: debian:12, ghcr.io/org/app:1.4)", text)
	}
	return ref, nil
}

// splitHost completes names of Docker Hub.
func splitHost(name string) (host, repository string) {
	host, repository, ok := strings.Cut(name, "/")
	if !ok || !strings.ContainsAny(host, ".:[") && host != "localhost" {
		host, repository = DockerHub, name
	}
	host = canonicalHost(host)
	if host == DockerHub && !strings.Contains(repository, "/") {
		repository = "library/" + repository
	}
	return host, repository
}

// canonicalHost is the name in references of a host that has several.
func canonicalHost(host string) string {
	if host == "index.docker.io" || host == "registry-1.docker.io" {
		return DockerHub
	}
	return host
}

// Local is the repository's name in the local registry when no rule gives
// another: the upstream's name with the port's ':' written '-'.
func (r Reference) Local() string { return localHost(r.Host) + "/" + r.Repository }

func localHost(host string) string {
	return strings.Trim(strings.ToLower(strings.NewReplacer(":", "-", "[", "", "]", "").Replace(host)), "-")
}

// String is the full name.
func (r Reference) String() string {
	s := r.Host + "/" + r.Repository
	if r.Tag != "" {
		s += ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + r.Digest.String()
	}
	return s
}
