package mirror

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"
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

	Immutable    []string      `yaml:"immutable" kind:"pattern" doc:"tags that never move upstream: those that are here are asked for once a day only, and one that moves is not copied and raises an alarm" example:"/v?[0-9]+[.][0-9]+[.][0-9]+/"`
	MinAge       time.Duration `yaml:"min-age" doc:"publish a digest only when it has been known for this long (sync --release publishes it at once)" default:"0s" example:"72h"`
	MinAgeExcept []string      `yaml:"min-age-except" kind:"pattern" doc:"tags that are published at once, whatever min-age says" example:"*-security"`
	OnDemand     bool          `yaml:"on-demand" default:"false" doc:"bring what a client asks for and is not here as well"`
	Mode         string        `yaml:"mode" doc:"about tags that are here, when a client asks for them: local never asks the upstream; stale answers with what is here and asks afterwards; fresh asks first, and answers with what is here when the upstream fails (default: stale with on-demand, else local)" example:"fresh"`
	TTL          time.Duration `yaml:"ttl" doc:"how long what the upstream said of a tag holds, for the modes stale and fresh" default:"10m" example:"1m"`

	RemovedUpstream string `yaml:"removed-upstream" kind:"removed" doc:"what becomes of tags that the upstream has no more: they stay, or they are removed here" default:"keep" example:"retire"`
}

// The modes.
const (
	ModeLocal = "local"
	ModeStale = "stale"
	ModeFresh = "fresh"
)

const (
	// Keep and Retire say what becomes of tags that the upstream removed.
	Keep   = "keep"
	Retire = "retire"
)

// Validate says everything that is wrong with a rule. Each message begins with
// the key.
func (r Rule) Validate() error {
	_, err := compile(r)
	return err
}

// rule is a Rule that was read.
type rule struct {
	Rule
	filter
	host      string
	platforms []Platform
	immutable []Pattern
	ageless   []Pattern
	names     []string // upstream repositories that the rule names literally
	patterns  []Pattern
	fixed     string // what To replaces
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
	c.filter = r.Tags.compile(note)
	c.times(note)
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

// times reads what depends on time.
func (c *rule) times(note func(key string, err error)) {
	var err error
	c.immutable, err = parsePatterns(c.Immutable)
	note("immutable", err)
	c.ageless, err = parsePatterns(c.MinAgeExcept)
	note("min-age-except", err)
	if c.MinAge < 0 {
		note("min-age", fmt.Errorf("%s is less than nothing (example: 72h)", c.MinAge))
	}
	if c.TTL < 0 {
		note("ttl", fmt.Errorf("%s is less than nothing (example: 10m)", c.TTL))
	}
	switch c.Mode {
	case "", ModeLocal, ModeStale, ModeFresh:
	default:
		note("mode", fmt.Errorf("%q is none of local, stale and fresh (example: fresh)", c.Mode))
	}
	switch c.RemovedUpstream {
	case "", Keep, Retire:
	default:
		note("removed-upstream", fmt.Errorf("%q is neither keep nor retire", c.RemovedUpstream))
	}
}

// fixedTag reports whether a tag never moves upstream.
func (c *rule) fixedTag(tag string) bool {
	return slices.ContainsFunc(c.immutable, func(p Pattern) bool { return p.Match(tag) })
}

// age is how long a digest must be known before a tag moves to it.
func (c *rule) age(tag string) time.Duration {
	if slices.ContainsFunc(c.ageless, func(p Pattern) bool { return p.Match(tag) }) {
		return 0
	}
	return c.MinAge
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
	if c.means(ref.Repository) {
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

// unfiltered is the rule for what is attached to images: of all platforms, and
// of any age, because it goes with its image.
func (c *rule) unfiltered() *rule {
	all := *c
	all.platforms, all.immutable, all.MinAge = nil, nil, 0
	return &all
}

// kept are the blobs of a manifest that the rule copies.
func (c *rule) kept(m Manifest) iter.Seq[Ref] {
	return m.only(func(role Role) bool {
		return role == RoleConfig || role == RoleLayer || role == RoleForeign && c.ForeignLayers
	})
}
