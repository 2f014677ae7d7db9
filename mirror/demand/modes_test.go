package demand

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lastro/mirror"
)

func TestModesAboutTagsThatAreHere(t *testing.T) {
	for mode, want := range map[string]struct {
		heads   int  // after the ttl
		answers bool // with the new image
		moves   bool
	}{
		mirror.ModeLocal: {},
		mirror.ModeStale: {heads: 1, moves: true},
		mirror.ModeFresh: {heads: 1, answers: true, moves: true},
	} {
		t.Run(mode, func(t *testing.T) {
			h := newHub()
			old, next := h.image("app", "old"), h.image("app", "next")
			h.tag("app", "1", old.Digest)
			rule := onMiss
			rule.Mode = mode
			b := newBench(t, h, Options{}, rule)
			b.mustAsk(t, "1")
			b.settle(t)
			h.tag("app", "1", next.Digest)
			b.pass(rule.TTL - time.Second)
			if got := b.mustAsk(t, "1"); got != "" || h.count("HEAD app:1") != 1 {
				t.Errorf("within the ttl: got %q after %d HEADs", got, h.count("HEAD app:1"))
			}
			b.pass(time.Second)
			if got := b.mustAsk(t, "1"); (got == next.Digest) != want.answers {
				t.Errorf("got %q", got)
			}
			b.settle(t)
			if n := h.count("HEAD app:1") - 1; n != want.heads {
				t.Errorf("%d HEADs, want %d", n, want.heads)
			}
			if moved := b.at(t, app, "1") == next.Digest; moved != want.moves {
				t.Errorf("the tag is at %s", b.at(t, app, "1"))
			}
		})
	}
}

func TestWhatIsHereIsServedWhateverTheUpstreamSays(t *testing.T) {
	h := newHub()
	h.tag("app", "1", h.image("app", "old").Digest)
	rule := onMiss
	rule.Mode = mirror.ModeFresh
	b := newBench(t, h, Options{}, rule)
	b.mustAsk(t, "1")
	b.settle(t)
	h.tag("app", "1", h.image("app", "next").Digest)
	for _, fault := range []struct {
		of  string
		err error
	}{{"HEAD", errors.New("500")}, {"HEAD", &mirror.ThrottledError{Host: "reg.test", Until: b.engine.Now().Add(time.Hour)}}, {"GET", errors.New("500")}} {
		b.pass(rule.TTL)
		h.gate(func(_ context.Context, what string) error {
			if strings.HasPrefix(what, fault.of) {
				return fault.err
			}
			return nil
		})
		if got := b.mustAsk(t, "1"); got != "" {
			t.Errorf("%v of %s: got %q", fault.err, fault.of, got)
		}
		b.settle(t)
	}
}

// failing ends with an error.
type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestAnUpstreamThatDiesInTheMiddleOfABlobForThreeClients(t *testing.T) {
	for name, deaths := range map[string]int32{"and comes back": 2, "for ever": 1 << 30} {
		t.Run(name, func(t *testing.T) {
			h := newHub()
			layer := h.layer("app", "layer", 3<<20)
			h.tag("app", "1", h.image("app", "one", layer).Digest)
			var opened atomic.Int32
			h.body = func(_ context.Context, r io.Reader) io.Reader {
				n := opened.Add(1)
				switch {
				case n > deaths:
					return r
				case n > 2:
					return failing{}
				}
				return io.MultiReader(io.LimitReader(r, 1<<20), failing{})
			}
			b := newBench(t, h, Options{}, onMiss)
			b.mustAsk(t, "1")
			var clients sync.WaitGroup
			var failed atomic.Int32
			for range 3 {
				clients.Go(func() {
					if _, err := b.pull(t, app, layer.Digest); err != nil {
						failed.Add(1)
					}
				})
			}
			clients.Wait()
			b.settle(t)
			if n := failed.Load(); deaths == 2 && n != 0 || deaths > 2 && n != 3 {
				t.Errorf("%d of 3 failed", n)
			}
			if here := b.at(t, app, "1") != ""; here != (deaths == 2) {
				t.Errorf("the tag is here: %v", here)
			}
		})
	}
}

func TestAClientThatStallsHoldsUpNobody(t *testing.T) {
	h := newHub()
	layer := h.layer("app", "layer", 3<<20)
	root := h.image("app", "one", layer)
	h.tag("app", "1", root.Digest)
	b := newBench(t, h, Options{}, onMiss)
	b.mustAsk(t, "1")
	s, err := b.Blob(t.Context(), app, layer.Digest)
	if err != nil {
		t.Fatal(err)
	}
	body, err := s.Open(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if _, err := body.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.pull(t, app, layer.Digest); err != nil {
		t.Error(err)
	}
	b.settle(t)
	if at := b.at(t, app, "1"); at != root.Digest {
		t.Errorf("the tag is at %q", at)
	}
}

func TestASyncAndAClientFetchABlobOnce(t *testing.T) {
	h := newHub()
	layer := h.layer("app", "layer", 1<<20)
	h.tag("app", "1", h.image("app", "one", layer).Digest)
	b := newBench(t, h, Options{}, onMiss)
	open := h.blocked("BLOB app@" + layer.Digest.String())
	defer open()
	b.mustAsk(t, "1")
	plan, err := b.engine.Plan(t.Context(), []mirror.Rule{onMiss})
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		if r, err := b.engine.Apply(t.Context(), plan); err != nil || r.Failed() != 0 {
			t.Errorf("%+v, %v", r, err)
		}
	})
	work.Go(func() {
		if _, err := b.pull(t, app, layer.Digest); err != nil {
			t.Error(err)
		}
	})
	open()
	work.Wait()
	b.settle(t)
	if n := h.count("BLOB app@" + layer.Digest.String()); n != 1 {
		t.Errorf("%d requests for the layer", n)
	}
}

func TestWhatASyncBringsWhileTheUpstreamFailsAClientIsServed(t *testing.T) {
	h := newHub()
	root := h.image("app", "one")
	h.tag("app", "1", root.Digest)
	b := newBench(t, h, Options{}, onMiss)
	h.gate(func(ctx context.Context, _ string) error {
		h.gate(nil)
		plan, err := b.engine.Plan(ctx, []mirror.Rule{onMiss})
		if err == nil {
			_, err = b.engine.Apply(ctx, plan)
		}
		return errors.Join(err, errors.New("500"))
	})
	if got := b.mustAsk(t, "1"); got != "" || b.at(t, app, "1") != root.Digest {
		t.Errorf("got %q, and the tag is at %q", got, b.at(t, app, "1"))
	}
}
