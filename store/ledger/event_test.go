package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"lastro/mirror"
)

// ev is an event of r:t.
func ev(hour int, name string, d digest.Digest) Event {
	return Event{Time: at(hour), Repo: "r", Tag: "t", Event: name, Digest: d}
}

func TestATagIsWhereItsHistorySaysAtEveryTime(t *testing.T) {
	a, b := dig("a"), dig("b")
	state := func(d digest.Digest, since int) TagState {
		return TagState{Repo: "r", Tag: "t", Digest: d, Since: at(since)}
	}
	none := TagState{}
	for _, c := range []struct {
		name   string
		events []Event
		want   map[int]TagState // by hour
	}{
		{"nothing was recorded", nil, map[int]TagState{0: none, 9: none}},
		{"it was seen", []Event{ev(1, Seen, a)}, map[int]TagState{0: none, 1: state(a, 1), 9: state(a, 1)}},
		{"it moved", []Event{ev(1, Seen, a), ev(3, Moved, b)}, map[int]TagState{2: state(a, 1), 3: state(b, 3), 9: state(b, 3)}},
		{"it was removed", []Event{ev(1, Seen, a), ev(3, Removed, a)}, map[int]TagState{2: state(a, 1), 3: none, 9: none}},
		{"a removal needs no digest", []Event{ev(1, Seen, a), ev(3, Removed, "")}, map[int]TagState{2: state(a, 1), 3: none}},
		{"it came back: the run starts anew", []Event{ev(1, Seen, a), ev(3, Removed, a), ev(5, Seen, a)}, map[int]TagState{2: state(a, 1), 4: none, 5: state(a, 5), 9: state(a, 5)}},
		{"it was seen again: the run goes on", []Event{ev(1, Seen, a), ev(3, Seen, a), ev(5, Restored, a)}, map[int]TagState{2: state(a, 1), 4: state(a, 1), 9: state(a, 1)}},
		{"it moved away and back", []Event{ev(1, Seen, a), ev(3, Moved, b), ev(5, Moved, a)}, map[int]TagState{2: state(a, 1), 4: state(b, 3), 9: state(a, 5)}},
		{"a note changes nothing", []Event{ev(1, Seen, a), ev(3, "protected", "")}, map[int]TagState{2: state(a, 1), 9: state(a, 1)}},
		{"a note within a run does not end it", []Event{ev(1, Seen, a), ev(2, "protected", ""), ev(3, Seen, a)}, map[int]TagState{9: state(a, 1)}},
		{"two events of one moment: the later counts", []Event{ev(1, Seen, a), ev(1, Moved, b)}, map[int]TagState{1: state(b, 1)}},
		{"the clock was set back: the newest stays the newest", []Event{ev(5, Seen, a), ev(2, Moved, b)}, map[int]TagState{3: none, 5: state(b, 5), 9: state(b, 5)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := inMay(t)
			for _, e := range c.events {
				must(t, l.RecordEvent(t.Context(), e))
			}
			// Neighbours in key order must not be seen.
			for _, other := range []Event{{Repo: "r", Tag: "s"}, {Repo: "r", Tag: "t2"}, {Repo: "q", Tag: "t"}, {Repo: "r", Tag: ""}} {
				other.Time, other.Event, other.Digest = at(4), Seen, dig("other")
				must(t, l.RecordEvent(t.Context(), other))
			}
			for hour, want := range c.want {
				got, err := l.At(t.Context(), "r", "t", at(hour))
				if (want == none) != errors.Is(err, fs.ErrNotExist) {
					t.Errorf("at %d: got %v", hour, err)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("at %d: %s", hour, diff)
				}
			}
			now, err := l.Tag(t.Context(), "r", "t")
			last, lastErr := l.At(t.Context(), "r", "t", at(999))
			if diff := cmp.Diff(last, now); diff != "" || (err == nil) != (lastErr == nil) {
				t.Errorf("now is not what history says: %s (%v, %v)", diff, err, lastErr)
			}
		})
	}
}

