package retention

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Rule is one entry of retention: in the configuration.
type Rule struct {
	Match         string         `yaml:"match" kind:"pattern" required:"true" example:"docker.io/**" doc:"Repositories that the rule is for."`
	Keep          Keep           `yaml:"keep" doc:"Which tags stay: those that any of these lines keeps; without lines, all."`
	Untagged      *time.Duration `yaml:"untagged" example:"14d" doc:"How long digests that no tag leads to any more stay pullable, from when the tag left or a client last pulled them. Without it, those that a tag left by moving stay for good, and those whose tag was removed do not stay."`
	RequireBackup string         `yaml:"require-backup" example:"main" doc:"The name of a backup: what is not known to be in it as a whole stays."`
	MaxRemovals   float64        `yaml:"max-removals" kind:"percent" default:"20%" example:"20%" doc:"The share of a repository's tags that one run may remove (at least one tag, never the last); more stops the run for that repository. 0% removes nothing."`

	// Line says where the rule stands, such as lastro.yaml:12; reasons cite it.
	// Empty: they cite the pattern.
	Line string `yaml:"-"`
}

// Keep is what a rule keeps. Each field is a line of its own.
type Keep struct {
	Last       int           `yaml:"last" example:"10" doc:"The newest tags of a repository, by the time their digest was first seen."`
	PerVariant int           `yaml:"per-variant" example:"3" doc:"The newest versions of each variant (1.25.3-alpine is one of -alpine), by version."`
	PerMajor   int           `yaml:"per-major" example:"3" doc:"The newest versions of each major line of a variant, by version."`
	PerMinor   int           `yaml:"per-minor" example:"3" doc:"The newest versions of each minor line of a variant, by version."`
	PerPatch   int           `yaml:"per-patch" example:"3" doc:"The newest builds of each patch version of a variant, by version."`
	Within     time.Duration `yaml:"within" example:"90d" doc:"Tags whose digest was first seen no longer ago than this."`
	Pulled     time.Duration `yaml:"pulled-within" example:"30d" doc:"Tags that a client pulled no longer ago than this; as long as it is not known whether one did, it counts as pulled now."`
	Semver     string        `yaml:"semver" kind:"range" example:">=1.20 <2" doc:"Versions in this range, of every variant; prereleases only where the range names one."`
	Tags       []string      `yaml:"tags" kind:"pattern" example:"*-lts" doc:"Tags with these names."`
}

// perLine is one of the lines that keep the newest of each line of versions.
type perLine struct {
	per    string
	newest int
}

func (k Keep) perLines() []perLine {
	return []perLine{{"variant", k.PerVariant}, {"major", k.PerMajor}, {"minor", k.PerMinor}, {"patch", k.PerPatch}}
}

// Matcher is a pattern for names.
type Matcher interface {
	Match(name string) bool
	String() string
}

// Language reads what rules are written in, and the tags that they are about.
// What no rule uses may be nil.
type Language struct {
	Pattern func(text string) (Matcher, error)
	Range   func(text string) (Matcher, error)

	// Lines parts tags into lines of versions per variant, major, minor or
	// patch, each with the newest first. A tag that is no version is in none.
	Lines func(tags []string, per string) map[string][]string
}

// Validate reports all that is wrong with the rule except patterns and ranges
// that do not parse, which Compile reports.
func (r Rule) Validate() error {
	var errs []error
	if r.Match == "" {
		errs = append(errs, errors.New(`match: is missing (example: "docker.io/**")`))
	}
	if r.Keep.Last < 0 {
		errs = append(errs, fmt.Errorf("keep.last: %d is less than nothing (example: 10)", r.Keep.Last))
	}
	for _, l := range r.Keep.perLines() {
		if l.newest < 0 {
			errs = append(errs, fmt.Errorf("keep.per-%s: %d is less than nothing (example: 3)", l.per, l.newest))
		}
	}
	if r.Keep.Within < 0 {
		errs = append(errs, fmt.Errorf("keep.within: %s is less than nothing (example: 90d)", r.Keep.Within))
	}
	if r.Keep.Pulled < 0 {
		errs = append(errs, fmt.Errorf("keep.pulled-within: %s is less than nothing (example: 30d)", r.Keep.Pulled))
	}
	for i, tag := range r.Keep.Tags {
		if tag == "" {
			errs = append(errs, fmt.Errorf(`keep.tags[%d]: is empty (example: "*-lts")`, i))
		}
	}
	if r.Untagged != nil && *r.Untagged < 0 {
		errs = append(errs, fmt.Errorf("untagged: %s is less than nothing (example: 14d)", *r.Untagged))
	}
	if !(r.MaxRemovals >= 0 && r.MaxRemovals <= 1) { // so that NaN is refused
		errs = append(errs, fmt.Errorf("max-removals: %s is not between 0%% and 100%% (example: 20%%)", percent(r.MaxRemovals)))
	}
	return errors.Join(errs...)
}

// Compiled is a rule that is ready to decide. The zero value matches nothing.
type Compiled struct {
	rule     Rule
	match    Matcher
	versions Matcher // nil: no range
	tags     []Matcher
	lines    func(tags []string, per string) map[string][]string
}

// Compile validates the rule and parses its patterns and its range. All faults
// are reported, each with its key.
func (r Rule) Compile(l Language) (Compiled, error) {
	if err := r.Validate(); err != nil {
		return Compiled{}, err
	}
	var errs []error
	read := func(key, text string, parse func(string) (Matcher, error)) Matcher {
		m, err := parse(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", key, err))
		}
		return m
	}
	c := Compiled{rule: r, lines: l.Lines, match: read("match", r.Match, l.Pattern)}
	if r.Keep.Semver != "" {
		c.versions = read("keep.semver", r.Keep.Semver, l.Range)
	}
	for i, tag := range r.Keep.Tags {
		c.tags = append(c.tags, read(fmt.Sprintf("keep.tags[%d]", i), tag, l.Pattern))
	}
	if err := errors.Join(errs...); err != nil {
		return Compiled{}, err
	}
	return c, nil
}

// keepsAll reports whether the rule has no line that could keep less.
func (c Compiled) keepsAll() bool {
	k := c.rule.Keep
	return k.Last <= 0 && k.Within <= 0 && k.Pulled <= 0 && c.versions == nil && len(c.tags) == 0 &&
		!slices.ContainsFunc(k.perLines(), func(l perLine) bool { return l.newest > 0 })
}

func (c Compiled) String() string {
	if c.rule.Line != "" {
		return c.rule.Line
	}
	return fmt.Sprintf("rule %q", c.rule.Match)
}

// percent writes a share as people do: 20%, 12.5%.
func percent(share float64) string {
	text := fmt.Sprintf("%.2f", share*100)
	if !math.IsNaN(share) && !math.IsInf(share, 0) {
		text = strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
	}
	return text + "%"
}

// short writes a duration in days when it is that many.
func short(d time.Duration) string {
	const day = 24 * time.Hour
	if d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	return d.String()
}
