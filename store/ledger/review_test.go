package ledger

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"lastro/mirror"
)

func held(repo, name string) Held { return Held{Repo: repo, Digest: dig(name)} }

func review(t *testing.T, l *Ledger, h Held) Review {
	t.Helper()
	r, ok, err := l.Review(t.Context(), h)
	must(t, err)
	if !ok {
		return Review{}
	}
	return r
}

// condemn asks about hs and condemns them at hour, to go two hours later.
func condemn(t *testing.T, l *Ledger, hour int, hs ...Held) {
	t.Helper()
	var answers []Review
	for _, h := range hs {
		r := review(t, l, h)
		if r.State == "" {
			r = Review{Held: h, Due: at(hour)}
			must(t, l.RecordReviews(t.Context(), []Review{r}))
		}
		r.State, r.Since, r.Due = Condemned, at(hour), at(hour+2)
		answers = append(answers, r)
	}
	_, err := l.RecordAnswers(t.Context(), answers, at(hour))
	must(t, err)
}

// dooms are the names of those of hs that go at hour.
func dooms(t *testing.T, l *Ledger, hour int, hs ...Held) (gone []Held) {
	t.Helper()
	deleting, err := l.RecordDeleting(t.Context(), hs, at(hour), at(hour-1))
	must(t, err)
	for _, r := range deleting {
		gone = append(gone, r.Held)
	}
	return gone
}

// withImage is a ledger in which r holds the manifests m, of a layer, and s, whose
// subject m is.
func withImage(t *testing.T) *Ledger {
	t.Helper()
	l := inMay(t)
	m := image("m", layer("x"))
	must(t, l.RecordGraph(t.Context(), "r", []mirror.Manifest{m, about(m, image("s"))}, nil))
	return l
}

func TestWhatIsAskedTwiceIsAnsweredAtTheEarlierTime(t *testing.T) {
	l := inMay(t)
	h := held("r", "m")
	for _, hour := range []int{5, 3, 4} {
		must(t, l.RecordReviews(t.Context(), []Review{{Held: h, Due: at(hour), Why: "w"}}))
	}
	diff(t, "review", review(t, l, h), Review{Held: h, State: Waiting, Since: at(5), Due: at(3), Why: "w"})
	for hour, want := range map[int]int{2: 0, 3: 1, 6: 1} {
		due, next, err := l.DueReviews(t.Context(), at(hour), nil, 10)
		if len(due) != want || next != nil || err != nil {
			t.Errorf("due at %d: %v, %v", hour, due, err)
		}
	}
}

func TestWhatIsDueIsReadInPages(t *testing.T) {
	l := inMay(t)
	want := map[digest.Digest]bool{}
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		must(t, l.RecordReviews(t.Context(), []Review{{Held: held("r", name), Due: at(1)}}))
		want[dig(name)] = true
	}
	got := map[digest.Digest]bool{}
	var from []byte
	for pages := 1; ; pages++ {
		due, next, err := l.DueReviews(t.Context(), at(1), from, 2)
		must(t, err)
		for _, r := range due {
			got[r.Digest] = true
		}
		if from = next; from == nil {
			diff(t, "pages", pages, 3)
			break
		}
	}
	diff(t, "due", got, want)
}

func TestWhatTakesBackWhatIsCondemned(t *testing.T) {
	h := held("r", "x")
	tests := []struct {
		name string
		then func(t *testing.T, l *Ledger) error
		want State
	}{
		{"whoever is told, after", func(t *testing.T, l *Ledger) error {
			return l.RecordReviews(t.Context(), []Review{{Held: h, Due: at(11), Told: at(11)}})
		}, Waiting},
		{"whoever is told, by a clock that was set back", func(t *testing.T, l *Ledger) error {
			return l.RecordReviews(t.Context(), []Review{{Held: h, Due: at(2), Told: at(2)}})
		}, Waiting},
		{"a tag that was at it and left since", func(t *testing.T, l *Ledger) error {
			return l.RecordReviews(t.Context(), []Review{{Held: h, Due: at(11), Left: at(11)}})
		}, Waiting},
		{"not a question alone", func(t *testing.T, l *Ledger) error {
			return l.RecordReviews(t.Context(), []Review{{Held: h, Due: at(11)}})
		}, Condemned},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := inMay(t)
			must(t, l.RecordReviews(t.Context(), []Review{{Held: h, Due: at(3), Told: at(3)}}))
			condemn(t, l, 10, h)
			must(t, test.then(t, l))
			diff(t, "state", review(t, l, h).State, test.want)
		})
	}
}

