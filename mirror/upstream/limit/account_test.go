package limit

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var (
	pull = Request{Repo: "a", Pull: true}
	head = Request{Repo: "a"}
)

func hub(remaining int) http.Header {
	return headers("ratelimit-limit: 100;w=21600", fmt.Sprintf("ratelimit-remaining: %d;w=21600", remaining))
}

// told is an account that learnt from the answer to a HEAD.
func told(reserve float64, h http.Header) *Account {
	a := NewAccount(reserve)
	a.Take(now, head)
	a.Done(now, head, h, true)
	return a
}

func TestAPullDoesNotGoIntoTheReserve(t *testing.T) {
	for _, c := range []struct {
		name    string
		reserve float64
		h       http.Header
		pulls   int // that can begin; -1: any number
	}{
		{"what is above the reserve may go", 0.1, hub(13), 3},
		{"the reserve stays", 0.1, hub(10), 0},
		{"without a reserve all may go", 0, hub(3), 3},
		{"an upstream that says nothing is not limited", 0.1, http.Header{}, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := told(c.reserve, c.h)
			n := 0
			for n < 50 && a.Take(now, pull) {
				n++
			}
			if n != c.pulls && (c.pulls >= 0 || n != 50) {
				t.Errorf("%d pulls, want %d", n, c.pulls)
			}
			if !a.Take(now, head) {
				t.Error("a HEAD is refused")
			}
		})
	}
}

func TestARepositoryWithoutHeadersIsNotLimited(t *testing.T) {
	a := told(0.1, hub(0))
	free := Request{Repo: "official", Pull: true}
	if a.Take(now, free) {
		t.Fatal("nobody knows yet that it is free")
	}
	a.Done(now, Request{Repo: "official"}, http.Header{}, true)
	if !a.Take(now, free) || a.Take(now, pull) {
		t.Error("the one without headers is limited, or the other is not")
	}
	a.Done(now, free, hub(0), true)
	if a.Take(now, free) {
		t.Error("it is limited by now")
	}
}

func TestWhatNeverCameToTheUpstreamIsNotAPull(t *testing.T) {
	a := told(0, hub(1))
	for range 3 {
		if !a.Take(now, pull) {
			t.Fatal("the pull that failed was counted")
		}
		a.Done(now, pull, nil, false)
	}
	if got := a.State(now).Remaining; got != 1 {
		t.Errorf("%d left, want 1", got)
	}
}

func TestAnswersThatOvertakeEachOtherDoNotRaiseTheBudget(t *testing.T) {
	a := told(0, hub(5))
	for range 3 {
		a.Take(now, pull)
	}
	a.Done(now, pull, hub(2), true)
	a.Done(now, pull, hub(4), true)
	if got := a.State(now).Remaining; got != 1 {
		t.Errorf("%d left while a third goes on, want 1", got)
	}
	a.Done(now, pull, hub(3), true)
	if got := a.State(now).Remaining; got != 3 {
		t.Errorf("%d left, want what the upstream says when nothing goes on: 3", got)
	}
}

func TestPausesAreWaitedOutAndClosingsAreNot(t *testing.T) {
	a := NewAccount(0)
	a.Pause(now.Add(time.Minute))
	a.Pause(now.Add(time.Second)) // shorter than what was said before
	if got := a.Turn(now, head); got.Closed || !got.At.Equal(now.Add(time.Minute)) || a.Take(now, head) {
		t.Errorf("paused: %+v", got)
	}
	a.Close(now.Add(time.Minute / 2))
	if got := a.Turn(now, head); !got.Closed || !got.At.Equal(now.Add(time.Minute/2)) {
		t.Errorf("closed: %+v", got)
	}
	if !a.Take(now.Add(time.Minute), head) {
		t.Error("it stays shut")
	}
}

func TestRequestsThatWereOnTheirWayAtOnceAreOneStrike(t *testing.T) {
	a := NewAccount(0)
	for i, c := range []struct{ now, sent, want int }{{1, 0, 1}, {2, 0, 1}, {3, 1, 1}, {4, 2, 2}, {6, 5, 3}, {7, 3, 3}} {
		if got := a.Strike(now.Add(time.Duration(c.now)*time.Second), now.Add(time.Duration(c.sent)*time.Second)); got != c.want {
			t.Errorf("%d: %d strikes, want %d", i, got, c.want)
		}
	}
	a.Answered()
	if got := a.Strike(now, now); got != 1 {
		t.Errorf("%d strikes after an answer", got)
	}
}

