package retention

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func drawProtections(t *rapid.T) (all []Protection) {
	for range max(0, rapid.IntRange(-4, 2).Draw(t, "protections")) {
		p := Protection{Why: "protected"}
		if n := rapid.IntRange(-3, 6).Draw(t, "protected days"); n != 0 {
			p.Until = now.Add(time.Duration(n) * day)
		}
		all = append(all, p)
	}
	return all
}

func TestProtectedTagsStay(t *testing.T) {
	shield := func(tag Tag, all ...Protection) Tag {
		tag.Protections = all
		return tag
	}
	old := Tag{Name: "old", Digest: "o", Since: now.Add(-99 * day)}
	sig := Tag{Name: "sig", Digest: "s", Subject: "o"}
	fresh := Tag{Name: "fresh", Digest: "f", Since: now}
	last := []Rule{{Match: "**", Keep: Keep{Last: 1}, MaxRemovals: 1, Line: "f:1"}}
	audit := Protection{Why: `protected as "audit" by ann`}
	week := Protection{Why: "for a week", Until: now.Add(7 * day)}
	for _, c := range []struct {
		name  string
		rules []Rule
		tags  []Tag // of the first is asked
		want  Decision
	}{
		{name: "what no line keeps", rules: last, tags: []Tag{shield(old, audit), fresh},
			want: Decision{Tag: "old", Digest: "o", Reasons: []string{audit.Why}}},
		{name: "until the protection ends", rules: last, tags: []Tag{shield(old, week), fresh},
			want: Decision{Tag: "old", Digest: "o", Reasons: []string{"for a week"}, Until: week.Until}},
		{name: "and no longer", rules: last, tags: []Tag{shield(old, Protection{"for a while", now}), fresh},
			want: Decision{Tag: "old", Digest: "o", Remove: true, Reasons: []string{"no longer for a while", "f:1: not in the last 1: it is number 2 by age"}}},
		{name: "beside lines that keep it", rules: last, tags: []Tag{shield(fresh, week), old},
			want: Decision{Tag: "fresh", Digest: "f", Reasons: []string{"for a week", "f:1: last 1: it is number 1 by age"}}},
		{name: "where no rule matches", tags: []Tag{shield(old, week)},
			want: Decision{Tag: "old", Digest: "o", Reasons: []string{"for a week", "no rule matches"}}},
		{name: "when the age is not known", rules: last, tags: []Tag{shield(Tag{Name: "x", Digest: "x"}, week), fresh},
			want: Decision{Tag: "x", Digest: "x", Reasons: []string{"for a week", "its age is not known"}}},
		{name: "what is attached to what goes", rules: last, tags: []Tag{shield(sig, audit), old, fresh},
			want: Decision{Tag: "sig", Digest: "s", Reasons: []string{audit.Why}}},
		{name: "until that ends", rules: last, tags: []Tag{shield(sig, week), old, fresh},
			want: Decision{Tag: "sig", Digest: "s", Reasons: []string{"for a week"}, Until: week.Until}},
		{name: "what is attached to what stays", rules: last, tags: []Tag{shield(Tag{Name: "sig", Digest: "s", Subject: "f"}, week), old, fresh},
			want: Decision{Tag: "sig", Digest: "s", Reasons: []string{"for a week", "attached to f, which stays with tag fresh"}}},
		{name: "what is attached to what is protected", rules: last, tags: []Tag{sig, shield(old, week), fresh},
			want: Decision{Tag: "sig", Digest: "s", Reasons: []string{"attached to o, which stays with tag old"}, Until: week.Until}},
		{name: "longer than what it is attached to", rules: last, tags: []Tag{shield(sig, audit), shield(old, week), fresh},
			want: Decision{Tag: "sig", Digest: "s", Reasons: []string{audit.Why, "attached to o, which stays with tag old"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var rules []Compiled
			for _, r := range c.rules {
				rules = append(rules, compiled(t, r))
			}
			ds, err := Decide("lib/a", c.tags, rules, now)
			if err != nil {
				t.Fatal(err)
			}
			c.want.Repo = "lib/a"
			if diff := cmp.Diff(c.want, find(t, ds, c.tags[0].Name)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRequiredBackups(t *testing.T) {
	rules := []Compiled{
		compiled(t, Rule{Match: "**", Keep: Keep{Last: 1}, MaxRemovals: 1, Line: "f:1"}),
		compiled(t, Rule{Match: "lib/*", Keep: Keep{Last: 1}, RequireBackup: "main", MaxRemovals: 1, Line: "f:2"}),
		compiled(t, Rule{Match: "else/*", Keep: Keep{Last: 1}, RequireBackup: "far", MaxRemovals: 1, Line: "f:3"}),
	}
	tags := aged(1, 5, 6, 7)
	tags[1].Backups, tags[2].Backups = []string{"main"}, []string{"far"}
	got, err := Decide("lib/a", tags, rules, now)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"d05"}, removed(got)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{`f:2: require-backup "main": not all of it is known to be there`}, find(t, got, "d07").Reasons); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"f:1: not in the last 1: it is number 2 by age", `f:2: not in the last 1: it is number 2 by age, all of it is in backup "main"`}, find(t, got, "d05").Reasons); diff != "" {
		t.Error(diff)
	}
}

func TestAProtectedTagNeverGoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tags, rules := drawTags(t), drawRules(t)
		got, err := Decide("lib/a", tags, rules, now)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range got {
			tag := tags[slices.IndexFunc(tags, func(o Tag) bool { return o.Name == d.Tag })]
			if d.Remove && isProtected(tag) {
				t.Fatalf("%s goes and is protected: %v", d.Tag, d.Reasons)
			}
		}
	})
}

func TestRequiredAreTheBackupsOfMatchingRules(t *testing.T) {
	var rules []Compiled
	for _, r := range []Rule{{Match: "**", RequireBackup: "main"}, {Match: "lib/*", RequireBackup: "far"}, {Match: "lib/a", RequireBackup: "main"}, {Match: "else/*", RequireBackup: "else"}, {Match: "*/*"}} {
		rules = append(rules, compiled(t, r))
	}
	got := Required("lib/a", rules)
	slices.Sort(got)
	if diff := cmp.Diff([]string{"far", "main"}, got); diff != "" {
		t.Error(diff)
	}
}