func TestAnAnswerToAQuestionThatChangedSinceIsNone(t *testing.T) {
	l := inMay(t)
	h := held("r", "x")
	must(t, l.RecordReviews(t.Context(), []Review{{Held: h, Due: at(3)}}))
	read := review(t, l, h)
	must(t, l.RecordReviews(t.Context(), []Review{{Held: h, Due: at(3), Told: at(4)}}))
	read.State, read.Due = Condemned, at(6)
	condemned, err := l.RecordAnswers(t.Context(), []Review{read}, at(5))
	if len(condemned) > 0 || err != nil {
		t.Errorf("condemned %v, %v", condemned, err)
	}
	diff(t, "state", review(t, l, h).State, Waiting)
}

func TestTheLastLook(t *testing.T) {
	m, x, s := held("r", "m"), held("r", "x"), held("r", "s")
	content := Held{Digest: dig("x")}
	tests := []struct {
		name   string
		change func(t *testing.T, l *Ledger) error
		at     int
		asked  []Held
		want   []Held
		state  map[Held]State // "" is no review
	}{
		{name: "what nothing needs goes", at: 12, asked: []Held{m}, want: []Held{m}, state: map[Held]State{m: Deleting}},
		{name: "what is not due stays condemned", at: 11, asked: []Held{m}, state: map[Held]State{m: Condemned}},
		{name: "what is part of what is condemned waits for it", at: 12, asked: []Held{x}, state: map[Held]State{x: Condemned}},
		{name: "what refers to what is condemned waits for it", at: 12, asked: []Held{s}, state: map[Held]State{s: Condemned}},
		{name: "content waits for its links", at: 12, asked: []Held{content}, state: map[Held]State{content: Condemned}},
		{name: "what a tag came to stays", at: 12, asked: []Held{m}, state: map[Held]State{m: ""},
			change: func(t *testing.T, l *Ledger) error {
				return l.RecordEvent(t.Context(), Event{Time: at(11), Repo: "r", Tag: "t", Event: Seen, Digest: dig("m")})
			}},
		{name: "what was protected stays, and is asked about when that ends", at: 12, asked: []Held{m}, state: map[Held]State{m: Waiting},
			change: func(t *testing.T, l *Ledger) error {
				return l.RecordProtection(t.Context(), Protection{Name: "p", Repo: "r", Digest: dig("m"), Owner: "o", Created: at(11), Expires: at(20)})
			}},
		{name: "what a new image needs stays", at: 12, asked: []Held{x}, state: map[Held]State{x: ""},
			change: func(t *testing.T, l *Ledger) error {
				return l.RecordGraph(t.Context(), "r", []mirror.Manifest{image("other", layer("x"))}, nil)
			}},
		{name: "content that another repository needs stays", at: 12, asked: []Held{content}, state: map[Held]State{content: ""},
			change: func(t *testing.T, l *Ledger) error {
				return l.RecordGraph(t.Context(), "elsewhere", []mirror.Manifest{image("other", layer("x"))}, nil)
			}},
		{name: "content that somebody mounts stays", at: 12, asked: []Held{content}, state: map[Held]State{content: ""},
			change: func(t *testing.T, l *Ledger) error {
				return l.RecordReviews(t.Context(), []Review{{Held: held("elsewhere", "x"), Due: at(11), Told: at(11)}})
			}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := withImage(t)
			condemn(t, l, 10, m)
			condemn(t, l, 10, x, s)
			condemn(t, l, 10, content)
			if test.change != nil {
				must(t, test.change(t, l))
			}
			diff(t, "goes", dooms(t, l, test.at, test.asked...), test.want)
			for h, want := range test.state {
				diff(t, h.String(), review(t, l, h).State, want)
			}
		})
	}
}

func TestWhatWasToldOfWithinAGraceDoesNotGo(t *testing.T) {
	l := inMay(t)
	h := held("r", "x")
	must(t, l.RecordReviews(t.Context(), []Review{{Held: h, Due: at(9), Told: at(9)}}))
	condemn(t, l, 9, h)
	deleting, err := l.RecordDeleting(t.Context(), []Held{h}, at(12), at(8))
	if len(deleting) > 0 || err != nil {
		t.Errorf("deleting %v, %v", deleting, err)
	}
	diff(t, "goes after a grace", dooms(t, l, 12, h), []Held{h})
}

