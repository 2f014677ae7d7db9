package retention

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Tag is a tag of a repository, as its caller knows it.
type Tag struct {
	Name   string
	Digest string
	Since  time.Time // since when it has had that digest; zero, unknown, keeps it
	Pulled time.Time // a client pulled it no later than then; zero, unknown, counts as now

	// Subject is the digest that an attached tag is attached to. Empty: the
	// tag is not attached.
	Subject string
	// Below are the manifests that the digest leads to, such as those of an
	// index, to which something may be attached as well. It may be nil.
	Below []string

	Protections []Protection // of its digest
	Backups     []string     // backups that are known to have all of it
}

// Decision is what becomes of a tag. The zero value keeps it.
type Decision struct {
	Repo    string    `json:"repo"`
	Tag     string    `json:"tag"`
	Digest  string    `json:"digest"`
	Remove  bool      `json:"remove"`
	Reasons []string  `json:"reasons"`
	Until   time.Time `json:"until,omitzero"` // when it would go, if nothing changes; zero: not known
}

// Decide decides for all tags of a repository. The decisions are ordered by
// name, attached tags after the others: carried out in that order, a run that
// is cut short leaves no image without its signatures. With a *GuardError they
// say what would have been, and none may be carried out.
func Decide(repo string, tags []Tag, rules []Compiled, now time.Time) ([]Decision, error) {
	rules = matching(repo, rules)
	items, attached := split(tags)
	counts := count(items, rules)
	decisions := make([]Decision, len(items), len(tags))
	for age, t := range items {
		decisions[age] = decide(subject{t, age + 1, now}, counts)
	}
	keepLast(decisions)
	err := guard(repo, decisions, rules)
	decisions = append(decisions, follow(items, decisions, attached, now)...)
	for i := range decisions {
		decisions[i].Repo = repo
	}
	slices.SortStableFunc(decisions[:len(items)], byTag)
	slices.SortStableFunc(decisions[len(items):], byTag)
	return decisions, err
}

// matching are the rules for a repository, in the order of their lines.
func matching(repo string, rules []Compiled) []Compiled {
	rules = slices.DeleteFunc(slices.Clone(rules), func(c Compiled) bool { return c.match == nil || !c.match.Match(repo) })
	slices.SortStableFunc(rules, func(a, b Compiled) int { return cmp.Compare(a.String(), b.String()) })
	return rules
}

func byTag(a, b Decision) int { return cmp.Compare(a.Tag, b.Tag) }

// split parts the tags that count, the newest first, from those that are
// attached. Of tags of the same time the later name counts as newer.
func split(tags []Tag) (items, attached []Tag) {
	for _, t := range tags {
		if t.Subject == "" {
			items = append(items, t)
		} else {
			attached = append(attached, t)
		}
	}
	slices.SortStableFunc(items, func(a, b Tag) int {
		return cmp.Or(b.Since.Compare(a.Since), cmp.Compare(b.Name, a.Name))
	})
	return items, attached
}

// subject is a tag about to be decided on.
type subject struct {
	Tag
	age int // 1 is the newest of its repository
	now time.Time
}

// decide asks every line of every rule, and does not stop at the first that
// keeps: a person who asks why is told all.
func decide(s subject, rules []counted) Decision {
	all := protected(s.Protections, s.now)
	if len(rules) == 0 {
		all.keeps, all.forever = append(all.keeps, "no rule matches"), true
	}
	if len(rules) > 0 && s.Since.IsZero() {
		all.keeps, all.forever = append(all.keeps, "its age is not known"), true
		rules = nil
	}
	for _, rule := range rules {
		v := rule.ask(s)
		v.lets = []string{fmt.Sprintf("%s: %s", rule, strings.Join(v.lets, ", "))}
		all.add(v)
	}
	return all.decision(Decision{Tag: s.Name, Digest: s.Digest})
}

func (v *verdict) add(other verdict) {
	v.keeps, v.lets = append(v.keeps, other.keeps...), append(v.lets, other.lets...)
	v.forever = v.forever || other.forever
	if other.until.After(v.until) {
		v.until = other.until
	}
}

