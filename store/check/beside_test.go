package check

import (
	"context"
	"fmt"
	"testing"

	"golang.org/x/sync/errgroup"

	"lastro/store/ledger"
	"lastro/store/storetest"
)

// While others publish, push, untag and unpublish, nothing is wrong.
func TestACheckBesideWritersFindsNothing(t *testing.T) {
	s := newSite(t)
	images := []*storetest.Image{}
	for i := range 4 {
		images = append(images, image(fmt.Sprintf("moving-%d", i), shelf{}))
	}
	ctx, stop := context.WithCancel(t.Context())
	var writers errgroup.Group
	for w := range 3 {
		writers.Go(func() error { return churn(ctx, s, images, w) })
	}
	for range 15 {
		if r := s.check(t, Options{Part: 1, Parts: 1}); len(r.Problems) > 0 {
			t.Error(words(r))
			break
		}
	}
	stop()
	if err := writers.Wait(); err != nil {
		t.Error(err)
	}
	s.clean(t)
}

// churn writes until ctx ends, each round whole.
func churn(ctx context.Context, s *site, images []*storetest.Image, w int) error {
	whole := context.WithoutCancel(ctx)
	for i := 0; ctx.Err() == nil; i++ {
		m, repo := images[(i+w)%len(images)], fmt.Sprintf("busy/%d", (i/2+w)%3)
		tag := fmt.Sprintf("t%d", w)
		if _, err := m.Put(whole, s.Store, repo, tag); err != nil {
			return err
		}
		if err := s.Mount(whole, repo, "pushed", layer(m, 0, 2)); err != nil {
			return err
		}
		if i%2 == 0 {
			if err := s.Untag(whole, repo, tag, ledger.Event{By: "test"}); err != nil {
				return err
			}
		}
		if i%5 == 0 {
			d := hex(m, 3)
			// Another writer may have taken it out before.
			_ = s.Unpublish(whole, repo, d, ledger.Event{By: "test"}, func(string) error { return nil })
		}
	}
	return nil
}
