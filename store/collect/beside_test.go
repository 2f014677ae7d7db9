package collect

import (
	"testing"
	"time"

	"lastro/store/check"
	"lastro/store/storetest"
)

func TestACheckTakesNothingBack(t *testing.T) {
	s := opened(t)
	storetest.New("a").MustPut(t, s, "r", "1")
	s.untag(t, "r", "1")
	s.collect(t)
	for range 2 {
		s.now = s.now.Add(undo / 2)
		r, err := check.Run(t.Context(), s.Store, check.Options{Part: 1, Parts: 1, Repair: true, Now: func() time.Time { return s.now }})
		if err != nil || r.Left() > 0 {
			t.Fatal(r, err)
		}
	}
	if n := s.TakenBack(); n > 0 {
		t.Errorf("%d were taken back", n)
	}
	s.collect(t)
	if left := s.files(t); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	r, err := check.Run(t.Context(), s.Store, check.Options{Part: 1, Parts: 1, Now: func() time.Time { return s.now }})
	if err != nil || len(r.Problems) > 0 {
		t.Errorf("%+v, %v", r, err)
	}
}
