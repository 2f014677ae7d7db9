package retention

import (
	"slices"
	"time"
)

// Protection is why a person, or the program, wants something kept.
type Protection struct {
	Why   string    // such as: protected as "audit" by ann
	Until time.Time // it protects before then; zero: for good
}

// protected is what protections say: those that have ended let it go.
func protected(all []Protection, now time.Time) (v verdict) {
	for _, p := range all {
		switch {
		case p.Until.IsZero():
			v.keeps, v.forever = append(v.keeps, p.Why), true
		case now.Before(p.Until):
			v.keepUntil(p.Until, p.Why)
		default:
			v.lets = append(v.lets, "no longer "+p.Why)
		}
	}
	return v
}

// protect keeps what is attached when it is protected itself.
func (d *Decision) protect(all []Protection, now time.Time) {
	v := protected(all, now)
	if len(v.keeps) == 0 {
		return
	}
	if d.Remove {
		d.Reasons = nil
	}
	unknown := !d.Remove && d.Until.IsZero() || v.forever
	d.Remove, d.Reasons = false, append(v.keeps, d.Reasons...)
	if v.until.After(d.Until) {
		d.Until = v.until
	}
	if unknown {
		d.Until = time.Time{}
	}
}

// Required are the backups that rules require for a repository, each once.
func Required(repo string, rules []Compiled) (names []string) {
	for _, c := range matching(repo, rules) {
		if name := c.rule.RequireBackup; name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
