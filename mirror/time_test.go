package mirror_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	"lastro/store/ledger"
)

// noted are the reasons of a tag's events of one kind.
func (s *site) noted(t *testing.T, tag, event string) []string {
	t.Helper()
	events, err := s.store.Ledger().History(t.Context(), "reg.test/app", tag)
	if err != nil {
		t.Fatal(err)
	}
	var reasons []string
	for _, e := range events {
		if e.Event == event {
			reasons = append(reasons, e.Reason)
		}
	}
	return reasons
}

func TestADigestIsPublishedWhenItHasBeenKnownLongEnough(t *testing.T) {
	up := newShelf()
	first, second := up.image("app", "first"), up.image("app", "second")
	up.tag("app", "1", first.Digest)
	s := newSite(t, up)
	rule := mirror.Rule{From: "reg.test/app", Referrers: true, MinAge: 72 * time.Hour}
	began := s.clock.Now()
	for range 2 {
		r := s.cleanSync(t, rule)
		if len(r.Held) != 1 || !r.Held[0].Until.Equal(began.Add(72*time.Hour)) || len(r.Copied) != 0 {
			t.Fatalf("got %+v", r)
		}
		s.clock.pass(time.Hour)
	}
	s.checkTag(t, "reg.test/app", "1", "")
	s.clock.pass(70*time.Hour - 1)
	if r := s.cleanSync(t, rule); len(r.Held) != 1 {
		t.Errorf("a moment too early: %+v", r)
	}
	s.clock.pass(1)
	s.cleanSync(t, rule)
	s.checkTag(t, "reg.test/app", "1", first.Digest)
	up.tag("app", "1", second.Digest)
	s.cleanSync(t, rule)
	s.checkTag(t, "reg.test/app", "1", first.Digest)
	if got := s.noted(t, "1", mirror.EventHeld); len(got) != 2 {
		t.Errorf("held: %q, want one event a digest", got)
	}
	s.engine.Released = func(repo, tag string) bool { return repo == "reg.test/app" && tag == "1" }
	s.cleanSync(t, rule)
	s.checkTag(t, "reg.test/app", "1", second.Digest)
	s.checkWhole(t)
}

func TestADigestThatIsKnownByAnotherTagIsOldEnough(t *testing.T) {
	up := newShelf()
	img := up.image("app", "img")
	up.tag("app", "1.0", img.Digest)
	s := newSite(t, up)
	rule := mirror.Rule{From: "reg.test/app", MinAge: time.Hour, MinAgeExcept: []string{"*-security"}}
	s.cleanSync(t, rule)
	s.clock.pass(time.Hour)
	up.tag("app", "1", img.Digest)
	urgent := up.image("app", "urgent")
	up.tag("app", "1-security", urgent.Digest)
	s.cleanSync(t, rule)
	s.checkTag(t, "reg.test/app", "1", img.Digest)
	s.checkTag(t, "reg.test/app", "1-security", urgent.Digest)
}

func TestADryRunRemembersNothing(t *testing.T) {
	up := newShelf()
	up.tag("app", "1", up.image("app", "img").Digest)
	s := newSite(t, up)
	rule := mirror.Rule{From: "reg.test/app", MinAge: time.Hour}
	if _, err := s.engine.Plan(t.Context(), []mirror.Rule{rule}); err != nil {
		t.Fatal(err)
	}
	s.clock.pass(time.Hour)
	if r := s.cleanSync(t, rule); len(r.Held) != 1 {
		t.Errorf("the plan alone let the image age: %+v", r)
	}
}

func TestASignatureOfAnImageThatIsHereIsNotHeld(t *testing.T) {
	up := newShelf()
	img := up.image("app", "img")
	up.tag("app", "1", img.Digest)
	s := newSite(t, up)
	rule := mirror.Rule{From: "reg.test/app", Referrers: true, MinAge: time.Hour}
	s.cleanSync(t, rule)
	s.clock.pass(time.Hour)
	s.cleanSync(t, rule)
	sig := up.image("app", "sig")
	up.tag("app", attachedTag(img.Digest, ".sig"), sig.Digest)
	s.cleanSync(t, rule)
	s.checkTag(t, "reg.test/app", attachedTag(img.Digest, ".sig"), sig.Digest)
}

