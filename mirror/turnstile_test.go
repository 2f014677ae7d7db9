package mirror

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
)

func TestOfThoseThatWaitTheSmallestGoFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turn := newTurnstile(1)
		if err := turn.enter(t.Context(), 0, nil); err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var order []int64
		for _, size := range []int64{300, 100, 200} {
			go func() {
				if err := turn.enter(t.Context(), size, nil); err != nil {
					t.Error(err)
				}
				mu.Lock()
				order = append(order, size)
				mu.Unlock()
				turn.leave()
			}()
			synctest.Wait()
		}
		turn.leave()
		synctest.Wait()
		if !slices.Equal(order, []int64{100, 200, 300}) {
			t.Errorf("they went in the order %v", order)
		}
	})
}

func TestWhoeverGivesUpWaitingLeavesThePlaceToOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turn := newTurnstile(1)
		if err := turn.enter(t.Context(), 0, nil); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		gaveUp := make(chan error, 1)
		go func() { gaveUp <- turn.enter(ctx, 1, nil) }()
		synctest.Wait()
		cancel()
		if err := <-gaveUp; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		turn.leave()
		if err := turn.enter(t.Context(), 1, nil); err != nil {
			t.Fatal(err)
		}
		turn.leave()
		if err := turn.enter(ctx, 1, nil); !errors.Is(err, context.Canceled) || turn.free != 1 {
			t.Errorf("got %v, with %d places free", err, turn.free)
		}
	})
}

func TestAPlaceThatComesTooLateGoesToTheNext(t *testing.T) {
	for range 50 { // which of the two comes first is a matter of chance
		synctest.Test(t, func(t *testing.T) {
			turn := newTurnstile(1)
			if err := turn.enter(t.Context(), 0, nil); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			gaveUp := make(chan error, 1)
			go func() { gaveUp <- turn.enter(ctx, 1, nil) }()
			synctest.Wait()
			turn.mu.Lock()
			cancel()
			turn.pass()
			turn.mu.Unlock()
			if <-gaveUp == nil {
				turn.leave()
			}
			if turn.free != 1 {
				t.Errorf("%d places are free", turn.free)
			}
		})
	}
}

func TestWhatAClientWaitsForGoesBeforeWhatIsSmaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turn := newTurnstile(1)
		if err := turn.enter(t.Context(), 0, nil); err != nil {
			t.Fatal(err)
		}
		rush := make(chan struct{})
		order := make(chan int64, 2)
		wait := func(size int64, rush <-chan struct{}) {
			if err := turn.enter(t.Context(), size, rush); err != nil {
				t.Error(err)
			}
			order <- size
			turn.leave()
		}
		go wait(1, nil)
		go wait(1000, rush)
		synctest.Wait()
		close(rush)
		synctest.Wait()
		turn.leave()
		synctest.Wait()
		if first := <-order; first != 1000 {
			t.Errorf("%d went first", first)
		}
	})
}
