package retention

import (
	"errors"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const day = 24 * time.Hour

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// glob is a Matcher as simple as these tests need it: ** matches all.
type glob string

func (g glob) String() string { return string(g) }

func (g glob) Match(name string) bool {
	ok, _ := path.Match(string(g), name)
	return ok || g == "**"
}

func parse(text string) (Matcher, error) {
	if strings.HasPrefix(text, "[") {
		return nil, errors.New("not a pattern")
	}
	return glob(text), nil
}

// above is a range as simple as these tests need it: names after its text.
type above string

func (a above) String() string         { return string(a) }
func (a above) Match(name string) bool { return name > string(a) }

// lines knows versions of a letter and a digit, except those of the letter c,
// which are no versions. A major line is of a letter.
func lines(tags []string, per string) map[string][]string {
	out := map[string][]string{}
	for _, tag := range tags {
		if len(tag) == 2 && tag[0] != 'c' && '0' <= tag[1] && tag[1] <= '9' {
			key := map[string]string{"variant": "**", "major": tag[:1] + "*", "minor": tag, "patch": tag}[per]
			out[key] = append(out[key], tag)
		}
	}
	for _, line := range out {
		slices.Sort(line)
		slices.Reverse(line)
	}
	return out
}

var language = Language{
	Pattern: parse,
	Range: func(text string) (Matcher, error) {
		if strings.HasPrefix(text, "[") {
			return nil, errors.New("not a range")
		}
		return above(text), nil
	},
	Lines: lines,
}

// keeping is a rule for all repositories that may remove everything.
func keeping(t interface{ Fatal(...any) }, k Keep) Compiled {
	return compiled(t, Rule{Match: "**", Keep: k, MaxRemovals: 1})
}

func compiled(t interface{ Fatal(...any) }, r Rule) Compiled {
	c, err := r.Compile(language)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// aged are tags named for their age in days.
func aged(days ...int) (tags []Tag) {
	for _, n := range days {
		name := "d" + string(rune('0'+n/10)) + string(rune('0'+n%10))
		tags = append(tags, Tag{Name: name, Digest: "digest of " + name, Since: now.Add(-time.Duration(n) * day)})
	}
	return tags
}

func removed(ds []Decision) (names []string) {
	for _, d := range ds {
		if d.Remove {
			names = append(names, d.Tag)
		}
	}
	return names
}

func find(t *testing.T, ds []Decision, tag string) Decision {
	t.Helper()
	for _, d := range ds {
		if d.Tag == tag {
			return d
		}
	}
	t.Fatalf("no decision on %s", tag)
	return Decision{}
}

func TestDecide(t *testing.T) {
	old := now.Add(-99 * day)
	for _, c := range []struct {
		name  string
		rules []Rule
		tags  []Tag
		want  []string // removed
	}{
		{name: "without rules nothing goes", tags: aged(1, 90)},
		{name: "a tag that no rule matches stays", rules: []Rule{{Match: "other/*", Keep: Keep{Last: 1}, MaxRemovals: 1}}, tags: aged(1, 90)},
		{name: "a rule without lines keeps everything", rules: []Rule{{Match: "**", MaxRemovals: 1}}, tags: aged(1, 90)},
		{name: "last keeps the newest by age", rules: []Rule{{Match: "**", Keep: Keep{Last: 2}, MaxRemovals: 1}}, tags: aged(9, 1, 5, 7), want: []string{"d07", "d09"}},
		{name: "last keeps all when there are no more", rules: []Rule{{Match: "**", Keep: Keep{Last: 2}, MaxRemovals: 1}}, tags: aged(9, 1)},
		{name: "of tags of the same time the later name counts as newer",
			rules: []Rule{{Match: "**", Keep: Keep{Last: 1}, MaxRemovals: 1}},
			tags:  []Tag{{Name: "b", Since: old}, {Name: "c", Since: old}, {Name: "a", Since: old}}, want: []string{"a", "b"}},
		{name: "within keeps what is younger and not what is just as old",
			rules: []Rule{{Match: "**", Keep: Keep{Within: 7 * day}, MaxRemovals: 1}},
			tags: []Tag{
				{Name: "younger", Since: now.Add(-7*day + 1)},
				{Name: "exact", Since: now.Add(-7 * day)},
				{Name: "older", Since: now.Add(-7*day - 1)},
			}, want: []string{"exact", "older"}},
		{name: "a tag from the future is within", rules: []Rule{{Match: "**", Keep: Keep{Within: time.Hour}, MaxRemovals: 1}},
			tags: append(aged(9), Tag{Name: "future", Since: now.Add(day)}), want: []string{"d09"}},
		{name: "the same time in another zone is the same time", rules: []Rule{{Match: "**", Keep: Keep{Last: 1}, MaxRemovals: 1}},
			tags: []Tag{{Name: "a", Since: old}, {Name: "b", Since: old.In(time.FixedZone("east", 9*3600))}}, want: []string{"a"}},
		{name: "pulled-within keeps what was pulled later, and what may have been",
			rules: []Rule{{Match: "**", Keep: Keep{Pulled: 7 * day}, MaxRemovals: 1}},
			tags: []Tag{
				{Name: "later", Since: old, Pulled: now.Add(-7*day + 1)},
				{Name: "exact", Since: old, Pulled: now.Add(-7 * day)},
				{Name: "unknown", Since: old},
			}, want: []string{"exact"}},
		{name: "pulled-within keeps what within does not", rules: []Rule{{Match: "**", Keep: Keep{Within: day, Pulled: 7 * day}, MaxRemovals: 1}},
			tags: []Tag{{Name: "used", Since: old, Pulled: now.Add(-2 * day)}, {Name: "unused", Since: old, Pulled: old}}, want: []string{"unused"}},
		{name: "tags keeps by name", rules: []Rule{{Match: "**", Keep: Keep{Tags: []string{"*-lts", "stable"}}, MaxRemovals: 1}},
			tags: []Tag{{Name: "1-lts", Since: old}, {Name: "stable", Since: old}, {Name: "edge", Since: old}, {Name: "lts-1", Since: old}}, want: []string{"edge", "lts-1"}},
		{name: "per-major keeps the newest of each line by version, however old they are",
			rules: []Rule{{Match: "**", Keep: Keep{PerMajor: 2}, MaxRemovals: 1}},
			tags:  []Tag{{Name: "a1", Since: now}, {Name: "a2", Since: old}, {Name: "a3", Since: old}, {Name: "b1", Since: old}}, want: []string{"a1"}},
		{name: "per-variant keeps the newest of all", rules: []Rule{{Match: "**", Keep: Keep{PerVariant: 2}, MaxRemovals: 1}},
			tags: []Tag{{Name: "a1", Since: old}, {Name: "a3", Since: old}, {Name: "b1", Since: old}}, want: []string{"a1"}},
		{name: "per-minor and per-patch are lines of their own", rules: []Rule{
			{Match: "**", Keep: Keep{PerMinor: 1}, MaxRemovals: 1}, {Match: "**", Keep: Keep{PerPatch: 1}, MaxRemovals: 1},
		}, tags: []Tag{{Name: "a1", Since: old}, {Name: "c1", Since: old}, {Name: "b1", Since: old}}, want: []string{"c1"}},
		{name: "what is no version is not kept by lines of versions", rules: []Rule{{Match: "**", Keep: Keep{PerVariant: 9, PerMajor: 9}, MaxRemovals: 1}},
			tags: []Tag{{Name: "a1", Since: old}, {Name: "latest", Since: now}, {Name: "c1", Since: now}}, want: []string{"c1", "latest"}},
		{name: "attached tags are not counted by lines of versions", rules: []Rule{{Match: "**", Keep: Keep{PerMajor: 1}, MaxRemovals: 1}},
			tags: []Tag{{Name: "a1", Digest: "x", Since: old}, {Name: "a9", Digest: "y", Subject: "x"}, {Name: "b1", Digest: "z", Since: old}}},
		{name: "semver keeps a range", rules: []Rule{{Match: "**", Keep: Keep{Semver: "a5"}, MaxRemovals: 1}},
			tags: []Tag{{Name: "a4", Since: old}, {Name: "a6", Since: old}, {Name: "b1", Since: old}}, want: []string{"a4"}},
		{name: "any line keeps", rules: []Rule{{Match: "**", Keep: Keep{Last: 1, Within: 7 * day, Tags: []string{"d50"}}, MaxRemovals: 1}},
			tags: aged(1, 6, 8, 50), want: []string{"d08"}},
		{name: "any rule keeps", rules: []Rule{
			{Match: "**", Keep: Keep{Last: 1}, MaxRemovals: 1},
			{Match: "lib/*", Keep: Keep{Tags: []string{"d50"}}, MaxRemovals: 1},
		}, tags: aged(1, 6, 50), want: []string{"d06"}},
		{name: "a tag of unknown age stays, and is not the newest",
			rules: []Rule{{Match: "**", Keep: Keep{Last: 1}, MaxRemovals: 1}}, tags: append(aged(1, 2), Tag{Name: "unknown"}), want: []string{"d02"}},
		{name: "the last tag stays when no line keeps any", rules: []Rule{{Match: "**", Keep: Keep{Tags: []string{"none"}}, MaxRemovals: 1}},
			tags: aged(5, 3, 9), want: []string{"d05", "d09"}},
		{name: "a repository of one tag keeps it", rules: []Rule{{Match: "**", Keep: Keep{Within: day}, MaxRemovals: 1}}, tags: aged(9)},
	} {
		t.Run(c.name, func(t *testing.T) {
			var rules []Compiled
			for _, r := range c.rules {
				rules = append(rules, compiled(t, r))
			}
			got, err := Decide("lib/a", c.tags, rules, now)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, removed(got)); diff != "" {
				t.Error(diff)
			}
			if len(got) != len(c.tags) || slices.ContainsFunc(got, func(d Decision) bool { return d.Repo != "lib/a" || len(d.Reasons) == 0 }) {
				t.Errorf("got %+v, want one decision with reasons for each tag", got)
			}
		})
	}
}

func TestZeroKeeps(t *testing.T) {
	if (Decision{}).Remove {
		t.Error("the zero decision removes")
	}
	got, err := Decide("lib/a", aged(1, 90), []Compiled{{}}, now)
	if err != nil || len(removed(got)) > 0 {
		t.Errorf("got %v, %v; the zero rule must match nothing", removed(got), err)
	}
	if got, err := Decide("lib/a", nil, []Compiled{keeping(t, Keep{Last: 1})}, now); err != nil || len(got) != 0 {
		t.Errorf("got %v, %v for a repository without tags", got, err)
	}
}

func TestUntil(t *testing.T) {
	for _, c := range []struct {
		name string
		keep []Keep
		tag  string // "": d10
		want time.Time
	}{
		{name: "a tag that goes has none", keep: []Keep{{Within: day}}},
		{name: "within says until when", keep: []Keep{{Within: 20 * day}}, want: now.Add(10 * day)},
		{name: "pulled-within says until when, if nobody pulls it", keep: []Keep{{Within: 12 * day, Pulled: 15 * day}}, tag: "pulled", want: now.Add(11 * day)},
		{name: "the longest of several counts", keep: []Keep{{Within: 20 * day}, {Within: 30 * day}, {Within: 15 * day}}, want: now.Add(20 * day)},
		{name: "last keeps for a time that is not known", keep: []Keep{{Within: 20 * day, Last: 5}}},
		{name: "a line of versions keeps for a time that is not known", keep: []Keep{{Within: 20 * day}, {PerVariant: 1, Tags: []string{"none"}}}, tag: "b1"},
		{name: "a range keeps for a time that is not known", keep: []Keep{{Within: 20 * day}, {Semver: "d09"}}},
		{name: "a name keeps for a time that is not known", keep: []Keep{{Within: 20 * day}, {Tags: []string{"d10"}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var rules []Compiled
			for _, k := range c.keep {
				rules = append(rules, keeping(t, k))
			}
			got, err := Decide("lib/a", append(aged(0, 10), Tag{Name: "b1", Since: now.Add(-10 * day)}, Tag{Name: "pulled", Since: now.Add(-10 * day), Pulled: now.Add(-4 * day)}), rules, now)
			if err != nil {
				t.Fatal(err)
			}
			if c.tag == "" {
				c.tag = "d10"
			}
			if d := find(t, got, c.tag); !d.Until.Equal(c.want) {
				t.Errorf("got %v, want %v", d.Until, c.want)
			}
		})
	}
}

func TestOrderMeansNothing(t *testing.T) {
	rules := []Compiled{
		compiled(t, Rule{Match: "**", Keep: Keep{Last: 2}, MaxRemovals: 1, Line: "f:1"}),
		compiled(t, Rule{Match: "lib/*", Keep: Keep{Within: 9 * day}, MaxRemovals: 1, Line: "f:2"}),
		compiled(t, Rule{Match: "lib/a", Keep: Keep{Tags: []string{"d4*"}}, MaxRemovals: 1, Line: "f:3"}),
	}
	tags := append(aged(1, 1, 8, 9, 40, 50, 0), Tag{Name: "sig", Digest: "x", Subject: "digest of d40"}, Tag{Name: "sbom", Subject: "x"})
	tags[1].Name = "twin"
	want, err := Decide("lib/a", tags, rules, now)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		r.Shuffle(len(tags), func(i, j int) { tags[i], tags[j] = tags[j], tags[i] })
		r.Shuffle(len(rules), func(i, j int) { rules[i], rules[j] = rules[j], rules[i] })
		got, err := Decide("lib/a", tags, rules, now)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	}
}

func TestDecideLeavesItsArgumentsAlone(t *testing.T) {
	tags, rules := aged(1, 9, 5), []Compiled{keeping(t, Keep{Last: 2}), keeping(t, Keep{Last: 1})}
	before := slices.Clone(tags)
	if _, err := Decide("lib/a", tags, rules, now); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, tags); diff != "" {
		t.Error(diff)
	}
	if rules[0].rule.Keep.Last != 2 {
		t.Error("the rules were reordered")
	}
}