func TestImmutableTagsThatAreHereAreAskedForOnceADay(t *testing.T) {
	up := newShelf()
	img := up.image("app", "img", up.layer("layer", 100))
	up.tag("app", "1.0.0", img.Digest)
	up.tag("app", "latest", img.Digest)
	s := newSite(t, up)
	rule := mirror.Rule{From: "reg.test/app", Immutable: []string{"/[0-9.]+/"}}
	s.cleanSync(t, rule)
	up.forget()
	s.clock.pass(24*time.Hour - 1)
	if r := s.cleanSync(t, rule); r.Unchanged != 2 {
		t.Errorf("got %+v", r)
	}
	if n := up.count("HEAD app:1.0.0"); n != 0 {
		t.Errorf("an immutable tag was asked for %d times within a day", n)
	}
	if n := up.count("HEAD app:latest"); n != 1 {
		t.Errorf("a tag that may move was asked for %d times", n)
	}
	s.clock.pass(1)
	s.cleanSync(t, rule)
	if n := up.count("HEAD app:1.0.0"); n != 1 {
		t.Errorf("after a day an immutable tag was asked for %d times", n)
	}
}

func TestAnImmutableTagThatIsNotWholeHereIsCompleted(t *testing.T) {
	up := newShelf()
	amd64, arm64 := up.image("app", "amd64"), up.image("app", "arm64")
	up.tag("app", "1.0.0", up.index("app", on("linux/amd64", amd64), on("linux/arm64", arm64)).Digest)
	s := newSite(t, up)
	rule := mirror.Rule{From: "reg.test/app", Immutable: []string{"1.*"}, Platforms: []string{"linux/amd64"}}
	s.cleanSync(t, rule)
	rule.Platforms = nil
	s.cleanSync(t, rule)
	if !s.serves(t, "reg.test/app", arm64.Digest) {
		t.Error("the platform that was missing did not come")
	}
}

func TestAnImmutableTagThatMovesRaisesAnAlarmAndStays(t *testing.T) {
	up := newShelf()
	first, second := up.image("app", "first"), up.image("app", "second")
	up.tag("app", "1.0.0", first.Digest)
	s := newSite(t, up)
	rule := mirror.Rule{From: "reg.test/app", Immutable: []string{"1.*"}}
	s.cleanSync(t, rule)
	up.tag("app", "1.0.0", second.Digest)
	for range 2 {
		s.clock.pass(25 * time.Hour)
		r := s.mustSync(t, rule)
		if len(r.Failed) != 1 || !strings.Contains(r.Failed[0].Error, "the immutable tag moved upstream to "+second.Digest.String()) {
			t.Errorf("got %+v", r)
		}
	}
	s.checkTag(t, "reg.test/app", "1.0.0", first.Digest)
	if got := s.noted(t, "1.0.0", mirror.EventAlarm); len(got) != 1 {
		t.Errorf("alarms: %q, want one", got)
	}
	s.engine.Released = func(string, string) bool { return true }
	s.cleanSync(t, rule)
	s.checkTag(t, "reg.test/app", "1.0.0", second.Digest)
}

func TestATagThatMovesBackSaysSo(t *testing.T) {
	up := newShelf()
	first, second := up.image("app", "first"), up.image("app", "second")
	s := newSite(t, up)
	var left time.Time
	for _, d := range []digest.Digest{first.Digest, second.Digest, first.Digest} {
		up.tag("app", "1", d)
		s.cleanSync(t, everything)
		if d == second.Digest {
			left = s.clock.Now()
		}
		s.clock.pass(time.Hour)
	}
	want := "moved back upstream, to what it was until " + left.Format(time.RFC3339)
	if got := s.noted(t, "1", ledger.Moved); len(got) != 2 || !strings.Contains(got[1], want) {
		t.Errorf("got %q, want %s", got, want)
	}
}

// stocked is an upstream with tags "0" to "n-1", that are all here.
func stocked(t *testing.T, n int) (*shelf, *site) {
	t.Helper()
	up := newShelf()
	for i := range n {
		up.tag("app", fmt.Sprint(i), up.image("app", fmt.Sprint(i)).Digest)
	}
	s := newSite(t, up)
	s.cleanSync(t, everything)
	return up, s
}

