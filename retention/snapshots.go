package retention

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Generations is which snapshots of a vault stay: those that any of its lines
// keeps; without lines, all. Days, weeks (from Monday), months and years are of UTC.
type Generations struct {
	Last    int           `yaml:"last" example:"3" doc:"The newest snapshots."`
	Daily   int           `yaml:"daily" example:"7" doc:"The newest snapshot of each of the newest days that have one."`
	Weekly  int           `yaml:"weekly" example:"5" doc:"The newest snapshot of each of the newest weeks that have one."`
	Monthly int           `yaml:"monthly" example:"12" doc:"The newest snapshot of each of the newest months that have one."`
	Yearly  int           `yaml:"yearly" example:"3" doc:"The newest snapshot of each of the newest years that have one."`
	Within  time.Duration `yaml:"within" example:"30d" doc:"Snapshots that the bucket got no longer ago than this, by its own clock."`
}

// period is a line that keeps the newest snapshot of each day, week, month or year.
type period struct {
	line, name string
	newest     int
	of         func(time.Time) string
}

func (g Generations) periods() []period {
	return []period{
		{"daily", "days", g.Daily, func(t time.Time) string { return t.Format(time.DateOnly) }},
		{"weekly", "weeks", g.Weekly, func(t time.Time) string { y, w := t.ISOWeek(); return fmt.Sprintf("%d-W%02d", y, w) }},
		{"monthly", "months", g.Monthly, func(t time.Time) string { return t.Format("2006-01") }},
		{"yearly", "years", g.Yearly, func(t time.Time) string { return t.Format("2006") }},
	}
}

// Validate reports all faults at once, each starting with its key.
func (g Generations) Validate() error {
	var errs []error
	if g.Last < 0 {
		errs = append(errs, fmt.Errorf("last: %d is less than nothing (example: 3)", g.Last))
	}
	for _, p := range g.periods() {
		if p.newest < 0 {
			errs = append(errs, fmt.Errorf("%s: %d is less than nothing (example: 7)", p.line, p.newest))
		}
	}
	if g.Within < 0 {
		errs = append(errs, fmt.Errorf("within: %s is less than nothing (example: 30d)", g.Within))
	}
	return errors.Join(errs...)
}

// KeepsAll reports whether there is no line that could keep less.
func (g Generations) KeepsAll() bool {
	return g.Last <= 0 && g.Within <= 0 && !slices.ContainsFunc(g.periods(), func(p period) bool { return p.newest > 0 })
}

// Snapshot is a snapshot of a vault, as its caller knows it.
type Snapshot struct {
	ID     string
	Time   time.Time // as it says of itself
	Stored time.Time // when the bucket got it, by the bucket's clock; zero, unknown, keeps it

	Protections []Protection
}

// SnapshotDecision is what becomes of a snapshot. The zero value keeps it.
type SnapshotDecision struct {
	ID      string    `json:"id"`
	Time    time.Time `json:"time"`
	Remove  bool      `json:"remove"`
	Reasons []string  `json:"reasons"`
	Until   time.Time `json:"until,omitzero"` // when it would go, if nothing changes; zero: not known
}

// DecideSnapshots decides for all snapshots of a vault. The decisions are ordered by
// time, the oldest first. A vault never loses its last snapshot.
func DecideSnapshots(all []Snapshot, keep Generations, now time.Time) []SnapshotDecision {
	var counted, doubtful []Snapshot
	for _, s := range all {
		if s.doubt() == "" {
			counted = append(counted, s)
		} else {
			doubtful = append(doubtful, s)
		}
	}
	slices.SortFunc(counted, newestFirst)
	places := keep.places(counted)
	decisions := make([]SnapshotDecision, len(counted))
	for i, s := range counted {
		decisions[i] = keep.decide(s, i, places, now)
	}
	for _, s := range doubtful {
		decisions = append(decisions, SnapshotDecision{ID: s.ID, Time: s.Time, Reasons: []string{s.doubt()}})
	}
	keepLastSnapshot(decisions)
	slices.SortFunc(decisions, func(a, b SnapshotDecision) int { return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.ID, b.ID)) })
	return decisions
}

func newestFirst(a, b Snapshot) int { return cmp.Or(b.Time.Compare(a.Time), cmp.Compare(b.ID, a.ID)) }

// How far the time that a snapshot gives itself may lie from when the bucket got it:
// it is taken when a backup begins, and a first one may go on for days.
const (
	longestBackup = 7 * 24 * time.Hour
	clocksDiffer  = time.Hour
)

