package mirror_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"

	"lastro/mirror"
)

// holding lets a tag stay where it is.
func (s *site) holding(tag string) {
	s.engine.Held = func(_ context.Context, repo, t string) (string, error) {
		if repo == "reg.test/app" && t == tag {
			return "rolled back by ann", nil
		}
		return "", nil
	}
}

func TestATagThatIsHeldStaysWhateverTheUpstreamHas(t *testing.T) {
	up, s := stocked(t, 3)
	old := s.at("reg.test/app", "0")
	s.holding("0")
	up.tag("app", "0", up.image("app", "new").Digest)
	up.tag("app", "1", up.image("app", "newer").Digest)
	r := s.cleanSync(t, everything)
	if len(r.Held) != 1 || r.Held[0].Tag != "0" || r.Held[0].Digest != old || r.Held[0].Reason != "rolled back by ann" || !r.Held[0].Until.IsZero() {
		t.Errorf("held: %+v", r.Held)
	}
	if len(r.Copied) != 1 || r.Copied[0].Tag != "1" {
		t.Errorf("copied: %+v", r.Copied)
	}
	s.checkTag(t, "reg.test/app", "0", old)
	if notes := s.noted(t, "0", mirror.EventHeld); len(notes) > 0 {
		t.Errorf("its history says %q", notes)
	}

	up.untag("app", "0")
	rule := everything
	rule.RemovedUpstream = mirror.Retire
	if r := s.cleanSync(t, rule); len(r.Vanished) > 0 {
		t.Errorf("vanished: %+v", r.Vanished)
	}
	s.checkTag(t, "reg.test/app", "0", old)
}

func TestATagThatIsHeldIsWhatClientsGet(t *testing.T) {
	up, s := stocked(t, 1)
	old := s.at("reg.test/app", "0")
	s.holding("0")
	up.tag("app", "0", up.image("app", "new").Digest)
	dir, err := mirror.NewDirectory([]mirror.Rule{everything})
	if err != nil {
		t.Fatal(err)
	}
	pull, err := s.engine.Ask(t.Context(), dir.Origins("reg.test/app")[0], "0")
	if err != nil {
		t.Fatal(err)
	}
	if !pull.Here() || pull.Digest() != old {
		t.Errorf("clients get %s (here: %v), want %s", pull.Digest(), pull.Here(), old)
	}
}

func TestATagThatIsNotHereIsNotHeld(t *testing.T) {
	up, s := stocked(t, 1)
	s.holding("1")
	up.tag("app", "1", up.image("app", "1").Digest)
	if r := s.cleanSync(t, everything); len(r.Copied) != 1 {
		t.Errorf("got %+v", r)
	}
}

func TestAHoldThatCannotBeAskedForMovesNothing(t *testing.T) {
	up, s := stocked(t, 1)
	old := s.at("reg.test/app", "0")
	s.engine.Held = func(context.Context, string, string) (string, error) { return "", errors.New("the ledger is broken") }
	up.tag("app", "0", up.image("app", "new").Digest)
	if r := s.mustSync(t, everything); len(r.Failed) != 1 {
		t.Errorf("got %+v", r)
	}
	s.checkTag(t, "reg.test/app", "0", old)
}

func TestATagThatIsKeptIsNotRetired(t *testing.T) {
	up, s := stocked(t, 10)
	s.engine.Kept = func(_ context.Context, _, tag string, _ digest.Digest) (string, error) {
		return map[string]string{"0": "protected by ann"}[tag], nil
	}
	rule := everything
	rule.RemovedUpstream = mirror.Retire
	up.untag("app", "0")
	up.untag("app", "1")
	r := s.cleanSync(t, rule)
	retired := func(tag string) bool {
		i := slices.IndexFunc(r.Vanished, func(v mirror.Vanished) bool { return v.Tag == tag })
		return i >= 0 && r.Vanished[i].Retired
	}
	if len(r.Vanished) != 2 || retired("0") || !retired("1") {
		t.Errorf("got %+v", r.Vanished)
	}
	if s.at("reg.test/app", "0") == "" || s.at("reg.test/app", "1") != "" {
		t.Error("the kept one went, or the other stayed")
	}
	if got := s.noted(t, "0", mirror.EventVanished); len(got) != 1 {
		t.Errorf("noted %q", got)
	}

	s.engine.Kept = func(context.Context, string, string, digest.Digest) (string, error) {
		return "", errors.New("the ledger is broken")
	}
	s.engine.AllowVanished = true
	up.untag("app", "2")
	if r := s.mustSync(t, rule); len(r.Failed) != 2 {
		t.Errorf("what cannot be asked was passed over without a word: %+v", r)
	}
	if s.at("reg.test/app", "2") == "" {
		t.Error("it went in doubt")
	}
}