// decision keeps d when anything keeps it.
func (v verdict) decision(d Decision) Decision {
	d.Reasons, d.Remove = v.keeps, len(v.keeps) == 0
	if d.Remove {
		d.Reasons = v.lets
	}
	if !v.forever {
		d.Until = v.until
	}
	return d
}

// verdict is what rules and protections say of something.
type verdict struct {
	keeps   []string  // lines that keep it
	lets    []string  // lines that do not
	forever bool      // a line keeps it that time alone does not change
	until   time.Time // when the last of the others stops keeping it
}

func (c counted) ask(s subject) verdict {
	var v verdict
	if c.keepsAll() {
		v.keep(c.Compiled, "keeps everything")
		return v
	}
	c.askLast(s, &v)
	c.askLines(s, &v)
	c.askWithin(s, &v)
	c.askPulled(s, &v)
	c.askSemver(s, &v)
	c.askTags(s, &v)
	c.askBackup(s.Backups, &v)
	return v
}

// keep notes a line that keeps the tag for as long as nothing else happens.
func (v *verdict) keep(c Compiled, why string) {
	v.keeps = append(v.keeps, fmt.Sprintf("%s: %s", c, why))
	v.forever = true
}

// keepUntil notes a line that keeps the tag up to a time.
func (v *verdict) keepUntil(until time.Time, why string) {
	v.keeps = append(v.keeps, why)
	if until.After(v.until) {
		v.until = until
	}
}

func (c Compiled) askLast(s subject, v *verdict) {
	switch last := c.rule.Keep.Last; {
	case last <= 0:
	case s.age <= last:
		v.keep(c, fmt.Sprintf("last %d: it is number %d by age", last, s.age))
	default:
		v.lets = append(v.lets, fmt.Sprintf("not in the last %d: it is number %d by age", last, s.age))
	}
}

func (c Compiled) askWithin(s subject, v *verdict) {
	within := c.rule.Keep.Within
	if within <= 0 {
		return
	}
	until, since := s.Since.Add(within), s.Since.UTC().Format(time.DateOnly)
	if !s.now.Before(until) {
		v.lets = append(v.lets, fmt.Sprintf("not within %s: it is from %s", short(within), since))
		return
	}
	v.keepUntil(until, fmt.Sprintf("%s: within %s: it is from %s", c, short(within), since))
}

func (c Compiled) askPulled(s subject, v *verdict) {
	within := c.rule.Keep.Pulled
	if within <= 0 {
		return
	}
	if s.Pulled.IsZero() {
		v.keep(c, fmt.Sprintf("pulled-within %s: it is not known when it was last pulled", short(within)))
		return
	}
	until, last := s.Pulled.Add(within), s.Pulled.UTC().Format(time.DateOnly)
	if !s.now.Before(until) {
		v.lets = append(v.lets, fmt.Sprintf("not pulled within %s: not since %s", short(within), last))
		return
	}
	v.keepUntil(until, fmt.Sprintf("%s: pulled-within %s: last on %s", c, short(within), last))
}

func (c Compiled) askSemver(s subject, v *verdict) {
	switch {
	case c.versions == nil:
	case c.versions.Match(s.Name):
		v.keep(c, fmt.Sprintf("semver %q", c.versions.String()))
	default:
		v.lets = append(v.lets, fmt.Sprintf("not in semver %q", c.versions.String()))
	}
}

func (c Compiled) askBackup(backups []string, v *verdict) {
	switch name := c.rule.RequireBackup; {
	case name == "":
	case slices.Contains(backups, name):
		v.lets = append(v.lets, fmt.Sprintf("all of it is in backup %q", name))
	default:
		v.keep(c, fmt.Sprintf("require-backup %q: not all of it is known to be there", name))
	}
}

func (c Compiled) askTags(s subject, v *verdict) {
	if len(c.tags) == 0 {
		return
	}
	matched := false
	for _, m := range c.tags {
		if m.Match(s.Name) {
			v.keep(c, fmt.Sprintf("tags %q", m.String()))
			matched = true
		}
	}
	if !matched {
		v.lets = append(v.lets, "its name is none of tags")
	}
}
