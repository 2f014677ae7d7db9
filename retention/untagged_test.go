package retention

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// staying is a rule for what no tag leads to.
func staying(t interface{ Fatal(...any) }, line, match string, untagged time.Duration) Compiled {
	return compiled(t, Rule{Match: match, Untagged: &untagged, MaxRemovals: 1, Line: line})
}

func TestDecideUnlinked(t *testing.T) {
	other := compiled(t, Rule{Match: "**", Keep: Keep{Last: 1}, MaxRemovals: 1, Line: "f:1"})
	backup := compiled(t, Rule{Match: "lib/*", RequireBackup: "main", MaxRemovals: 1, Line: "f:2"})
	two, nine := staying(t, "f:3", "lib/*", 2*day), staying(t, "f:4", "**", 9*day)
	zero, else_ := staying(t, "f:5", "**", 0), staying(t, "f:6", "else/*", 99*day)
	ago := func(days int) time.Time { return now.Add(-time.Duration(days) * day) }
	left := func(how Leaving, days, pulled int) Unlinked {
		return Unlinked{Digest: "d", How: how, Left: ago(days), Pulled: ago(pulled)}
	}
	protected := left(Removed, 99, 99)
	protected.Protections = []Protection{{Why: "protected"}}
	until := left(Removed, 99, 99)
	until.Protections = []Protection{{"short", now.Add(day)}, {"long", now.Add(3 * day)}, {"over", now}}
	over := left(Removed, 99, 99)
	over.Protections = []Protection{{"protected", now}}
	saved := left(Removed, 99, 99)
	saved.Backups = []string{"other", "main"}

	for _, c := range []struct {
		name  string
		rules []Compiled
		u     Unlinked
		gone  bool
		until time.Time
		why   []string
	}{
		{name: "what a tag left by moving stays for good where no rule says how long", rules: []Compiled{other}, u: left(Moved, 99, 99),
			why: []string{"a tag moved away from it, and not f:1 has untagged"}},
		{name: "what never had a tag stays for good too", rules: []Compiled{other, else_}, u: left(Untagged, 99, 99),
			why: []string{"no tag was ever at it, and not f:1 has untagged"}},
		{name: "and so does what is not known to be either", u: left(Unknown, 99, 99),
			why: []string{"how its tag left it is not known, and no rule matches, so none has untagged"}},
		{name: "what lost its tag by removal does not", rules: []Compiled{other, backup}, u: saved, gone: true,
			why: []string{`f:2: all of it is in backup "main"`, "its last tag was removed, and none of f:1, f:2 has untagged"}},
		{name: "nor where no rule matches", rules: []Compiled{else_}, u: left(Removed, 0, 0), gone: true,
			why: []string{"its last tag was removed, and no rule matches, so none has untagged"}},
		{name: "untagged counts from when the tag left", rules: []Compiled{two}, u: left(Removed, 1, 99), until: now.Add(day),
			why: []string{"f:3: untagged 2d: its last tag was removed on 2026-02-28"}},
		{name: "or from when it was pulled, if that is later", rules: []Compiled{two}, u: left(Moved, 99, 1), until: now.Add(day),
			why: []string{"f:3: untagged 2d: last pulled on 2026-02-28"}},
		{name: "it ends to the moment", rules: []Compiled{two}, u: left(Moved, 2, 99), gone: true,
			why: []string{"f:3: not any more untagged 2d: a tag moved away from it on 2026-02-27"}},
		{name: "the longest of the matching rules counts", rules: []Compiled{two, nine, else_}, u: left(Moved, 3, 99), until: now.Add(6 * day),
			why: []string{"f:4: untagged 9d: a tag moved away from it on 2026-02-26"}},
		{name: "whatever their order", rules: []Compiled{nine, two}, u: left(Moved, 3, 99), until: now.Add(6 * day),
			why: []string{"f:4: untagged 9d: a tag moved away from it on 2026-02-26"}},
		{name: "when the tag left is not known: now", rules: []Compiled{two}, u: Unlinked{Digest: "d", How: Removed, Pulled: ago(99)},
			why: []string{"f:3: untagged 2d: since when nobody uses it is not known"}},
		{name: "when it was pulled is not known: now", rules: []Compiled{two}, u: Unlinked{Digest: "d", How: Removed, Left: ago(99)},
			why: []string{"f:3: untagged 2d: since when nobody uses it is not known"}},
		{name: "no time at all keeps nothing", rules: []Compiled{zero}, u: left(Moved, 0, 99), gone: true,
			why: []string{"f:5: not any more untagged 0d: a tag moved away from it on 2026-03-01"}},
		{name: "a protection keeps", rules: []Compiled{two}, u: protected, why: []string{"protected"}},
		{name: "the longest of several", rules: []Compiled{two}, u: until, until: now.Add(3 * day), why: []string{"short", "long"}},
		{name: "until it ends", rules: []Compiled{two}, u: over, gone: true,
			why: []string{"no longer protected", "f:3: not any more untagged 2d: its last tag was removed on 2025-11-22"}},
		{name: "what is not known to be in the required backup stays", rules: []Compiled{two, backup}, u: left(Removed, 99, 99),
			why: []string{`f:2: require-backup "main": not all of it is known to be there`}},
		{name: "what is does not", rules: []Compiled{two, backup}, u: saved, gone: true,
			why: []string{`f:2: all of it is in backup "main"`, "f:3: not any more untagged 2d: its last tag was removed on 2025-11-22"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := Decision{Repo: "lib/a", Digest: "d", Remove: c.gone, Reasons: c.why, Until: c.until}
			if diff := cmp.Diff(want, DecideUnlinked("lib/a", c.u, c.rules, now)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func drawUnlinked(t *rapid.T) Unlinked {
	u := Unlinked{Digest: "d", How: rapid.SampledFrom([]Leaving{Unknown, Moved, Untagged, Removed}).Draw(t, "how"), Protections: drawProtections(t)}
	if n := rapid.IntRange(-1, 8).Draw(t, "left"); n >= 0 {
		u.Left = now.Add(-time.Duration(n) * day)
	}
	if n := rapid.IntRange(-1, 8).Draw(t, "pulled"); n >= 0 {
		u.Pulled = now.Add(-time.Duration(n) * day)
	}
	return u
}

func drawUntagged(t *rapid.T) (rules []Compiled) {
	for range rapid.IntRange(0, 3).Draw(t, "rules") {
		r := Rule{Match: rapid.SampledFrom([]string{"**", "lib/*", "else/*"}).Draw(t, "match"), MaxRemovals: 1}
		if n := rapid.IntRange(-1, 6).Draw(t, "untagged"); n >= 0 {
			r.Untagged = new(time.Duration(n) * day)
		}
		rules = append(rules, compiled(t, r))
	}
	return rules
}

func TestAnUnlinkedDigestStaysUntilWhatItsDecisionSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		u, rules := drawUnlinked(t), drawUntagged(t)
		d := DecideUnlinked("lib/a", u, rules, now)
		switch {
		case d.Remove && !d.Until.IsZero():
			t.Fatalf("it goes, and until %v", d.Until)
		case d.Remove:
		case d.Until.IsZero():
			if late := DecideUnlinked("lib/a", u, rules, now.Add(999*day)); late.Remove {
				t.Fatalf("it went without an until: %v", late.Reasons)
			}
		default:
			if DecideUnlinked("lib/a", u, rules, d.Until.Add(-1)).Remove || !DecideUnlinked("lib/a", u, rules, d.Until).Remove {
				t.Fatalf("it does not go at %v", d.Until)
			}
		}
	})
}

func TestAnotherUntaggedNeverKeepsLess(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		u, rules := drawUnlinked(t), drawUntagged(t)
		if _, why := UntaggedFor("lib/a", rules); why == "" {
			t.Skip("the first untagged says how long what stays for good")
		}
		if DecideUnlinked("lib/a", u, append(drawUntagged(t), rules...), now).Remove && !DecideUnlinked("lib/a", u, rules, now).Remove {
			t.Fatal("it goes by another rule")
		}
	})
}