func TestTagsThatVanishUpstreamStayAndAreNotedOnce(t *testing.T) {
	up, s := stocked(t, 3)
	up.untag("app", "0")
	for range 2 {
		r := s.cleanSync(t, everything)
		if len(r.Vanished) != 1 || r.Vanished[0].Tag != "0" || r.Vanished[0].Retired {
			t.Errorf("got %+v", r)
		}
	}
	if got := s.noted(t, "0", mirror.EventVanished); len(got) != 1 {
		t.Errorf("noted %q, want once", got)
	}
	if s.at("reg.test/app", "0") == "" {
		t.Error("the tag is gone here")
	}
}

func TestTagsThatVanishUpstreamAreRetiredWhenTheRuleSaysSo(t *testing.T) {
	up, s := stocked(t, 10)
	img := s.at("reg.test/app", "0")
	rule := everything
	rule.RemovedUpstream = mirror.Retire
	up.untag("app", "0")
	up.untag("app", "1")
	if r := s.cleanSync(t, rule); len(r.Vanished) != 2 || !r.Vanished[0].Retired {
		t.Errorf("got %+v", r)
	}
	s.checkTag(t, "reg.test/app", "0", "")
	if !s.serves(t, "reg.test/app", img) {
		t.Error("what the tag pointed at can no more be pulled by digest")
	}
	if r := s.cleanSync(t, rule); len(r.Vanished) != 0 {
		t.Errorf("again: %+v", r)
	}
}

func TestARuleRetiresOnlyTagsThatItSelects(t *testing.T) {
	up, s := stocked(t, 10)
	for tag := range 10 {
		up.untag("app", fmt.Sprint(tag))
	}
	up.tag("app", "1", s.at("reg.test/app", "1"))
	rule := mirror.Rule{From: "reg.test/app", Tags: mirror.TagFilter{Include: []string{"1"}}, RemovedUpstream: mirror.Retire}
	if r := s.cleanSync(t, rule); len(r.Vanished) != 0 || s.at("reg.test/app", "2") == "" {
		t.Errorf("got %+v", r)
	}
}

func TestAListThatShrinksSuddenlyRetiresNothing(t *testing.T) {
	for _, c := range []struct {
		name       string
		tags, gone int
		refused    bool
	}{
		{"one of two", 2, 1, false},
		{"the last one", 1, 1, true},
		{"a fifth", 10, 2, false},
		{"more than a fifth", 10, 3, true},
		{"all", 5, 5, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			up, s := stocked(t, c.tags)
			rule := everything
			rule.RemovedUpstream = mirror.Retire
			for i := range c.gone {
				up.untag("app", fmt.Sprint(i))
			}
			r := s.mustSync(t, rule)
			if got := len(r.Failed) == 1; got != c.refused || (s.at("reg.test/app", "0") != "") != c.refused {
				t.Fatalf("refused %v, want %v: %+v", got, c.refused, r)
			}
			if !c.refused {
				return
			}
			s.mustSync(t, rule) // what is noted is not noted again
			if got := s.noted(t, "0", mirror.EventAlarm); len(got) != 1 {
				t.Errorf("alarms %q", got)
			}
			s.engine.AllowVanished = true
			s.cleanSync(t, rule)
			s.checkTag(t, "reg.test/app", "0", "")
		})
	}
}

// listing lists these tags and no others.
type listing struct {
	*shelf
	tags []string
}

func (s listing) Tags(context.Context, string) iter.Seq2[string, error] { return each(s.tags, nil) }

func TestATagThatOnlyTheListForgotIsThere(t *testing.T) {
	up, s := stocked(t, 2)
	s.engine.Source = from(listing{up, []string{"1"}})
	moved := up.image("app", "moved")
	up.tag("app", "0", moved.Digest)
	rule := everything
	rule.RemovedUpstream = mirror.Retire
	if r := s.cleanSync(t, rule); len(r.Vanished) != 0 {
		t.Errorf("got %+v", r)
	}
	s.checkTag(t, "reg.test/app", "0", moved.Digest)
}

func TestADigestThatTheUpstreamNamesAndHasNotIsNoted(t *testing.T) {
	up, s := stocked(t, 1)
	up.tag("app", "0", up.image("app", "next").Digest)
	s.engine.Source = from(deniedSource{up, "GET", fs.ErrNotExist})
	if r := s.mustSync(t, everything); len(r.Failed) != 1 {
		t.Errorf("got %+v", r)
	}
	if got := s.noted(t, "0", mirror.EventVanished); len(got) != 1 || !strings.Contains(got[0], "does not have all of it") {
		t.Errorf("noted %q", got)
	}
}

