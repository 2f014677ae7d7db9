package retention

import (
	"fmt"
	"strings"
	"time"
)

// Leaving is how a manifest came to have no tag.
type Leaving int

// How a manifest lost its tag. What is not known keeps, as Moved does.
const (
	Unknown  Leaving = iota
	Moved            // its last tag went to another digest
	Untagged         // no tag was ever there
	Removed          // its last tag was removed: by retention, a client or a retirement
)

func (l Leaving) String() string {
	switch l {
	case Moved:
		return "a tag moved away from it"
	case Untagged:
		return "no tag was ever at it"
	case Removed:
		return "its last tag was removed"
	}
	return "how its tag left it is not known"
}

// Unlinked is a manifest of a repository that no tag reaches, as its caller
// knows it.
type Unlinked struct {
	Digest string
	How    Leaving
	Left   time.Time // when the last tag left it, or it came without one; zero, unknown, counts as now
	Pulled time.Time // a client pulled it no later than then; zero, unknown, counts as now

	Protections []Protection
	Backups     []string // backups that are known to have all of it
}

// DecideUnlinked decides whether a manifest that no tag reaches stays. Its Tag
// is empty. Of all matching rules with untagged, the longest counts, from when
// the tag left or a client last pulled it, whichever is later. Without one,
// what lost its last tag by removal goes, and everything else stays: somebody
// may have written its digest down.
func DecideUnlinked(repo string, u Unlinked, rules []Compiled, now time.Time) Decision {
	v := protected(u.Protections, now)
	matching := matching(repo, rules)
	timed := false
	for _, c := range matching {
		own, says := c.askUnlinked(u, now)
		timed = timed || says
		v.add(own)
	}
	why := fmt.Sprintf("%s, and %s has untagged", u.How, none(matching))
	switch {
	case timed:
	case u.How == Removed:
		v.lets = append(v.lets, why)
	default:
		v.keeps, v.forever = append(v.keeps, why), true
	}
	return v.decision(Decision{Repo: repo, Digest: u.Digest})
}

// none names the rules of which none has something.
func none(rules []Compiled) string {
	switch len(rules) {
	case 0:
		return "no rule matches, so none"
	case 1:
		return "not " + rules[0].String()
	}
	lines := make([]string, len(rules))
	for i, c := range rules {
		lines[i] = c.String()
	}
	return "none of " + strings.Join(lines, ", ")
}

// askUnlinked reports whether the rule says how long.
func (c Compiled) askUnlinked(u Unlinked, now time.Time) (v verdict, says bool) {
	c.askBackup(u.Backups, &v)
	if c.rule.Untagged != nil {
		c.askUntagged(u, now, &v)
	}
	for i, why := range v.lets {
		v.lets[i] = fmt.Sprintf("%s: %s", c, why)
	}
	return v, c.rule.Untagged != nil
}

func (c Compiled) askUntagged(u Unlinked, now time.Time, v *verdict) {
	line := "untagged " + short(*c.rule.Untagged)
	if u.Left.IsZero() || u.Pulled.IsZero() {
		v.keep(c, line+": since when nobody uses it is not known")
		return
	}
	from, since := u.Left, u.How.String()
	if u.Pulled.After(from) {
		from, since = u.Pulled, "last pulled"
	}
	until := from.Add(*c.rule.Untagged)
	why := fmt.Sprintf("%s: %s on %s", line, since, from.UTC().Format(time.DateOnly))
	if now.Before(until) {
		v.keepUntil(until, fmt.Sprintf("%s: %s", c, why))
		return
	}
	v.lets = append(v.lets, "not any more "+why)
}

// UntaggedFor is how long what retention takes the last tag from stays in a
// repository when nobody pulls it, and why, with the line of the rule. When no
// rule says so it does not stay, and why is empty.
func UntaggedFor(repo string, rules []Compiled) (longest time.Duration, why string) {
	for _, c := range matching(repo, rules) {
		if d := c.rule.Untagged; d != nil && (why == "" || *d > longest) {
			longest, why = *d, fmt.Sprintf("%s: untagged %s", c, short(*d))
		}
	}
	return longest, why
}