func TestUntaggedForIsTheLongestOfTheMatchingRules(t *testing.T) {
	rules := []Compiled{staying(t, "f:1", "**", day), staying(t, "f:2", "lib/*", 3*day), staying(t, "f:3", "lib/*", 2*day), staying(t, "f:4", "else/*", 9*day)}
	if d, why := UntaggedFor("lib/a", rules); d != 3*day || why != "f:2: untagged 3d" {
		t.Errorf("got %v: %s", d, why)
	}
	if _, why := UntaggedFor("lib/a", []Compiled{keeping(t, Keep{Last: 1}), rules[3]}); why != "" {
		t.Errorf("no matching rule has one, and got %s", why)
	}
	if d, why := UntaggedFor("lib/a", []Compiled{staying(t, "f:1", "**", 0)}); d != 0 || why == "" {
		t.Errorf("no time at all: got %v: %s", d, why)
	}
}

func TestAnUntaggedOfLessThanNothingIsRefused(t *testing.T) {
	err := Rule{Match: "**", Untagged: new(-time.Second)}.Validate()
	if err == nil || !strings.HasPrefix(err.Error(), "untagged: -1s is less than nothing") {
		t.Errorf("got %v", err)
	}
}

func TestAllReasonsOfRulesSayTheirLine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var rules []Compiled
		for _, k := range []Keep{drawKeep(t), drawKeep(t)} {
			rules = append(rules, compiled(t, Rule{Match: "**", Keep: k, RequireBackup: rapid.SampledFrom([]string{"", "main"}).Draw(t, "backup"), MaxRemovals: 1, Line: "lastro.yaml:7"}))
		}
		tags := drawTags(t)
		ds, err := Decide("lib/a", tags, rules, now)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range ds {
			tag := tags[slices.IndexFunc(tags, func(o Tag) bool { return o.Name == d.Tag })]
			for _, why := range d.Reasons {
				if tag.Subject == "" && !tag.Since.IsZero() && !strings.HasPrefix(why, "lastro.yaml:7: ") && why != "a repository never loses its last tag" &&
					!strings.Contains(why, "protected") {
					t.Fatalf("%s: %q says no line", d.Tag, why)
				}
			}
		}
	})
}
