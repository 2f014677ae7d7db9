package limit

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestRequestsKeepTheirPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, start := Requests(10), time.Now()
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 25 {
					if err := p.Wait(t.Context()); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if took := time.Since(start); took < 9800*time.Millisecond || took > 10*time.Second {
			t.Errorf("100 requests at 10 a second took %v", took)
		}
	})
}

func TestStreamsShareTheirPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const second = 1 << 20
		p, start := Bytes(second), time.Now()
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				n, err := io.Copy(io.Discard, p.Reader(t.Context(), strings.NewReader(strings.Repeat("x", second))))
				if n != second || err != nil {
					t.Errorf("%d bytes, %v", n, err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(start); took < 3800*time.Millisecond || took > 4*time.Second {
			t.Errorf("4 MiB at 1 MiB a second took %v", took)
		}
	})
}

func TestNoPaceIsNoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		for range 1000 {
			if err := Requests(0).Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := io.Copy(io.Discard, Bytes(0).Reader(t.Context(), strings.NewReader("x"))); err != nil || time.Since(start) != 0 {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

func TestAWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := Requests(1)
		_ = p.Wait(t.Context())
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		start := time.Now()
		if err := p.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 100*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if err := p.Wait(t.Context()); err != nil || time.Since(start) != time.Second {
			t.Errorf("%v after %v: the turn that was not used is lost", err, time.Since(start))
		}
		_, err := io.Copy(io.Discard, Bytes(1).Reader(ctx, strings.NewReader("x")))
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a stream: %v", err)
		}
	})
}
