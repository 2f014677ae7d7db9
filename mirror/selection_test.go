package mirror_test

import (
	"slices"
	"strings"
	"testing"

	"lastro/mirror"
)

// selectionCases are filters and what they select of a list.
var selectionCases = []struct {
	name   string
	filter mirror.TagFilter
	tags   string
	want   string
}{
	{"nothing said", mirror.TagFilter{}, "1.0 latest abc", "1.0 latest abc"},
	{"exclude wins", mirror.TagFilter{Include: []string{"1*"}, Exclude: []string{"*-rc*"}}, "1.0 1.1-rc1 2.0", "1.0"},
	{"a range takes variants and leaves prereleases", mirror.TagFilter{Semver: ">=1.20 <2"}, "1.19.9 1.20.0 1.21.3-alpine 1.22.0-rc1 2.0.0 latest", "1.20.0 1.21.3-alpine"},
	{"a range that names a prerelease", mirror.TagFilter{Semver: ">=1.22.0-0"}, "1.21.0 1.22.0-rc1 1.22.0", "1.22.0 1.22.0-rc1"},
	{"either line selects", mirror.TagFilter{Include: []string{"latest", "edge*"}, Semver: "^3"}, "latest edge-1 2.0.0 3.1.0", "3.1.0 edge-1 latest"},
	{"the newest of every minor line", mirror.TagFilter{Semver: ">=1.20", Latest: 2, Per: "minor"},
		"1.20.0 1.20.1 1.20.10 1.21.0 1.21.0-alpine 1.21.1-alpine 1.21.2-alpine", "1.20.1 1.20.10 1.21.0 1.21.1-alpine 1.21.2-alpine"},
	{"the newest of every major line", mirror.TagFilter{Latest: 1, Per: "major"}, "1.0.0 1.9.0 2.0.0 2.0.1 latest", "1.9.0 2.0.1"},
	{"the newest of every variant", mirror.TagFilter{Latest: 1}, "1.9.0 1.10.0 1.9.0-slim 1.10.0-slim", "1.10.0 1.10.0-slim"},
	{"words that were asked for are not counted", mirror.TagFilter{Include: []string{"*"}, Latest: 1}, "1.0.0 1.1.0 stable", "1.1.0 stable"},
	{"a tag that is named literally is not counted", mirror.TagFilter{Include: []string{"1.0.0", "1.*"}, Latest: 1}, "1.0.0 1.1.0 1.2.0", "1.0.0 1.2.0"},
	{"dates are no huge versions", mirror.TagFilter{Semver: ">=1"}, "1.2.3 20240102 2024-01-02", "1.2.3"},
	{"a regular expression captures the version", mirror.TagFilter{Include: []string{`/app-(?P<version>[0-9.]+)-final/`}, Semver: ">=1.5", Latest: 1}, "app-1.4.0-final app-1.6.0-final app-1.10.0-final other", "app-1.10.0-final"},
}

func TestTagsAreSelectedByNameAndVersion(t *testing.T) {
	for _, c := range selectionCases {
		t.Run(c.name, func(t *testing.T) {
			up := newShelf()
			for tag := range strings.FieldsSeq(c.tags) {
				up.tag("app", tag, up.image("app", tag).Digest)
			}
			s := newSite(t, up)
			got := tagsOf(s.cleanSync(t, mirror.Rule{From: "reg.test/app", Tags: c.filter}).Copied)
			want := strings.Fields(c.want)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("selected %q, want %q", got, want)
			}
			for tag := range strings.FieldsSeq(c.tags) {
				explanation, err := s.engine.Explain(t.Context(), []mirror.Rule{{From: "reg.test/app", Tags: c.filter}}, mirror.Reference{Host: "reg.test", Repository: "app", Tag: tag})
				if err != nil {
					t.Fatal(err)
				}
				if got := explanation.Rules[0]; got.Selected != slices.Contains(want, tag) || got.Reason == "" {
					t.Errorf("%s: explained as %+v", tag, got)
				}
			}
		})
	}
}

func TestARuleSaysWhyATagIsOrIsNotSelected(t *testing.T) {
	up := newShelf()
	for _, tag := range []string{"1.0.0", "1.1.0", "1.2.0", "1.3.0-rc1"} {
		up.tag("app", tag, up.image("app", tag).Digest)
	}
	s := newSite(t, up)
	rules := []mirror.Rule{
		{Name: "newest", From: "reg.test/app", Tags: mirror.TagFilter{Semver: "^1", Latest: 2, Exclude: []string{"*-rc*"}}},
		{Name: "other", From: "reg.test/other"},
	}
	for tag, want := range map[string]string{
		"1.0.0":     "rule newest: not selected: 1.0.0 is in the range \"^1\", but the line has newer ones: 1.2.0, 1.1.0\n  a sync would do: nothing\n",
		"1.2.0":     "rule newest: selected, to reg.test/app: 1.2.0 is in the range \"^1\" and among the newest 2 of its line\n  a sync would do: copy: " + up.tags["app"]["1.2.0"].String() + " (new upstream)\n",
		"1.3.0-rc1": "rule newest: not selected: 1.3.0-rc1 is excluded by \"*-rc*\"\n",
		"1.4.0":     "  a sync would do: failure: the upstream does not have it\n",
	} {
		x, err := s.engine.Explain(t.Context(), rules, mirror.Reference{Host: "reg.test", Repository: "app", Tag: tag})
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		if err := x.Print(&out); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), want) || !strings.Contains(out.String(), "rule other: not selected: reg.test/app is not meant by \"reg.test/other\"\n") {
			t.Errorf("got\n%swant\n%s", &out, want)
		}
	}
	for repo := range s.store.Repositories(t.Context()) {
		t.Errorf("an explanation made the repository %s", repo)
	}
}

func TestFaultsOfASelectionNameTheirKey(t *testing.T) {
	for key, rule := range map[string]mirror.Rule{
		"tags.semver:":      {From: "reg.test/app", Tags: mirror.TagFilter{Semver: ">>1"}},
		"tags.latest:":      {From: "reg.test/app", Tags: mirror.TagFilter{Latest: -1}},
		"tags.per:":         {From: "reg.test/app", Tags: mirror.TagFilter{Per: "week"}},
		"immutable:":        {From: "reg.test/app", Immutable: []string{"/(/"}},
		"min-age:":          {From: "reg.test/app", MinAge: -1},
		"min-age-except:":   {From: "reg.test/app", MinAgeExcept: []string{"["}},
		"removed-upstream:": {From: "reg.test/app", RemovedUpstream: "delete"},
	} {
		if err := rule.Validate(); err == nil || !strings.HasPrefix(err.Error(), key) {
			t.Errorf("%s got %v", key, err)
		}
	}
}
