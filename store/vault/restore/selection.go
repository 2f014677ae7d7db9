package restore

import (
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"lastro/mirror"
	"lastro/store/vault/layout"
)

// selection is which images are meant.
type selection []choice

// choice is a pattern: of a repository, its tags, or one digest in it.
type choice struct {
	repo, tag mirror.Pattern
	digest    digest.Digest
	text      string
	used      *bool // it means something that is there, or may be
}

// CheckPatterns is nil when a restore can read the patterns.
func CheckPatterns(patterns []string) error {
	_, err := newSelection(patterns)
	return err
}

// newSelection reads patterns. A short name is also taken as Docker takes it.
func newSelection(patterns []string) (selection, error) {
	var s selection
	for _, text := range patterns {
		list, err := newChoices(text)
		if err != nil {
			return nil, err
		}
		s = append(s, list...)
	}
	return s, nil
}

func newChoices(text string) (list []choice, err error) {
	c := choice{text: text, used: new(bool)}
	repo, tag := text, "**"
	if layout.CheckDigest(digest.Digest(text)) == nil {
		repo = "**@" + text
	}
	if i := strings.LastIndexByte(repo, '@'); i >= 0 {
		repo, c.digest = repo[:i], digest.Digest(repo[i+1:])
		if err := layout.CheckDigest(c.digest); err != nil {
			return nil, fmt.Errorf("%q: %w", text, err)
		}
	}
	if i := strings.LastIndexByte(repo, ':'); i > strings.LastIndexByte(repo, '/') && !strings.HasPrefix(repo, "/") {
		repo, tag = repo[:i], repo[i+1:]
	}
	if c.tag, err = mirror.ParsePattern(tag); err != nil {
		return nil, err
	}
	names := []string{repo}
	c.repo, err = mirror.ParsePattern(repo)
	if ref, err := mirror.ParseReference(repo); err == nil && c.repo.Literal() {
		names = append(names, ref.Local())
	}
	for _, name := range names {
		if c.repo, err = mirror.ParsePattern(name); err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	return list, err
}

func (s selection) repository(repo string) bool {
	return len(s) == 0 || slices.ContainsFunc(s, func(c choice) bool { return c.repo.Match(repo) })
}

// tag tells whether an image is meant; one without a tag only with its whole
// repository. Whoever means a digest means no tag.
func (s selection) tag(repo, tag string) (meant bool) {
	for _, c := range s {
		if c.digest == "" && c.repo.Match(repo) && (c.tag.String() == "**" || tag != "" && c.tag.Match(tag)) {
			*c.used, meant = true, true
		}
	}
	return meant || len(s) == 0
}

// all tells whether all of a repository is meant.
func (s selection) all(repo string) bool {
	return len(s) == 0 || slices.ContainsFunc(s, func(c choice) bool {
		return c.digest == "" && c.tag.String() == "**" && c.repo.Match(repo)
	})
}

// digests are those that are meant in a repository.
func (s selection) digests(repo string) (list []choice) {
	for _, c := range s {
		if c.digest != "" && c.repo.Match(repo) {
			list = append(list, c)
		}
	}
	return list
}

// from are the images of a repository that are meant, in the order in which they
// may become visible. A digest comes without a tag, whether the snapshot lists it or
// it is inside of an image.
func (s selection) from(m *images, repo string) []int {
	digests := map[int]bool{}
	for _, c := range s.digests(repo) {
		if i, ok := m.byDigest(c.digest); ok {
			*c.used, digests[i] = true, true
		}
	}
	return m.selected(func(i int) bool { return digests[i] || !m.added[i] && s.tag(repo, layout.TagOf(m.list[i])) })
}

// unknown notes that nobody knows what a repository has.
func (s selection) unknown(repo string) {
	for _, c := range s {
		if c.repo.Match(repo) {
			*c.used = true
		}
	}
}

// unused are the patterns that mean nothing; all says that none means anything.
func (s selection) unused() (texts []string, all bool) {
	all = true
	for _, c := range s {
		if all = all && !*c.used; !*c.used && !slices.Contains(texts, c.text) {
			texts = append(texts, c.text)
		}
	}
	return texts, all && len(texts) > 0
}
