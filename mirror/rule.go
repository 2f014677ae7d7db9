package mirror

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
)

// Rule is the settings of one mirror: what to copy from where.
type Rule struct {
	Name          string    `yaml:"name" doc:"name of the rule in output and logs (default: from)" example:"debian"`
	From          string    `yaml:"from" required:"true" kind:"repository" doc:"upstream repository, or a pattern of repositories" example:"docker.io/library/debian"`
	To            string    `yaml:"to" doc:"local repository (default: from); for a pattern, the prefix that replaces its fixed part" example:"mirror/debian"`
	Tags          TagFilter `yaml:"tags" doc:"which tags to copy (default: all)"`
	Platforms     []string  `yaml:"platforms" kind:"platform" doc:"which platforms of an index to copy (default: all)" example:"linux/amd64"`
	Referrers     bool      `yaml:"referrers" default:"true" doc:"copy signatures, attestations and SBOMs too"`
	ForeignLayers bool      `yaml:"foreign-layers" default:"false" doc:"copy layers that have urls elsewhere, too"`
}

// TagFilter selects tags. Exclude wins over Include; no Include selects all.
type TagFilter struct {
	Include []string `yaml:"include" kind:"pattern" doc:"tags to copy" example:"12*"`
	Exclude []string `yaml:"exclude" kind:"pattern" doc:"tags not to copy, whatever include says" example:"*-rc*"`
}

// Validate says everything that is wrong with a rule. Each message begins with
// the key.
func (r Rule) Validate() error {
	_, err := compile(r)
	return err
}

// rule is a Rule that was read.
type rule struct {
	Rule
	host             string
	include, exclude []Pattern
	platforms        []Platform
	names            []string // upstream repositories that the rule names literally
	patterns         []Pattern
	fixed            string // what To replaces
}

func compile(r Rule) (*rule, error) {
	c := &rule{Rule: r}
	var errs []error
	note := func(key string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", key, err))
		}
	}
	note("from", c.readFrom())
	var err error
	c.include, err = parsePatterns(r.Tags.Include)
	note("tags.include", err)
	c.exclude, err = parsePatterns(r.Tags.Exclude)
	note("tags.exclude", err)
	for _, text := range r.Platforms {
		p, err := ParsePlatform(text)
		note("platforms", err)
		c.platforms = append(c.platforms, p)
	}
	if r.To != "" && !repositoryPart.MatchString(r.To) {
		note("to", fmt.Errorf("%q is not a repository name (example: mirror/debian)", r.To))
	}
	if c.Name == "" {
		c.Name = r.From
	}
	return c, errors.Join(errs...)
}

func (c *rule) readFrom() error {
	alternatives, err := expandBraces(c.From)
	if err != nil {
		return err
	}
	for _, text := range alternatives {
		if !strings.ContainsAny(text, "*?[") {
			ref, err := ParseReference(text)
			if err != nil {
				return err
			}
			if ref.Tag != "" || ref.Digest != "" {
				return fmt.Errorf("%q names a tag: put it under tags.include", text)
			}
			if err := c.setHost(ref.Host); err != nil {
				return err
			}
			c.names = append(c.names, ref.Repository)
			continue
		}
		host, rest, ok := strings.Cut(text, "/")
		if !ok || !hostPart.MatchString(host) || !strings.ContainsAny(host, ".:") && host != "localhost" {
			return fmt.Errorf("%q: a pattern of repositories begins with a host (example: ghcr.io/org/**)", text)
		}
		p, err := ParsePattern(rest)
		if err != nil {
			return err
		}
		if err := c.setHost(canonicalHost(host)); err != nil {
			return err
		}
		c.patterns = append(c.patterns, p)
	}
	c.fixed = fixedPart(c.From)
	return nil
}

// setHost refuses alternatives of more than one host, which no upstream has.
func (c *rule) setHost(host string) error {
	if c.host != "" && c.host != host {
		return fmt.Errorf("%q names the hosts %s and %s: write a rule for each", c.From, c.host, host)
	}
	c.host = host
	return nil
}

// fixedPart is what stands before the first element with a wildcard.
func fixedPart(from string) string {
	i := strings.IndexAny(from, "*?[{")
	if i < 0 {
		return from
	}
	return from[:strings.LastIndexByte(from[:i], '/')+1]
}

const maxAlternatives = 1000

// expandBraces turns a{b,c} into ab and ac, so that names without wildcards
// need no catalog.
func expandBraces(text string) ([]string, error) {
	open := strings.IndexByte(text, '{')
	if open < 0 {
		return []string{text}, nil
	}
	end := strings.IndexByte(text[open:], '}')
	if end < 0 || strings.IndexByte(text[open+1:open+end], '{') >= 0 {
		return nil, fmt.Errorf("%q: braces that do not match (example: library/{debian,alpine})", text)
	}
	var out []string
	for alternative := range strings.SplitSeq(text[open+1:open+end], ",") {
		rest, err := expandBraces(text[:open] + alternative + text[open+end+1:])
		if err != nil {
			return nil, err
		}
		if out = append(out, rest...); len(out) > maxAlternatives {
			return nil, fmt.Errorf("%q has more than %d alternatives", text, maxAlternatives)
		}
	}
	return out, nil
}

// selects reports whether the rule copies a tag, and why not.
func (c *rule) selects(tag string) bool {
	matches := func(p Pattern) bool { return p.Match(tag) }
	if slices.ContainsFunc(c.exclude, matches) {
		return false
	}
	return len(c.include) == 0 || slices.ContainsFunc(c.include, matches)
}

// literals are the tags that the rule names, if it names all of them.
func (c *rule) literals() ([]string, bool) {
	var tags []string
	for _, p := range c.include {
		if !p.Literal() || !ValidTag(p.text) {
			return nil, false
		}
		if c.selects(p.text) {
			tags = append(tags, p.text)
		}
	}
	return tags, len(tags) > 0
}

// local is where a repository of the upstream goes.
func (c *rule) local(repository string) string {
	ref := Reference{Host: c.host, Repository: repository}
	if c.To == "" {
		return ref.Local()
	}
	if len(c.patterns) == 0 && len(c.names) == 1 {
		return c.To
	}
	full := c.host + "/" + repository
	return strings.TrimSuffix(c.To, "/") + "/" + strings.TrimPrefix(full, c.fixed)
}

// LocalName returns where the rule puts an upstream repository, if it copies it.
func (r Rule) LocalName(ref Reference) (string, bool) {
	c, err := compile(r)
	if err != nil || c.host != ref.Host {
		return "", false
	}
	if slices.Contains(c.names, ref.Repository) || c.wants(ref.Repository) {
		return c.local(ref.Repository), true
	}
	return "", false
}

// wants reports whether one of the rule's patterns means a repository. What is
// not a repository name, in a strange catalog, is not meant.
func (c *rule) wants(repository string) bool {
	return repositoryPart.MatchString(repository) &&
		slices.ContainsFunc(c.patterns, func(p Pattern) bool { return p.Match(repository) })
}

// unfiltered is the rule for all platforms.
func (c *rule) unfiltered() *rule {
	all := *c
	all.platforms = nil
	return &all
}

// kept are the blobs of a manifest that the rule copies.
func (c *rule) kept(m Manifest) iter.Seq[Ref] {
	return m.only(func(role Role) bool {
		return role == RoleConfig || role == RoleLayer || role == RoleForeign && c.ForeignLayers
	})
}
