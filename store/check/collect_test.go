package check

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"lastro/store/collect"
	"lastro/store/storetest"
)

// While a collector removes what others leave, nothing is wrong, and no repair brings
// back what it removed.
func TestARepairBesideACollectorHasNothingToHeal(t *testing.T) {
	s := newSite(t)
	images := []*storetest.Image{}
	for i := range 3 {
		images = append(images, image(fmt.Sprintf("leaving-%d", i), s.all))
	}
	ctx, stop := context.WithCancel(t.Context())
	var others errgroup.Group
	others.Go(func() error { return churn(ctx, s, images, 0) })
	var deleted atomic.Int64
	others.Go(func() error {
		for ctx.Err() == nil {
			r, err := collect.Run(context.WithoutCancel(ctx), s.Store, collect.Options{Grace: time.Nanosecond, Now: time.Now})
			if err != nil {
				return err
			}
			deleted.Add(int64(r.Deleted))
		}
		return nil
	})
	// A collector rests beside those who publish.
	for n := 0; n < 15 || deleted.Load() < 3 && n < 1000; n++ {
		r := s.check(t, Options{Part: 1, Parts: 1, Repair: true, Sources: []Source{s.all}})
		for _, p := range r.Problems {
			if !p.Kind.Waste() {
				t.Error(words(r))
			}
		}
		if t.Failed() {
			break
		}
	}
	stop()
	if err := others.Wait(); err != nil {
		t.Error(err)
	}
	if deleted.Load() == 0 {
		t.Error("the collector had nothing to do")
	}
}
