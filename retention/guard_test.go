package retention

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestTheGuardAllows(t *testing.T) {
	for _, c := range []struct {
		share float64
		of    int
		want  int
	}{
		{0.2, 12, 2}, {0.2, 9, 1}, {0.2, 10, 2}, {0.2, 4, 1}, {0.2, 1, 1}, {0.001, 3, 1},
		{0, 100, 0}, {1, 7, 7}, {0.5, 7, 3}, {0.29, 100, 29}, {0.57, 100, 57}, {0.07, 100, 7}, {0.289999, 100, 28},
	} {
		if got := allowed(c.share, c.of); got != c.want {
			t.Errorf("%s of %d: got %d, want %d", percent(c.share), c.of, got, c.want)
		}
	}
}

func TestTheGuardRefusesWhole(t *testing.T) {
	for _, c := range []struct {
		name    string
		max     []float64
		keep    int
		allowed int // -1: not refused
	}{
		{name: "two of ten are within 20 %", max: []float64{0.2}, keep: 8, allowed: -1},
		{name: "three of ten are not", max: []float64{0.2}, keep: 7, allowed: 2},
		{name: "a share of zero allows none", max: []float64{0}, keep: 9, allowed: 0},
		{name: "a share of zero is no obstacle when nothing goes", max: []float64{0}, keep: 10, allowed: -1},
		{name: "the smallest share of several rules holds", max: []float64{1, 0.1, 0.5}, keep: 8, allowed: 1},
		{name: "a rule that would empty a repository is refused", max: []float64{0.2}, keep: 0, allowed: 2},
		{name: "even all may go but the last", max: []float64{1}, keep: 0, allowed: -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			var rules []Compiled
			for i, share := range c.max {
				keep := Keep{Last: c.keep}
				if c.keep == 0 {
					keep = Keep{Tags: []string{"none"}}
				}
				rules = append(rules, compiled(t, Rule{Match: "**", Keep: keep, MaxRemovals: share, Line: fmt.Sprintf("lastro.yaml:%d", i+1)}))
			}
			got, err := Decide("lib/a", aged(0, 1, 2, 3, 4, 5, 6, 7, 8, 9), rules, now)
			refusal, refused := errors.AsType[*GuardError](err)
			if refused != (c.allowed >= 0) {
				t.Fatalf("got %v", err)
			}
			if n := len(removed(got)); c.keep > 0 && n != 10-c.keep || c.keep == 0 && n != 9 {
				t.Errorf("got %d removals in the plan, want all that would be", n)
			}
			if refused && (refusal.Allowed != c.allowed || refusal.Of != 10 || refusal.Remove != len(removed(got))) {
				t.Errorf("got %+v, want %d allowed", refusal, c.allowed)
			}
		})
	}
}

func TestARefusalNamesTheWayOut(t *testing.T) {
	rule := compiled(t, Rule{Match: "**", Keep: Keep{Last: 2}, MaxRemovals: 0.2, Line: "lastro.yaml:12"})
	_, err := Decide("docker.io/library/alpine", aged(1, 2, 3), []Compiled{compiled(t, Rule{Match: "**", Keep: Keep{Last: 1}, MaxRemovals: 0.2}), rule}, now)
	if err != nil {
		t.Fatal("one of three is always allowed", err)
	}
	_, err = Decide("docker.io/library/alpine", aged(1, 2, 3, 4, 5, 6), []Compiled{rule}, now)
	want := "refusing to remove 4 of the 6 tags of docker.io/library/alpine: max-removals 20% of lastro.yaml:12 allows 1: look with lastro retain --dry-run, then either keep more, or run lastro retain --max-removals 67%, or set max-removals: 67%"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestTheWayOutLeadsOut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		of := rapid.IntRange(1, 5000).Draw(t, "of")
		remove := rapid.IntRange(1, of).Draw(t, "remove")
		e := &GuardError{Remove: remove, Of: of}
		text := e.Error()
		text = text[strings.LastIndex(text, " ")+1:]
		var enough float64
		if _, err := fmt.Sscanf(text, "%g%%", &enough); err != nil {
			t.Fatal(text, err)
		}
		if enough > 100 || allowed(enough/100, of) < remove {
			t.Fatalf("%s of %d allows %d, want %d", text, of, allowed(enough/100, of), remove)
		}
	})
}

func TestCompile(t *testing.T) {
	for _, c := range []struct {
		name string
		rule Rule
		want []string // in the message; none: fine
	}{
		{name: "a plain rule is fine", rule: Rule{Match: "**", MaxRemovals: 0.2}},
		{name: "all faults come at once, with their keys",
			rule: Rule{Keep: Keep{Last: -1, PerVariant: -2, PerMajor: -3, PerMinor: -4, PerPatch: -5, Within: -1, Pulled: -1, Tags: []string{"a", ""}}, MaxRemovals: 2},
			want: []string{"match: is missing", "keep.last: -1", "keep.per-variant: -2", "keep.per-major: -3", "keep.per-minor: -4 is less than nothing (example: 3)", "keep.per-patch: -5", "keep.within: -1ns", "keep.pulled-within: -1ns", "keep.tags[1]: is empty", "max-removals: 200%"}},
		{name: "a share that is no number is refused", rule: Rule{Match: "**", MaxRemovals: math.NaN()}, want: []string{"max-removals: NaN"}},
		{name: "a negative share is refused", rule: Rule{Match: "**", MaxRemovals: -0.1}, want: []string{"max-removals: -10%"}},
		{name: "patterns that do not parse are named", rule: Rule{Match: "[", Keep: Keep{Tags: []string{"ok", "[a"}}}, want: []string{"match: not a pattern", "keep.tags[1]: not a pattern"}},
		{name: "a range that does not parse is named", rule: Rule{Match: "**", Keep: Keep{Semver: "["}}, want: []string{"keep.semver: not a range"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := c.rule.Compile(language)
			if len(c.want) == 0 && err != nil {
				t.Fatal(err)
			}
			for _, want := range c.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q in it", err, want)
				}
			}
			if err != nil && got.match != nil {
				t.Error("a rule with faults matches something")
			}
		})
	}
}
