package collect

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestARunRestsForThoseWhoPublish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		published := uint64(0)
		p := &pace{func() uint64 { return published }, fewest}
		took := func(work time.Duration, publishes uint64) (size int, all time.Duration) {
			began := time.Now()
			err := p.take(t.Context(), func(n int) error {
				size = n
				time.Sleep(work)
				published += publishes
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			return size, time.Since(began)
		}
		for _, step := range []struct {
			work, want time.Duration
			publishes  uint64
			size       int
		}{
			{10 * time.Millisecond, 10 * time.Millisecond, 0, fewest},
			{10 * time.Millisecond, 10 * time.Millisecond, 0, 2 * fewest},
			{30 * time.Millisecond, 60 * time.Millisecond, 1, 4 * fewest},
			{time.Hour, time.Hour + longestRest, 1, fewest},
			{time.Second, time.Second, 0, fewest},
		} {
			if size, all := took(step.work, step.publishes); size != step.size || all != step.want {
				t.Errorf("a piece of %d took %v, want one of %d and %v", size, all, step.size, step.want)
			}
		}
		for range 10 {
			took(0, 0)
		}
		if size, _ := took(0, 0); size != most {
			t.Errorf("pieces grow to %d, want %d", size, most)
		}
	})
}

func TestWhoRestsGoesWhenItIsToldTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		published := uint64(0)
		p := &pace{func() uint64 { published++; return published }, fewest}
		began := time.Now()
		time.AfterFunc(time.Second+time.Millisecond, cancel)
		err := p.take(ctx, func(int) error { time.Sleep(time.Second); return nil })
		if took := time.Since(began); !errors.Is(err, context.Canceled) || took != time.Second+time.Millisecond {
			t.Errorf("%v after %v", err, took)
		}
		for range pieces(ctx, p, []int{1}) {
			t.Error("it goes on")
		}
	})
}

func TestPiecesAreAllOfThem(t *testing.T) {
	var all, got []int
	for i := range 3*most + 1 {
		all = append(all, i)
	}
	p := &pace{func() uint64 { return 0 }, fewest}
	for piece := range pieces(t.Context(), p, all) {
		got = append(got, piece...)
	}
	if !slices.Equal(got, all) {
		t.Errorf("got %d of %d", len(got), len(all))
	}
	for piece := range pieces(t.Context(), p, all) {
		if len(piece) != most {
			t.Errorf("a piece of %d", len(piece))
		}
		break
	}
}