func TestHistoryIsOrderedNumberedAndFilledIn(t *testing.T) {
	a, b := dig("a"), dig("b")
	l := inMay(t)
	must(t, l.RecordEvent(t.Context(), Event{Time: at(1).In(time.FixedZone("", 3600)), Repo: "r", Tag: "t", Digest: a, Event: Seen, By: "sync", Reason: "rule debian"}))
	must(t, l.RecordEvent(t.Context(), ev(2, Moved, b)))
	must(t, l.RecordEvent(t.Context(), ev(3, Removed, b)))
	must(t, l.RecordEvent(t.Context(), ev(4, Seen, b)))
	want := []Event{
		{Seq: 1, Time: at(1), Repo: "r", Tag: "t", Digest: a, Event: Seen, By: "sync", Reason: "rule debian"},
		{Seq: 2, Time: at(2), Repo: "r", Tag: "t", Digest: b, Previous: a, Event: Moved},
		{Seq: 3, Time: at(3), Repo: "r", Tag: "t", Digest: b, Previous: b, Event: Removed},
		{Seq: 4, Time: at(4), Repo: "r", Tag: "t", Digest: b, Event: Seen},
	}
	got, err := l.History(t.Context(), "r", "t")
	must(t, err)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want[2:], collect(t, l.Events(t.Context(), 2))); diff != "" {
		t.Error(diff)
	}
	if seq, err := l.LastSeq(t.Context()); seq != 4 || err != nil {
		t.Errorf("last number is %d, %v; want 4", seq, err)
	}
	if got := collect(t, l.Events(t.Context(), 1<<64-1)); len(got) != 0 {
		t.Errorf("events after the last possible: %v", got)
	}
}

func TestAnEventWithoutATimeIsNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := mustOpen(t, ledgerPath(t), Options{})
		start := time.Now()
		for _, d := range []digest.Digest{dig("a"), dig("b")} {
			must(t, l.RecordEvent(t.Context(), Event{Repo: "r", Tag: "t", Event: Seen, Digest: d}))
			time.Sleep(24 * time.Hour)
		}
		for age, want := range map[time.Duration]digest.Digest{0: dig("a"), 23 * time.Hour: dig("a"), 24 * time.Hour: dig("b"), 1000 * time.Hour: dig("b")} {
			got, err := l.At(t.Context(), "r", "t", start.Add(age))
			if err != nil || got.Digest != want {
				t.Errorf("after %v: got %v, %v; want %v", age, got.Digest, err, want)
			}
		}
		must(t, l.Close())
	})
}

func TestTheNewestEventCountsNowEvenIfItsTimeIsToCome(t *testing.T) {
	l := mustOpen(t, ledgerPath(t), Options{Now: func() time.Time { return at(5) }})
	must(t, l.ImportEvents(t.Context(), []Event{ev(8, Seen, dig("a"))})) // from a machine whose clock is ahead
	must(t, l.RecordEvent(t.Context(), Event{Repo: "r", Tag: "t", Event: Moved, Digest: dig("b")}))
	got, err := l.At(t.Context(), "r", "t", at(5))
	if err != nil || got.Digest != dig("b") {
		t.Errorf("got %v, %v; want what was recorded last", got, err)
	}
}

func TestTagsAndRepositoriesAreListedInOrder(t *testing.T) {
	l := inMay(t)
	must(t, l.RecordGraph(t.Context(), "only/by-digest", []mirror.Manifest{image("m")}, nil))
	var want []string
	for _, repo := range []string{"a", "a/b", "a-b", "c"} {
		for _, tag := range []string{"1", "1.0", "latest"} {
			must(t, l.RecordEvent(t.Context(), Event{Time: at(1), Repo: repo, Tag: tag, Event: Seen, Digest: dig(tag)}))
			want = append(want, repo+"\x00"+tag)
		}
	}
	must(t, l.RecordEvent(t.Context(), Event{Time: at(1), Repo: "gone", Tag: "t", Event: Seen, Digest: dig("g")}))
	must(t, l.RecordEvent(t.Context(), Event{Time: at(2), Repo: "gone", Tag: "t", Event: Removed}))
	slices.Sort(want)
	var got []string
	for _, s := range collect(t, l.Tags(t.Context(), "")) {
		got = append(got, s.Repo+"\x00"+s.Tag)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"a", "a-b", "a/b", "c", "only/by-digest"}, collect(t, l.Repositories(t.Context()))); diff != "" {
		t.Error(diff)
	}
	one := collect(t, l.Tags(t.Context(), "a"))
	if len(one) != 3 || one[0].Tag != "1" || one[0].Repo != "a" {
		t.Errorf("tags of a: %v", one)
	}
}