func TestWhatLeavesAsksAboutWhatItNeeded(t *testing.T) {
	l := withImage(t)
	condemn(t, l, 10, held("r", "m"))
	for _, name := range []string{"x", "s"} {
		diff(t, name, review(t, l, held("r", name)).State, Waiting)
	}
	diff(t, "its content", review(t, l, Held{Digest: dig("m")}).State, Waiting)
	dooms(t, l, 12, held("r", "m"))
	must(t, l.RecordDeleted(t.Context(), []Held{held("r", "m")}, at(12)))
	diff(t, "itself", review(t, l, held("r", "m")), Review{})
	linked, err := l.Linked(t.Context(), "r", dig("m"))
	if linked || err != nil {
		t.Errorf("r holds it: %v, %v", linked, err)
	}
	checkIndexes(t, l)
}

func TestWhatWasNotToBeDeletedIsNotForgotten(t *testing.T) {
	l := withImage(t)
	condemn(t, l, 10, held("r", "m"))
	if err := l.RecordDeleted(t.Context(), []Held{held("r", "m")}, at(12)); err == nil {
		t.Error("no error")
	}
	linked, err := l.Linked(t.Context(), "r", dig("m"))
	if !linked || err != nil {
		t.Errorf("linked: %v, %v", linked, err)
	}
}

func TestContentThatIsGoneIsInTheGraphNoMore(t *testing.T) {
	l := withImage(t)
	m := Held{Digest: dig("m")}
	condemn(t, l, 10, held("r", "m"))
	dooms(t, l, 12, held("r", "m"))
	must(t, l.RecordDeleted(t.Context(), []Held{held("r", "m")}, at(12)))
	condemn(t, l, 12, m)
	diff(t, "goes", dooms(t, l, 14, m), []Held{m})
	must(t, l.RecordDeleted(t.Context(), []Held{m}, at(14)))
	if _, err := l.Manifest(t.Context(), dig("m")); err == nil {
		t.Error("the ledger knows the manifest")
	}
	parents, err := l.Parents(t.Context(), dig("x"))
	if len(parents) > 0 || err != nil {
		t.Errorf("parents of its layer: %v, %v", parents, err)
	}
}

func TestTheEndOfAProtectionAsks(t *testing.T) {
	p := Protection{Name: "p", Repo: "r", Digest: dig("m"), Owner: "o", Created: at(1), Expires: at(20)}
	forever := p
	forever.Expires = time.Time{}
	m := held("r", "m")
	t.Run("when it expires", func(t *testing.T) {
		l := withImage(t)
		protect(t, l, p)
		diff(t, "due", review(t, l, m).Due, at(20))
	})
	t.Run("when it is removed", func(t *testing.T) {
		l := withImage(t)
		protect(t, l, forever)
		diff(t, "before", review(t, l, m), Review{})
		must(t, l.RemoveProtection(t.Context(), "p", "r", dig("m"), "o"))
		diff(t, "after", review(t, l, m).State, Waiting)
	})
	t.Run("though it was asked about, and needed, before", func(t *testing.T) {
		l := withImage(t)
		protect(t, l, p)
		must(t, l.RecordReviews(t.Context(), []Review{{Held: m, Due: at(5)}}))
		answer := review(t, l, m)
		answer.State, answer.Due = "", at(100)
		_, err := l.RecordAnswers(t.Context(), []Review{answer}, at(6))
		must(t, err)
		diff(t, "due", review(t, l, m).Due, at(20))
	})
}

func TestReviewsAreOrderedByDigestTheContentFirst(t *testing.T) {
	l := inMay(t)
	must(t, l.RecordReviews(t.Context(), []Review{{Held: held("r", "x"), Due: at(1)}, {Held: Held{Digest: dig("x")}, Due: at(2)}}))
	var got []Held
	for _, r := range collect(t, l.Reviews(t.Context())) {
		got = append(got, r.Held)
	}
	if diff := cmp.Diff([]Held{{Digest: dig("x")}, held("r", "x")}, got); diff != "" {
		t.Error(diff)
	}
}
