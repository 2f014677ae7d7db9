package retention

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// taken are snapshots of these times, each stored a minute later.
func taken(times ...string) (all []Snapshot) {
	for _, text := range times {
		at, err := time.Parse("2006-01-02T15:04", text)
		if err != nil {
			panic(err)
		}
		all = append(all, Snapshot{ID: text, Time: at, Stored: at.Add(time.Minute)})
	}
	return all
}

func forgotten(ds []SnapshotDecision) (ids []string) {
	for _, d := range ds {
		if d.Remove {
			ids = append(ids, d.ID)
		}
	}
	return ids
}

func TestDecideSnapshots(t *testing.T) {
	// now is Sunday, 2026-03-01, noon.
	week := taken("2026-02-23T08:00", "2026-02-24T08:00", "2026-02-27T08:00", "2026-02-27T20:00", "2026-02-28T08:00", "2026-03-01T08:00")
	for _, c := range []struct {
		name string
		keep Generations
		all  []Snapshot
		want []string
	}{
		{name: "without lines all stay", all: week},
		{name: "a vault without snapshots loses none", keep: Generations{Last: 1}},
		{name: "last keeps the newest", keep: Generations{Last: 4}, all: week, want: []string{"2026-02-23T08:00", "2026-02-24T08:00"}},
		{name: "daily keeps the newest of a day", keep: Generations{Daily: 9}, all: week, want: []string{"2026-02-27T08:00"}},
		{name: "daily counts days that have a snapshot", keep: Generations{Daily: 4}, all: week, want: []string{"2026-02-23T08:00", "2026-02-27T08:00"}},
		{name: "a day is one of UTC, whatever zone a time is written in", keep: Generations{Daily: 9}, all: []Snapshot{
			{ID: "a", Time: time.Date(2026, 2, 27, 1, 0, 0, 0, time.FixedZone("east", 3*3600)), Stored: now},
			{ID: "b", Time: time.Date(2026, 2, 26, 23, 0, 0, 0, time.UTC), Stored: now},
		}, want: []string{"a"}},
		{name: "a week begins on Monday, and may lie in two years", keep: Generations{Weekly: 9},
			all: taken("2025-12-28T08:00", "2025-12-29T08:00", "2026-01-01T08:00", "2026-01-04T08:00", "2026-01-05T08:00"), want: []string{"2025-12-29T08:00", "2026-01-01T08:00"}},
		{name: "monthly and yearly keep the newest of each", keep: Generations{Monthly: 2, Yearly: 2},
			all:  taken("2024-01-01T08:00", "2024-12-31T08:00", "2025-06-01T08:00", "2025-12-30T08:00", "2026-01-15T08:00", "2026-02-02T08:00", "2026-02-03T08:00"),
			want: []string{"2024-01-01T08:00", "2024-12-31T08:00", "2025-06-01T08:00", "2026-02-02T08:00"}},
		{name: "any line keeps", keep: Generations{Last: 1, Daily: 2, Weekly: 2, Within: 3 * day}, all: week, want: []string{"2026-02-23T08:00", "2026-02-24T08:00"}},
		{name: "within goes by the clock of the bucket", keep: Generations{Within: 2 * day}, all: []Snapshot{
			{ID: "slow", Time: now.Add(-4 * day), Stored: now.Add(-2*day + 1)}, {ID: "old", Time: now.Add(-3 * day), Stored: now.Add(-2 * day)},
		}, want: []string{"old"}},
		{name: "the last one stays when no line keeps any", keep: Generations{Within: time.Hour}, all: week[:3], want: []string{"2026-02-23T08:00", "2026-02-24T08:00"}},
		{name: "a snapshot of unknown age stays", keep: Generations{Last: 1}, all: append(slices.Clone(week[4:]), Snapshot{ID: "unknown", Time: now}), want: []string{"2026-02-28T08:00"}},
		{name: "what is protected stays", keep: Generations{Last: 1}, all: []Snapshot{
			{ID: "a", Time: now.Add(-2 * day), Stored: now.Add(-2 * day), Protections: []Protection{{Why: "the newest that was found right"}}},
			{ID: "b", Time: now.Add(-day), Stored: now.Add(-day)}, {ID: "c", Time: now, Stored: now},
		}, want: []string{"b"}},
		{name: "snapshots of a made-up date push no other one out", keep: Generations{Last: 1, Daily: 1}, all: append(slices.Clone(week[4:]),
			Snapshot{ID: "future", Time: now.Add(2 * day), Stored: now}, Snapshot{ID: "past", Time: now.Add(-60 * day), Stored: now}), want: []string{"2026-02-28T08:00"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := DecideSnapshots(c.all, c.keep, now)
			if diff := cmp.Diff(c.want, forgotten(got)); diff != "" {
				t.Error(diff)
			}
			if len(got) != len(c.all) || slices.ContainsFunc(got, func(d SnapshotDecision) bool { return len(d.Reasons) == 0 }) {
				t.Errorf("got %+v, want a decision with reasons for each", got)
			}
		})
	}
}