func TestListingsLongerThanAPageAreWhole(t *testing.T) {
	l := inMay(t)
	var events []Event
	for i := range 1501 {
		events = append(events, Event{Time: at(1), Repo: fmt.Sprintf("r%04d", i), Tag: "t", Event: Seen, Digest: dig("a")})
	}
	must(t, l.ImportEvents(t.Context(), events))
	if got := len(collect(t, l.Repositories(t.Context()))); got != len(events) {
		t.Errorf("%d repositories, want %d", got, len(events))
	}
	if got := len(collect(t, l.Tags(t.Context(), ""))); got != len(events) {
		t.Errorf("%d tags, want %d", got, len(events))
	}
	n := 0
	for _, err := range l.Events(t.Context(), 0) {
		must(t, err)
		if n++; n == 3 {
			break
		}
	}
	if n != 3 {
		t.Errorf("%d events before the break, want 3", n)
	}
}

func TestRecordingWithinAListingDoesNotWait(t *testing.T) {
	l := inMay(t)
	must(t, l.RecordEvent(t.Context(), ev(1, Seen, dig("a"))))
	for s, err := range l.Tags(t.Context(), "") {
		must(t, err)
		must(t, l.RecordEvent(t.Context(), Event{Time: at(2), Repo: s.Repo, Tag: s.Tag, Event: Removed}))
	}
	if got := collect(t, l.Tags(t.Context(), "")); len(got) != 0 {
		t.Errorf("tags after their removal: %v", got)
	}
}

func TestAnImportMayBeRepeatedAndCutShort(t *testing.T) {
	source := inMay(t)
	for hour, d := range []string{"a", "b", "b", "a"} {
		must(t, source.RecordEvent(t.Context(), ev(hour+1, Moved, dig(d))))
	}
	must(t, source.RecordEvent(t.Context(), Event{Time: at(2), Repo: "r", Tag: "gone", Event: Seen, Digest: dig("g")}))
	must(t, source.RecordEvent(t.Context(), Event{Time: at(3), Repo: "r", Tag: "gone", Event: Removed}))
	must(t, source.RecordEvent(t.Context(), Event{Time: at(3), Repo: "r", Event: Seen, Digest: dig("by digest")}))
	events := collect(t, source.Events(t.Context(), 0))

	l := inMay(t)
	must(t, l.ImportEvents(t.Context(), events[:3])) // cut short
	must(t, l.ImportEvents(t.Context(), append(events, events...)))
	must(t, l.ImportEvents(t.Context(), events))
	ignore := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Seq" }, cmp.Ignore())
	for _, tag := range []string{"t", "gone", ""} {
		want, err := source.History(t.Context(), "r", tag)
		must(t, err)
		got, err := l.History(t.Context(), "r", tag)
		must(t, err)
		if diff := cmp.Diff(want, got, ignore); diff != "" {
			t.Errorf("history of %q: %s", tag, diff)
		}
	}
	if diff := cmp.Diff(collect(t, source.Tags(t.Context(), "")), collect(t, l.Tags(t.Context(), ""))); diff != "" {
		t.Errorf("tags: %s", diff)
	}
	if seq, err := l.LastSeq(t.Context()); seq != uint64(len(events)) || err != nil {
		t.Errorf("%d events, %v; want %d", seq, err, len(events))
	}
}

func TestImportedEventsFindTheirPlaceAmongThoseThatAreThere(t *testing.T) {
	l := inMay(t)
	must(t, l.RecordEvent(t.Context(), ev(5, Restored, dig("a"))))
	must(t, l.ImportEvents(t.Context(), []Event{ev(3, Seen, dig("a")), ev(1, Seen, dig("b"))}))
	got, err := l.Tag(t.Context(), "r", "t")
	must(t, err)
	if want := (TagState{"r", "t", dig("a"), at(3)}); got != want {
		t.Errorf("got %v, want %v: older events reach into the run", got, want)
	}
	must(t, l.ImportEvents(t.Context(), []Event{ev(9, Moved, dig("c"))}))
	got, err = l.Tag(t.Context(), "r", "t")
	must(t, err)
	if got.Digest != dig("c") {
		t.Errorf("got %v, want what the newest says", got)
	}
	history, err := l.History(t.Context(), "r", "t")
	must(t, err)
	if !slices.IsSortedFunc(history, func(a, b Event) int { return a.Time.Compare(b.Time) }) || len(history) != 4 {
		t.Errorf("history is out of order: %v", history)
	}
}
