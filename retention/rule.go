package retention

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// Rule is one entry of retention: in the configuration.
type Rule struct {
	Match       string  `yaml:"match" kind:"pattern" required:"true" example:"docker.io/**" doc:"Repositories that the rule is for."`
	Keep        Keep    `yaml:"keep" doc:"Which tags stay: those that any of these lines keeps; without lines, all."`
	MaxRemovals float64 `yaml:"max-removals" kind:"percent" default:"20%" example:"20%" doc:"The share of a repository's tags that one run may remove (at least one tag, never the last); more stops the run for that repository. 0% removes nothing."`

	// Line says where the rule stands, such as lastro.yaml:12; reasons cite it.
	// Empty: they cite the pattern.
	Line string `yaml:"-"`
}

// Keep is what a rule keeps. Each field is a line of its own.
type Keep struct {
	Last   int           `yaml:"last" example:"10" doc:"The newest tags of a repository, by the time their digest was first seen."`
	Within time.Duration `yaml:"within" example:"90d" doc:"Tags whose digest was first seen no longer ago than this."`
	Tags   []string      `yaml:"tags" kind:"pattern" example:"*-lts" doc:"Tags with these names."`
}

// Matcher is a pattern for names.
type Matcher interface {
	Match(name string) bool
	String() string
}

// Validate reports all that is wrong with the rule except patterns that do not
// parse, which Compile reports.
func (r Rule) Validate() error {
	var errs []error
	if r.Match == "" {
		errs = append(errs, errors.New(`match: is missing (example: "docker.io/**")`))
	}
	if r.Keep.Last < 0 {
		errs = append(errs, fmt.Errorf("keep.last: %d is less than nothing (example: 10)", r.Keep.Last))
	}
	if r.Keep.Within < 0 {
		errs = append(errs, fmt.Errorf("keep.within: %s is less than nothing (example: 90d)", r.Keep.Within))
	}
	for i, tag := range r.Keep.Tags {
		if tag == "" {
			errs = append(errs, fmt.Errorf(`keep.tags[%d]: is empty (example: "*-lts")`, i))
		}
	}
	if !(r.MaxRemovals >= 0 && r.MaxRemovals <= 1) { // so that NaN is refused
		errs = append(errs, fmt.Errorf("max-removals: %s is not between 0%% and 100%% (example: 20%%)", percent(r.MaxRemovals)))
	}
	return errors.Join(errs...)
}

// Compiled is a rule that is ready to decide. The zero value matches nothing.
type Compiled struct {
	rule  Rule
	match Matcher
	tags  []Matcher
}

// Compile validates the rule and parses its patterns. All faults are
// reported, each with its key.
func (r Rule) Compile(parse func(string) (Matcher, error)) (Compiled, error) {
	if err := r.Validate(); err != nil {
		return Compiled{}, err
	}
	c := Compiled{rule: r}
	var errs []error
	match, err := parse(r.Match)
	if err != nil {
		errs = append(errs, fmt.Errorf("match: %w", err))
	}
	c.match = match
	for i, tag := range r.Keep.Tags {
		m, err := parse(tag)
		if err != nil {
			errs = append(errs, fmt.Errorf("keep.tags[%d]: %w", i, err))
		}
		c.tags = append(c.tags, m)
	}
	if err := errors.Join(errs...); err != nil {
		return Compiled{}, err
	}
	return c, nil
}

// keepsAll reports whether the rule has no line that could keep less.
func (c Compiled) keepsAll() bool {
	return c.rule.Keep.Last <= 0 && c.rule.Keep.Within <= 0 && len(c.tags) == 0
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