func TestWhatAnUpstreamThrottlesIsDeferredAndTheRestGoesOn(t *testing.T) {
	up := newShelf()
	first, second := up.image("app", "first"), up.image("app", "second")
	up.tag("app", "1", first.Digest)
	up.tag("app", "2", second.Digest)
	up.tag("app", "3", first.Digest)
	s := newSite(t, up)
	until := s.clock.Now().Add(6 * time.Hour)
	throttled := &mirror.ThrottledError{Host: "reg.test", Until: until, Err: errors.New("toomanyrequests")}
	s.engine.Source = from(deniedSource{deniedSource{up, "HEAD 3", throttled}, "GET " + second.Digest.String(), throttled})
	report, err := s.sync(t.Context(), everything)
	if err != nil {
		t.Fatal(err)
	}
	n, when := report.Deferred()
	if n != 2 || !when.Equal(until) || report.Failed() != 0 || !slices.Equal(tagsOf(report.Rules[0].Copied), []string{"1"}) {
		t.Errorf("got %+v", report)
	}
	s.engine.Source = from(up)
	next, err := s.sync(t.Context(), everything)
	if err != nil {
		t.Fatal(err)
	}
	if n, _ := next.Deferred(); n != 0 {
		t.Errorf("got %+v", next)
	}
	whole := report.Then(next)
	if got := tagsOf(whole.Rules[0].Copied); !slices.Equal(got, []string{"1", "2", "3"}) || whole.Rules[0].Unchanged != 0 {
		t.Errorf("both together: %+v", whole)
	}
}

func TestAnImageThatTheDiskHasNoRoomForFailsBeforeItIsFetched(t *testing.T) {
	up := newShelf()
	up.tag("app", "large", up.image("app", "large", up.layer("large", 100_000)).Digest)
	small := up.image("app", "small", up.layer("small", 100))
	up.tag("app", "small", small.Digest)
	s := newSite(t, up)
	s.engine.Jobs = 1
	s.engine.Room = func(context.Context) (int64, error) { return 64<<20 + 50_000, nil }
	r := s.mustSync(t, everything)
	if got := failedTags(r.Failed); !slices.Equal(got, []string{"large"}) || !strings.Contains(r.Failed[0].Error, "the disk has room for 50000") {
		t.Errorf("got %+v", r.Failed)
	}
	if n := up.count("BLOB"); n != 2 { // config and layer of the small one
		t.Errorf("%d blobs were fetched", n)
	}
	s.checkTag(t, "reg.test/app", "small", small.Digest)
	s.engine.Room = func(context.Context) (int64, error) { return 0, errFault }
	if r := s.mustSync(t, everything); len(r.Failed) != 1 || !strings.Contains(r.Failed[0].Error, "free space: a fault") {
		t.Errorf("got %+v", r.Failed)
	}
}

// budgetedSource is an upstream that told what it lets us have.
type budgetedSource struct {
	*shelf
	budget mirror.Budget
}

func (s budgetedSource) Budget() mirror.Budget { return s.budget }

func TestAPlanSaysWhatItNeedsAndWhenItWillBeDone(t *testing.T) {
	up := newShelf()
	layer := up.layer("layer", 1000)
	img := func(name string) ocispec.Descriptor {
		return up.index("app", on("linux/amd64", up.image("app", name+" amd64", layer)), on("linux/arm64", up.image("app", name+" arm64", layer)))
	}
	up.tag("app", "1", img("first").Digest)
	s := newSite(t, up)
	s.cleanSync(t, everything)
	up.tag("app", "1", img("second").Digest) // is taken to be like the one that is here: 3 manifests, 4 blobs
	up.tag("app", "2", img("third").Digest)  // of which nothing is known: 2 manifests
	s.engine.Source = from(budgetedSource{up, mirror.Budget{Known: true, Limit: 4, Remaining: 3, Reserve: 1, Window: 6 * time.Hour}})
	p, err := s.engine.Plan(t.Context(), []mirror.Rule{everything})
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := p.Print(&out); err != nil {
		t.Fatal(err)
	}
	done := s.clock.Now().Add(6 * time.Hour).Format(time.RFC3339) // 5 pulls: 2 now, 3 after a window
	for _, want := range []string{"about 5 pulls in 9 requests", "2 pulls left beside a reserve of 1", "done about " + done} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, &out)
		}
	}
}