// doubt is why a snapshot can neither be counted nor go. Whoever can write to a
// vault could otherwise push good snapshots out with ones of any date.
func (s Snapshot) doubt() string {
	switch {
	case s.Stored.IsZero():
		return "when the bucket got it is not known"
	case s.Time.After(s.Stored.Add(clocksDiffer)), s.Time.Before(s.Stored.Add(-longestBackup)):
		return fmt.Sprintf("it says it is from %s and the bucket got it on %s: it is not counted, and goes only by its id", date(s.Time), date(s.Stored))
	}
	return ""
}

// generation is where a snapshot stands in the days, weeks, months or years.
type generation struct {
	name   string // of its day, week, month or year
	number int    // 1 is the newest that has a snapshot
	newest bool   // it is the newest there
}

// places tells for each line and snapshot where it stands.
func (g Generations) places(snapshots []Snapshot) map[string][]generation {
	places := map[string][]generation{}
	for _, p := range g.periods() {
		before := generation{}
		for _, s := range snapshots {
			name := p.of(s.Time.UTC())
			newest := name != before.name
			at := generation{name, before.number, newest}
			if newest {
				at.number++
			}
			places[p.line] = append(places[p.line], at)
			before = at
		}
	}
	return places
}

// decide asks every line, and does not stop at the first that keeps. i is how many
// are newer.
func (g Generations) decide(s Snapshot, i int, places map[string][]generation, now time.Time) SnapshotDecision {
	v := protected(s.Protections, now)
	if g.KeepsAll() {
		v.always("keep has no line, so all stay")
	}
	if g.Last > 0 {
		v.say(i < g.Last, fmt.Sprintf("last %d", g.Last), fmt.Sprintf("it is number %d by age", i+1))
	}
	for _, p := range g.periods() {
		if p.newest > 0 {
			p.ask(places[p.line][i], &v)
		}
	}
	if g.Within > 0 {
		v.askStored(s.Stored, g.Within, now)
	}
	d := v.decision(Decision{})
	return SnapshotDecision{ID: s.ID, Time: s.Time, Remove: d.Remove, Reasons: d.Reasons, Until: d.Until}
}

func (p period) ask(at generation, v *verdict) {
	line := fmt.Sprintf("%s %d", p.line, p.newest)
	if !at.newest {
		v.say(false, line, "there is a newer one of "+at.name)
		return
	}
	v.say(at.number <= p.newest, line, fmt.Sprintf("it is the newest of %s, number %d of the %s", at.name, at.number, p.name))
}

func (v *verdict) askStored(stored time.Time, within time.Duration, now time.Time) {
	until, why := stored.Add(within), fmt.Sprintf("within %s: the bucket got it on %s", short(within), date(stored))
	if now.Before(until) {
		v.keepUntil(until, why)
		return
	}
	v.lets = append(v.lets, "not "+why)
}

func (v *verdict) always(why string) { v.keeps, v.forever = append(v.keeps, why), true }

func (v *verdict) say(keeps bool, line, why string) {
	if keeps {
		v.always(line + ": " + why)
		return
	}
	v.lets = append(v.lets, "not "+line+": "+why)
}

func date(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// keepLastSnapshot keeps the newest, decisions[0], when nothing else keeps any.
func keepLastSnapshot(decisions []SnapshotDecision) {
	if len(decisions) > 0 && !slices.ContainsFunc(decisions, func(d SnapshotDecision) bool { return !d.Remove }) {
		newest := &decisions[0]
		newest.Remove, newest.Until = false, time.Time{}
		newest.Reasons = append([]string{"a vault never loses its last snapshot"}, newest.Reasons...)
	}
}

// SnapshotGuardError refuses a plan that would remove too many of a vault's snapshots.
type SnapshotGuardError struct {
	Vault   string
	Remove  int
	Of      int
	Allowed int
	Share   float64 // max-removals
}

// Error names the way out: a look at the plan, and what would allow it.
func (e *SnapshotGuardError) Error() string {
	enough := percent(math.Ceil(100*float64(e.Remove)/float64(e.Of)) / 100)
	return fmt.Sprintf("refusing to forget %d of the %d snapshots of vault %s: max-removals %s allows %d: look with lastro backup forget %s --dry-run, then either keep more, or run lastro backup forget %s --max-removals %s",
		e.Remove, e.Of, e.Vault, percent(e.Share), e.Allowed, e.Vault, e.Vault, enough)
}

// GuardSnapshots refuses to remove more of a vault's snapshots than a share, but
// always allows one where the share is not zero, as with tags.
func GuardSnapshots(vault string, remove, of int, share float64) error {
	if n := allowed(share, of); remove > n {
		return &SnapshotGuardError{Vault: vault, Remove: remove, Of: of, Allowed: n, Share: share}
	}
	return nil
}

// Reason is why, in one line.
func (d SnapshotDecision) Reason() string { return strings.Join(d.Reasons, "; ") }
