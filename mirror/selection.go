package mirror

import (
	"fmt"
	"slices"
	"strings"

	"lastro/mirror/version"
)

// TagFilter selects tags by name and by version. A tag is selected by Include
// or by Semver, whichever has it; without both, by being there. Latest then
// keeps the newest versions of each line. Exclude wins over all.
type TagFilter struct {
	Include []string `yaml:"include" kind:"pattern" doc:"tags to copy; a regular expression with a group (?P<version>…) says what of the name is the version" example:"12*"`
	Exclude []string `yaml:"exclude" kind:"pattern" doc:"tags not to copy, whatever else selects them" example:"*-rc*"`
	Semver  string   `yaml:"semver" kind:"range" doc:"versions to copy, of every variant; prereleases only where the range names one" example:">=1.20 <2"`
	Latest  int      `yaml:"latest" doc:"copy only the newest versions of each line, this many; tags that include names literally, or that are no versions, are not counted" example:"3"`
	Per     string   `yaml:"per" kind:"line" doc:"what a line is, within each variant such as -alpine: major, minor, patch, or the variant itself" default:"variant" example:"minor"`
}

// filter is a TagFilter that was read.
type filter struct {
	include, exclude []Pattern
	versions         *version.Range // nil: no range
	latest           int
	per              version.Per
}

// compile reads the filter. Errors are told to note with their key.
func (t TagFilter) compile(note func(key string, err error)) filter {
	f := filter{latest: t.Latest}
	if t.Per != "" {
		note("tags.per", f.per.UnmarshalText([]byte(t.Per)))
	}
	var err error
	f.include, err = parsePatterns(t.Include)
	note("tags.include", err)
	f.exclude, err = parsePatterns(t.Exclude)
	note("tags.exclude", err)
	if t.Semver != "" {
		versions, err := version.ParseRange(t.Semver)
		note("tags.semver", err)
		f.versions = &versions
	}
	if t.Latest < 0 {
		note("tags.latest", fmt.Errorf("%d is less than nothing (example: 3)", t.Latest))
	}
	return f
}

// verdict is what a filter says of one tag by its name, before the newest
// are counted.
type verdict struct {
	selected bool
	reason   string // its words follow the tag's name
	counted  bool   // Latest may leave it out
	version  version.Version
}

func (f filter) judge(tag string) verdict {
	for _, p := range f.exclude {
		if p.Match(tag) {
			return verdict{reason: fmt.Sprintf("is excluded by %q", p)}
		}
	}
	v := verdict{version: version.Parse(tag)}
	for _, p := range f.include {
		if p.Match(tag) && f.captured(p, tag, &v) {
			v.selected, v.reason = true, fmt.Sprintf("is included by %q", p)
			v.counted = !p.Literal() && v.version.Ordered()
			return v
		}
	}
	switch {
	case f.versions != nil && f.versions.Contains(v.version):
		v.selected, v.counted, v.reason = true, true, fmt.Sprintf("is in the range %q", f.versions)
	case f.versions != nil:
		v.reason = fmt.Sprintf("is not in the range %q", f.versions)
	case len(f.include) > 0:
		v.reason = "is not included by any pattern"
	case f.latest == 0:
		v.selected, v.reason = true, "is there, and the rule selects all tags"
	case v.version.Ordered():
		v.selected, v.counted, v.reason = true, true, "is a version"
	default:
		v.reason = "is no version, and only the latest versions are selected"
	}
	return v
}

// captured takes the version that a pattern finds in a tag, and reports whether
// the tag may be selected by that pattern.
func (f filter) captured(p Pattern, tag string, v *verdict) bool {
	text, ok := p.version(tag)
	if !ok {
		return true
	}
	v.version = version.ParseAs(tag, text)
	return f.versions == nil || f.versions.Contains(v.version)
}

// choose returns the tags of a list that are selected, in the list's order.
func (f filter) choose(tags []string) []string {
	var selected []string
	var counted []version.Version
	for _, tag := range tags {
		switch v := f.judge(tag); {
		case v.selected && v.counted && f.latest > 0:
			counted = append(counted, v.version)
		case v.selected:
			selected = append(selected, tag)
		}
	}
	for _, v := range version.Newest(counted, f.latest, f.per) {
		selected = append(selected, v.Tag())
	}
	return selected
}

// explain says whether and why a tag of a list is selected.
func (f filter) explain(tag string, tags []string) (bool, string) {
	v := f.judge(tag)
	if !v.selected || !v.counted || f.latest == 0 {
		return v.selected, v.reason
	}
	line := v.version.Line(f.per)
	var newer []version.Version
	for _, other := range tags {
		o := f.judge(other)
		if o.selected && o.counted && o.version.Line(f.per) == line && o.version.Compare(v.version) > 0 {
			newer = append(newer, o.version)
		}
	}
	if len(newer) < f.latest {
		return true, fmt.Sprintf("%s and among the newest %d of its line", v.reason, f.latest)
	}
	slices.SortFunc(newer, func(a, b version.Version) int { return b.Compare(a) })
	return false, fmt.Sprintf("%s, but the line has newer ones: %s", v.reason, names(newer[:f.latest]))
}

func names(vs []version.Version) string {
	var tags []string
	for _, v := range vs {
		tags = append(tags, v.Tag())
	}
	return strings.Join(tags, ", ")
}

// literals are the tags that the filter names, if it names all of them.
func (f filter) literals() ([]string, bool) {
	if f.versions != nil {
		return nil, false
	}
	var tags []string
	for _, p := range f.include {
		if !p.Literal() || !ValidTag(p.text) {
			return nil, false
		}
		if f.judge(p.text).selected {
			tags = append(tags, p.text)
		}
	}
	return tags, len(tags) > 0
}

// missing are tags that the filter names and a list has not.
func (f filter) missing(listed map[string]bool) []string {
	var tags []string
	for _, p := range f.include {
		if p.Literal() && ValidTag(p.text) && !listed[p.text] && f.judge(p.text).selected {
			tags = append(tags, p.text)
		}
	}
	return tags
}
