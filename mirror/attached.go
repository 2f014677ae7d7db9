package mirror

import (
	"cmp"
	"regexp"
	"strings"

	"github.com/opencontainers/go-digest"
)

var attachedTag = regexp.MustCompile(`^(sha256-[0-9a-f]{64}|sha512-[0-9a-f]{128})(\.(sig|att|sbom))?$`)

// AttachedTag returns the subject of a tag that attaches something to a digest:
// the referrers fallback tag of the distribution-spec, and cosign's tags. Such
// tags live and die with their subject.
func AttachedTag(tag string) (subject digest.Digest, ok bool) {
	m := attachedTag.FindStringSubmatch(tag)
	if m == nil {
		return "", false
	}
	return digest.Digest(m[1][:6] + ":" + m[1][7:]), true
}

// attachments are the tags of a repository that attach something to a digest.
type attachments struct {
	listed bool // the upstream listed its tags; otherwise each may be there or not
	tags   map[digest.Digest][]string
}

func (a attachments) to(subject digest.Digest) []string {
	if a.listed {
		return a.tags[subject]
	}
	tag := strings.Replace(subject.String(), ":", "-", 1)
	return []string{tag, tag + ".sig", tag + ".att", tag + ".sbom"}
}

// attachedChange is the copy of a tag that attaches something to c's image.
func (c change) attachedChange(tag string) change {
	return change{repository: c.repository, to: c.to, tag: tag, attached: c.attached, by: c.by, reason: "attached to " + cmp.Or(c.tag, c.desc.Digest.String()), unfiltered: true}
}