func TestWhyASnapshotStaysOrGoes(t *testing.T) {
	all := append(taken("2024-05-01T08:00", "2025-12-31T08:00", "2026-02-27T08:00", "2026-02-27T20:00", "2026-02-28T08:00", "2026-03-01T08:00"),
		Snapshot{ID: "unknown", Time: now}, Snapshot{ID: "misdated", Time: now.Add(-60 * day), Stored: now})
	all[2].Protections = []Protection{{Why: "the newest that was read whole and found right"}}
	keep := Generations{Last: 2, Daily: 3, Weekly: 1, Monthly: 2, Yearly: 2, Within: 30 * time.Hour}
	golden(t, "snapshots.json", slices.Concat(DecideSnapshots(all, keep, now), DecideSnapshots(all[:1], Generations{Within: time.Hour}, now), DecideSnapshots(all[:1], Generations{}, now)))
}

func drawSnapshots(t *rapid.T) (all []Snapshot) {
	for i, hours := range rapid.SliceOfN(rapid.IntRange(0, 24*800), 0, 40).Draw(t, "ages in hours") {
		at := now.Add(-time.Duration(hours) * time.Hour)
		all = append(all, Snapshot{ID: fmt.Sprintf("%02d", i), Time: at, Stored: at.Add(time.Duration(rapid.IntRange(0, 100).Draw(t, "minutes")) * time.Minute)})
	}
	return all
}

func drawGenerations(t *rapid.T) Generations {
	n := func(name string) int { return rapid.IntRange(0, 4).Draw(t, name) }
	return Generations{Last: n("last"), Daily: n("daily"), Weekly: n("weekly"), Monthly: n("monthly"), Yearly: n("yearly"), Within: time.Duration(n("within")) * day}
}

// TestForgettingAgainForgetsNothingMore holds for any snapshots: what goes was no
// reason for anything to stay, and what stays is what stayed.
func TestForgettingAgainForgetsNothingMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all, keep := drawSnapshots(t), drawGenerations(t)
		var left []Snapshot
		gone := forgotten(DecideSnapshots(all, keep, now))
		for _, s := range all {
			if !slices.Contains(gone, s.ID) {
				left = append(left, s)
			}
		}
		if again := forgotten(DecideSnapshots(left, keep, now)); len(again) > 0 {
			t.Fatalf("%v go at the second look", again)
		}
		if len(all) > 0 && len(left) == 0 {
			t.Fatal("nothing is left")
		}
	})
}

// TestEveryPeriodHasItsSnapshot says in other words what daily to yearly mean.
func TestEveryPeriodHasItsSnapshot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all, keep := drawSnapshots(t), drawGenerations(t)
		if keep.KeepsAll() {
			return
		}
		gone := forgotten(DecideSnapshots(all, keep, now))
		slices.SortFunc(all, newestFirst)
		want := map[string]bool{}
		for i, s := range all {
			want[s.ID] = i < keep.Last || keep.Within > 0 && now.Sub(s.Stored) < keep.Within
		}
		for _, p := range keep.periods() {
			seen := []string{}
			for _, s := range all {
				if name := p.of(s.Time.UTC()); !slices.Contains(seen, name) {
					want[s.ID] = want[s.ID] || len(seen) < p.newest
					seen = append(seen, name)
				}
			}
		}
		for i, s := range all {
			last := i == 0 && len(gone) == len(all)-1
			if stays := !slices.Contains(gone, s.ID); stays != want[s.ID] && !(stays && last) {
				t.Fatalf("%s of %s stays: %t, want %t", s.ID, s.Time, stays, want[s.ID])
			}
		}
	})
}

func TestMoreThanAShareOfSnapshotsIsRefused(t *testing.T) {
	for _, c := range []struct {
		remove, of int
		share      float64
		refused    bool
	}{{0, 0, 0, false}, {5, 10, 0.5, false}, {6, 10, 0.5, true}, {1, 3, 0.1, false}, {1, 3, 0, true}, {9, 10, 1, false}} {
		err := GuardSnapshots("main", c.remove, c.of, c.share)
		if e, is := errors.AsType[*SnapshotGuardError](err); is != c.refused || is && !strings.Contains(e.Error(), "lastro backup forget main --max-removals") {
			t.Errorf("%+v: got %v", c, err)
		}
	}
}

func TestGenerationsAreValidated(t *testing.T) {
	err := Generations{Last: -1, Daily: -1, Weekly: -2, Monthly: -3, Yearly: -4, Within: -1}.Validate()
	if n := strings.Count(fmt.Sprint(err), "less than nothing"); n != 6 {
		t.Errorf("got %v, want six faults", err)
	}
	if err := (Generations{Last: 3, Within: day}).Validate(); err != nil {
		t.Error(err)
	}
}