func TestGuessesGrowWhileTheyAreTooShort(t *testing.T) {
	a, at := NewAccount(0), now
	for i, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		a.CloseByGuess(at)
		a.CloseByGuess(at) // another request of the same storm
		if got := a.Closed().Sub(at); got != want*time.Minute {
			t.Errorf("guess %d: %v, want %d minutes", i, got, want)
		}
		at = a.Closed().Add(20 * time.Second)
	}
	at = at.Add(2 * time.Hour)
	a.CloseByGuess(at)
	if got := a.Closed().Sub(at); got != time.Minute {
		t.Errorf("after hours of peace: %v, want a minute", got)
	}
}

func TestAShortWaitForABudgetIsWaitedOut(t *testing.T) {
	a := told(0, headers("RateLimit-Limit: 10", "RateLimit-Remaining: 0", "RateLimit-Reset: 60"))
	if got := a.Turn(now, pull); got.Closed || !got.At.Equal(now.Add(time.Minute)) {
		t.Errorf("%+v", got)
	}
	if !a.Take(now.Add(time.Minute), pull) {
		t.Error("after the reset it is refused")
	}
	if got := told(0, hub(0)).Turn(now, pull); !got.Closed {
		t.Errorf("a long one: %+v", got)
	}
}

func TestPullsOfOthersComeBackEvenly(t *testing.T) {
	a := told(0.1, hub(4)) // 96 of others in six hours; 7 must come back: 7/96 of them
	want := now.Add(6*time.Hour*7/96 + time.Second)
	if got := a.Turn(now, pull); !got.Closed || !got.At.Equal(want) {
		t.Errorf("%+v, want %v", got, want)
	}
	if !a.Take(want, pull) {
		t.Error("then it is refused")
	}
}

// rolling is an upstream with a rolling window.
type rolling struct {
	limit int
	pulls []time.Time
}

const window = time.Hour

func (r *rolling) left(at time.Time) int {
	n := r.limit
	for _, p := range r.pulls {
		if at.Before(p.Add(window)) {
			n--
		}
	}
	return n
}

func (r *rolling) headers(at time.Time) http.Header {
	return headers(fmt.Sprintf("ratelimit-limit: %d;w=3600", r.limit), fmt.Sprintf("ratelimit-remaining: %d;w=3600", max(0, r.left(at))))
}

func TestAnUpstreamThatOnlyWeAskIsNeverAskedInVainAndNeverLeftIdle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		up := &rolling{limit: rapid.IntRange(1, 30).Draw(t, "limit")}
		reserve := rapid.SampledFrom([]float64{0, 0.1, 0.5}).Draw(t, "reserve")
		kept := int(float64(up.limit) * reserve)
		a, at := NewAccount(reserve), now
		for range rapid.IntRange(1, 120).Draw(t, "steps") {
			at = at.Add(time.Duration(rapid.IntRange(1, 600).Draw(t, "seconds")) * time.Second)
			if !a.Take(at, pull) {
				if up.left(at) > kept {
					t.Fatalf("refused with %d left, %d in reserve", up.left(at), kept)
				}
				at = a.Turn(at, pull).At
				if !a.Take(at, pull) || up.left(at) <= kept {
					t.Fatalf("not open when it said: %d left, %d in reserve", up.left(at), kept)
				}
			}
			if up.left(at) <= kept {
				t.Fatalf("a pull with %d left, %d in reserve", up.left(at), kept)
			}
			up.pulls = append(up.pulls, at)
			a.Done(at, pull, up.headers(at), true)
		}
	})
}

func TestAnUpstreamThatOthersAskTooIsAskedAgainWithinAWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		up := &rolling{limit: rapid.IntRange(2, 30).Draw(t, "limit")}
		a, at := NewAccount(0.1), now
		for range 60 {
			at = at.Add(time.Duration(rapid.IntRange(1, 300).Draw(t, "seconds")) * time.Second)
			if rapid.Bool().Draw(t, "another") && up.left(at) > 0 {
				up.pulls = append(up.pulls, at)
				continue
			}
			turn := a.Turn(at, pull)
			if wait := turn.At.Sub(at); wait > window || !a.Turn(turn.At, pull).Open(turn.At) {
				t.Fatalf("it opens in %v: %+v", wait, turn)
			}
			if !a.Take(at, pull) {
				continue
			}
			if up.left(at) > 0 {
				up.pulls = append(up.pulls, at)
			}
			a.Done(at, pull, up.headers(at), true)
		}
	})
}
