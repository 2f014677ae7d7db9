package mirror_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"lastro/mirror/sample"
	"lastro/mirror/upstream/upstreamtest"
)

var theSchedule = flag.Uint64("schedule", 0, "run only the schedule of faults with this number")

// TestWhateverTheScheduleOfFaultsEveryRunEndsAndTheNextFairOneCompletesAll
// draws what goes wrong in each of up to four runs over one local registry.
// The same number draws the same weather.
func TestWhateverTheScheduleOfFaultsEveryRunEndsAndTheNextFairOneCompletesAll(t *testing.T) {
	f := mustFlawless(t)
	first, last := uint64(1), uint64(200)
	if *long {
		last = 10_000
	}
	if *theSchedule > 0 {
		first, last = *theSchedule, *theSchedule
	}
	for n := first; n <= last && !t.Failed(); n++ {
		synctest.Test(t, func(t *testing.T) {
			s := &schedule{rng: rand.New(rand.NewPCG(n, 0)), outpost: outpostOf(t, f, newPantry())}
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("schedule %d, again with -run %s -schedule %d:\n%s", n, t.Name(), n, strings.Join(s.story, "\n"))
				}
			})
			s.play(t)
		})
	}
}

// schedule is a local registry on its way through bad weather.
type schedule struct {
	*outpost
	rng   *rand.Rand
	story []string
}

func (s *schedule) play(t *testing.T) {
	for range 1 + s.rng.IntN(3) {
		s.between(t, s.weather())
		if s.percent(20) {
			s.stopped(t)
		} else {
			s.run(t)
		}
		s.checkFrugal(t)
		time.Sleep(time.Duration(s.rng.IntN(100)) * time.Minute) // nothing: time is virtual
	}
	s.recover(t)
	s.checkFrugal(t)
}

func (s *schedule) percent(n int) bool { return s.rng.IntN(100) < n }

// stopped is a run that is cancelled at some time. It has to end within a second.
func (s *schedule) stopped(t *testing.T) {
	t.Helper()
	after := time.Duration(s.rng.IntN(30_000)) * time.Millisecond
	s.say("stopped after %s", after)
	ctx, cancel := context.WithTimeout(t.Context(), after)
	defer cancel()
	began := time.Now()
	_, err := s.syncOnce(ctx)
	if took := time.Since(began); took > after+time.Second {
		t.Errorf("a run that was stopped after %s ended after %s: %v", after, took, err)
	}
	s.dest.checkWhole(t)
}

func (s *schedule) say(format string, args ...any) {
	s.story = append(s.story, fmt.Sprintf("  "+format, args...))
}

// weather draws what goes wrong in one run.
func (s *schedule) weather() (w weather) {
	s.say("run:")
	for range 1 + s.rng.IntN(4) {
		s.worsen(&w)
	}
	return w
}

// worsen draws one thing more.
func (s *schedule) worsen(w *weather) {
	if w.cdn == nil && s.percent(10) {
		s.say("a CDN")
		w.cdn = []upstreamtest.Fault{s.onBodies()}
		return
	}
	if w.dns == nil && s.percent(10) {
		s.say("flapping DNS")
		w.dns = s.often()
		w.faults = append(w.faults, upstreamtest.Hurried)
		return
	}
	draw := []func() upstreamtest.Fault{s.onBodies, s.onRanges, s.onAnswers, s.onListings}
	w.faults = append(w.faults, draw[s.rng.IntN(len(draw))]())
}

// often draws which requests are struck.
func (s *schedule) often() upstreamtest.When {
	seed, percent := s.rng.Uint64(), []int{3, 10, 30, 60, 100}[s.rng.IntN(5)]
	s.say("in %d of 100, by %d", percent, seed)
	return upstreamtest.Chance(seed, percent)
}

// anything draws a kind of request.
func (s *schedule) anything() upstreamtest.Strike {
	kinds := []sample.Kind{"", sample.KindManifest, sample.KindBlob, sample.KindTags, sample.KindReferrers}
	kind := kinds[s.rng.IntN(len(kinds))]
	s.say("of %q", kind)
	return upstreamtest.Strike{Kind: kind, When: s.often()}
}

func (s *schedule) onBodies() upstreamtest.Fault {
	of, at := s.anything(), s.rng.Int64N(120<<10)
	if s.percent(30) {
		at %= 500
	}
	switch n := s.rng.IntN(7); n {
	case 0, 1:
		s.say("cut at %d", at)
		return upstreamtest.CutAt(of, at)
	case 2:
		s.say("stall at %d", at)
		return upstreamtest.Stall(of, at)
	case 3:
		s.say("drip")
		return upstreamtest.Drip(of, 8<<10, time.Second)
	case 4:
		s.say("wrong bytes")
		return upstreamtest.WrongBytes(of)
	case 5:
		s.say("lying length, %d more", 300-at)
		return upstreamtest.LyingLength(of, 300-at)
	default:
		s.say("other length, %d more", 300-at)
		return upstreamtest.OtherLength(of, 300-at)
	}
}

func (s *schedule) onRanges() upstreamtest.Fault {
	of, shift := upstreamtest.Blobs(s.often()), s.rng.Int64N(2000)-1000
	switch s.rng.IntN(3) {
	case 0:
		s.say("no ranges")
		return upstreamtest.NoRange(of)
	case 1:
		s.say("ranges %d away", shift)
		return upstreamtest.OtherRange(of, shift)
	default:
		s.say("ranges refused")
		return upstreamtest.RefusedRange(of)
	}
}

func (s *schedule) onAnswers() upstreamtest.Fault {
	of, wait := s.anything(), time.Duration(1+s.rng.IntN(300))*time.Second
	switch s.rng.IntN(9) {
	case 0:
		s.say("429")
		return upstreamtest.TooMany(of)
	case 1:
		s.say("429, seconds: %s", wait)
		return upstreamtest.TooMany(of, upstreamtest.RetryAfterSeconds(wait))
	case 2:
		s.say("429, date: %s", wait)
		return upstreamtest.TooMany(of, upstreamtest.RetryAfterDate(wait))
	case 3:
		s.say("429, limits")
		return upstreamtest.TooMany(of, upstreamtest.RateLimit(100, 0, time.Hour), upstreamtest.RetryAfterSeconds(wait))
	case 4:
		s.say("503")
		return upstreamtest.Unavailable(of)
	case 5:
		s.say("silence")
		return upstreamtest.Silent(of)
	case 6:
		s.say("a login page")
		return upstreamtest.HTMLPage(of)
	case 7:
		s.say("a redirect loop")
		return upstreamtest.RedirectLoop(of)
	default:
		s.say("404")
		of.Method = http.MethodGet
		return upstreamtest.Vanishing(of)
	}
}

func (s *schedule) onListings() upstreamtest.Fault {
	switch s.rng.IntN(5) {
	case 0:
		s.say("pages repeat")
		return upstreamtest.RepeatingPages(1)
	case 1:
		s.say("pages in another order")
		return upstreamtest.ReorderedPages(2)
	case 2:
		s.say("pages in a circle")
		return upstreamtest.CirclingPages(2)
	case 3:
		s.say("a tag moves")
		return upstreamtest.MovingTag(upstreamtest.Strike{Kind: sample.KindManifest, Name: "1.0", When: s.often()}, "1.1")
	default:
		life := time.Duration(1+s.rng.IntN(60)) * time.Second
		s.say("tokens live for %s", life)
		return upstreamtest.ExpiringTokens(life)
	}
}
