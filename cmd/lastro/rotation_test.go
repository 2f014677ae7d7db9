package main

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"lastro/store/check"
	"lastro/store/ledger"
)

func onDay(n int) time.Time { return time.Date(2026, 1, n, 4, 30, 0, 0, time.UTC) }

// remembered is the rotation as the ledger gives it back.
func remembered(t *testing.T, r rotation) rotation {
	t.Helper()
	raw, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return rotationOf(ledger.Job{Result: raw})
}

func TestEachRunReadsThePartThatIsLongestUnread(t *testing.T) {
	var r rotation
	var parts []int
	for day := range 7 {
		r = remembered(t, r).divided(3, onDay(day+1))
		parts = append(parts, r.next())
		r = r.after(r.next(), onDay(day+1), onDay(day+1).Add(time.Hour), check.Report{})
	}
	if d := cmp.Diff([]int{1, 2, 3, 1, 2, 3, 1}, parts); d != "" {
		t.Error(d)
	}
	if got := r.oldest(); got != onDay(5) {
		t.Errorf("oldest %s", got)
	}
}

func TestWhatWasNeverReadIsAsOldAsTheFirstRun(t *testing.T) {
	r := rotation{}.divided(3, onDay(1)).after(1, onDay(1), onDay(1), check.Report{})
	if got := r.oldest(); got != onDay(1) {
		t.Errorf("oldest %s", got)
	}
	if (rotation{}).oldest() != (time.Time{}) {
		t.Error("without a run something has an age")
	}
}

func TestPartsOfAnotherNumberAreAsOldAsTheOldest(t *testing.T) {
	r := rotation{}.divided(2, onDay(1)).after(1, onDay(1), onDay(1), check.Report{}).after(2, onDay(2), onDay(2), check.Report{})
	r = r.divided(4, onDay(3))
	if d := cmp.Diff([]time.Time{onDay(1), onDay(1), onDay(1), onDay(1)}, r.Parts); d != "" || r.next() != 1 {
		t.Error(r.next(), d)
	}
	half := rotation{}.divided(2, onDay(1)).after(1, onDay(1), onDay(1), check.Report{}).divided(3, onDay(2))
	if slices.ContainsFunc(half.Parts, func(t time.Time) bool { return !t.IsZero() }) {
		t.Errorf("what was not all read counts as read: %v", half.Parts)
	}
}

func TestARecordThatDoesNotReadIsNoRecord(t *testing.T) {
	if r := rotationOf(ledger.Job{Result: []byte(`{"parts": 7}`)}); r.Parts != nil {
		t.Errorf("%+v", r)
	}
}

func TestARunRemembersWhatItLeft(t *testing.T) {
	d := func(s string) digest.Digest { return digest.FromString(s) }
	report := check.Report{Problems: []check.Problem{
		{Kind: check.Corrupt, Digest: d("healed"), Repaired: true},
		{Kind: check.Corrupt, Digest: d("bad")},
		{Kind: check.Unreadable, Digest: d("unread")},
		{Kind: check.Missing, Digest: d("gone")},
		{Kind: check.Unlinked, Digest: d("unlinked"), Repo: "a"},
		{Kind: check.Orphaned, Digest: d("orphan")},
		{Kind: check.Abandoned, Path: "upload"},
	}}
	r := remembered(t, rotation{}.divided(1, onDay(1)).after(1, onDay(1), onDay(1), report))
	// What only reading shows is read again every time; the rest shows by itself.
	if diff := cmp.Diff([]digest.Digest{d("bad"), d("unread")}, r.Again); diff != "" {
		t.Error(diff)
	}
	if len(r.Worst) != 4 || r.left() != 4 {
		t.Errorf("%d kept, %d left", len(r.Worst), r.left())
	}
	kinds := r.web(time.Time{}).Problems
	if len(kinds) != len(check.Kinds()) || kinds["corrupt"] != 1 || kinds["orphaned"] != 1 || kinds["edges"] != 0 {
		t.Errorf("%v", kinds)
	}
	clean := r.after(1, onDay(2), onDay(2), check.Report{})
	if len(clean.Again)+len(clean.Worst)+clean.left() > 0 {
		t.Errorf("%+v", clean)
	}
}
