package retention

import (
	"fmt"
	"time"
)

// follow decides on attached tags: they go where their subjects go. items and
// decided are of the tags that count, in the same order.
func follow(items []Tag, decided []Decision, attached []Tag, now time.Time) []Decision {
	bySubject := map[string][]int{}
	for i, t := range attached {
		bySubject[t.Subject] = append(bySubject[t.Subject], i)
	}
	f := follower{attached, bySubject, make([]Decision, len(attached))}
	for i, t := range attached {
		f.decisions[i] = Decision{Tag: t.Name, Digest: t.Digest, Reasons: []string{fmt.Sprintf("no tag leads to its subject %s", t.Subject)}}
	}
	// Those that go first: a tag that stays then takes back what it leads to.
	for _, remove := range []bool{true, false} {
		leads := map[int]lead{}
		for i, t := range items {
			if decided[i].Remove == remove {
				f.mark(t, lead{decided[i].Tag, decided[i].Until}, leads)
			}
		}
		f.apply(leads, remove)
	}
	for i, t := range attached {
		f.decisions[i].protect(t.Protections, now)
	}
	return f.decisions
}

type follower struct {
	attached  []Tag
	bySubject map[string][]int
	decisions []Decision
}

// lead is a tag that leads to a subject.
type lead struct {
	tag   string
	until time.Time
}

// later reports whether a keeps something longer than b: for a time that is
// not known, or until later. Between equals the first name is cited.
func (a lead) later(b lead) bool {
	switch {
	case a.until.Equal(b.until):
		return a.tag < b.tag
	case a.until.IsZero() || b.until.IsZero():
		return a.until.IsZero()
	}
	return a.until.After(b.until)
}

// mark notes from in leads for all that is attached to t, to what lies below
// it, and to what is attached there.
func (f follower) mark(t Tag, from lead, leads map[int]lead) {
	seen := map[string]bool{}
	for todo := []Tag{t}; len(todo) > 0; {
		t, todo = todo[0], todo[1:]
		for _, d := range append([]string{t.Digest}, t.Below...) {
			if seen[d] {
				continue
			}
			seen[d] = true
			for _, i := range f.bySubject[d] {
				if old, ok := leads[i]; !ok || from.later(old) {
					leads[i] = from
				}
				todo = append(todo, f.attached[i])
			}
		}
	}
}

func (f follower) apply(leads map[int]lead, remove bool) {
	for i, from := range leads {
		d := &f.decisions[i]
		d.Remove, d.Until = remove, time.Time{}
		if remove {
			d.Reasons = []string{fmt.Sprintf("attached to %s, which goes with tag %s", f.attached[i].Subject, from.tag)}
			continue
		}
		d.Reasons = []string{fmt.Sprintf("attached to %s, which stays with tag %s", f.attached[i].Subject, from.tag)}
		d.Until = from.until
	}
}
