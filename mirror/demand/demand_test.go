package demand

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"lastro/mirror"
	"lastro/store/ledger"
)

// blocked holds up requests that begin with prefix until open is called.
func (h *hub) blocked(prefix string) (open func()) {
	wait := make(chan struct{})
	h.gate(func(ctx context.Context, what string) error {
		if !strings.HasPrefix(what, prefix) {
			return nil
		}
		select {
		case <-wait:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	return sync.OnceFunc(func() { close(wait) })
}

func TestAMissIsAnsweredWhileTheImageComes(t *testing.T) {
	h := newHub()
	layer := h.layer("app", "layer", 300_000)
	amd, arm := h.image("app", "amd", layer), h.image("app", "arm")
	root := h.index("app", amd, arm)
	h.tag("app", "1", root.Digest)
	b := newBench(t, h, Options{}, onMiss)
	open := h.blocked("BLOB")
	defer open()
	if got := b.mustAsk(t, "1"); got != root.Digest {
		t.Fatalf("got %q", got)
	}
	if got := b.mustAsk(t, amd.Digest.String()); got != amd.Digest {
		t.Errorf("a child on its way: got %q", got)
	}
	if at := b.at(t, app, "1"); at != "" {
		t.Errorf("the tag is at %s before its image is here", at)
	}
	open()
	if raw, err := b.pull(t, app, layer.Digest); err != nil || !bytes.Equal(raw, h.content[layer.Digest]) {
		t.Errorf("%d bytes, %v", len(raw), err)
	}
	b.settle(t)
	if at := b.at(t, app, "1"); at != root.Digest {
		t.Errorf("the tag is at %q", at)
	}
	if got := b.mustAsk(t, "1"); got != "" {
		t.Errorf("what is here was answered with %s", got)
	}
	events, err := b.store.Ledger().History(t.Context(), app, "1")
	if err != nil || len(events) != 1 || events[0].Event != ledger.Seen || events[0].By != "pull" || events[0].Reason != "rule app: reg.test/app:1: pulled by a client" {
		t.Errorf("%+v, %v", events, err)
	}
	for what, want := range map[string]int{"HEAD app:1": 1, "GET app@" + root.Digest.String(): 1, "GET app@" + amd.Digest.String(): 1, "BLOB app@" + layer.Digest.String(): 1, "SIZE": 0} {
		if got := h.count(what); got != want {
			t.Errorf("%s: %d requests, want %d", what, got, want)
		}
	}
}

func TestManyClientsMakeOneRequestForEachThing(t *testing.T) {
	h := newHub()
	layer := h.layer("app", "layer", 2<<20)
	root := h.image("app", "one", layer)
	h.tag("app", "1", root.Digest)
	b := newBench(t, h, Options{}, onMiss)
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			if got, err := b.ask(t, "1"); err != nil || got != root.Digest && got != "" {
				t.Errorf("got %q, %v", got, err)
			}
			if _, err := b.pull(t, app, layer.Digest); err != nil {
				t.Error(err)
			}
		})
	}
	clients.Wait()
	b.settle(t)
	for _, what := range []string{"HEAD app:1", "GET app@" + root.Digest.String(), "BLOB app@" + layer.Digest.String()} {
		if got := h.count(what); got != 1 {
			t.Errorf("%s: %d requests, want 1", what, got)
		}
	}
}

func TestWhatIsNotBrought(t *testing.T) {
	h := newHub()
	root := h.image("app", "one")
	for _, tag := range []string{"1", "nightly"} {
		h.tag("app", tag, root.Digest)
	}
	selective := onMiss
	selective.Tags = mirror.TagFilter{Exclude: []string{"nightly"}}
	scheduled := onMiss
	scheduled.OnDemand = false
	for _, c := range []struct {
		name string
		rule mirror.Rule
		ref  string
	}{
		{"a tag that the rule leaves out", selective, "nightly"},
		{"a tag that is no tag", onMiss, "-"},
		{"what comes with its image", onMiss, strings.Replace(root.Digest.String(), ":", "-", 1) + ".sig"},
		{"a tag by a rule without on-demand", scheduled, "1"},
		{"a digest by a rule without on-demand", scheduled, root.Digest.String()},
		{"another repository", mirror.Rule{From: "reg.test/other", OnDemand: true}, "1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, h, Options{}, c.rule)
			if got, err := b.ask(t, c.ref); got != "" || err != nil {
				t.Errorf("got %q, %v", got, err)
			}
			if _, err := b.Blob(t.Context(), "reg.test/none", root.Digest); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a blob of no rule: %v", err)
			}
			b.settle(t)
			if n := h.count(""); n != 0 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

func TestADigestIsBroughtWithoutATag(t *testing.T) {
	h := newHub()
	root := h.image("app", "one", h.layer("app", "l", 1000))
	secret := h.image("private", "secret")
	rule := onMiss
	rule.From = "reg.test/*"
	b := newBench(t, h, Options{}, rule)
	if got := b.mustAsk(t, root.Digest.String()); got != root.Digest {
		t.Fatalf("got %q", got)
	}
	b.settle(t)
	if err := b.store.ServesManifest(app, root.Digest); err != nil {
		t.Error(err)
	}
	if _, _, err := b.Manifest(t.Context(), "reg.test/private", secret.Digest.String()); err != nil {
		t.Fatal(err)
	}
	b.settle(t)
	if got, err := b.ask(t, secret.Digest.String()); got != "" || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("another repository's image: got %q, %v", got, err)
	}
}

func TestABlobThatNobodyBringsIsAskedForInItsRepository(t *testing.T) {
	h := newHub()
	layer, secret := h.layer("app", "layer", 400_000), h.layer("private", "secret", 1000)
	h.tag("private", "1", h.image("private", "p", secret).Digest)
	rule := onMiss
	rule.From = "reg.test/*"
	b := newBench(t, h, Options{}, rule)
	if raw, err := b.pull(t, app, layer.Digest); err != nil || len(raw) != 400_000 {
		t.Errorf("%d bytes, %v", len(raw), err)
	}
	b.settle(t)
	if linked, err := b.store.Linked(t.Context(), app, layer, false); err != nil || linked {
		t.Errorf("it became visible: %v, %v", linked, err)
	}
	if _, _, err := b.Manifest(t.Context(), "reg.test/private", "1"); err != nil {
		t.Fatal(err)
	}
	b.settle(t)
	for range 2 {
		if _, err := b.Blob(t.Context(), app, secret.Digest); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("another repository's blob: %v", err)
		}
	}
	if n := h.count("SIZE app@" + secret.Digest.String()); n != 1 {
		t.Errorf("it was asked for %d times", n)
	}
}

func TestWhatUpstreamDoesNotGiveIsNotAskedForAgainAtOnce(t *testing.T) {
	h := newHub()
	b := newBench(t, h, Options{}, onMiss)
	until := b.engine.Now().Add(45 * time.Second)
	for _, c := range []struct {
		name  string
		err   error
		holds time.Duration
		is    func(error) bool
	}{
		{"what is not there", nil, 30 * time.Second, func(err error) bool { return errors.Is(err, fs.ErrNotExist) }},
		{"what is throttled", &mirror.ThrottledError{Host: "reg.test", Until: until}, 45 * time.Second, func(err error) bool {
			throttled, ok := errors.AsType[*mirror.ThrottledError](err)
			return ok && throttled.Until.Equal(until)
		}},
		{"what fails", errors.New("500"), 5 * time.Second, func(err error) bool { return err != nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.clock.Store(0)
			h.gate(func(context.Context, string) error { return c.err })
			tag := strings.ReplaceAll(c.name, " ", "-")
			for range 20 {
				if _, err := b.ask(t, tag); !c.is(err) {
					t.Fatalf("got %v", err)
				}
			}
			b.pass(c.holds - time.Second)
			_, _ = b.ask(t, tag)
			if n := h.count("HEAD app:" + tag); n != 1 {
				t.Errorf("%d requests, want 1", n)
			}
			b.pass(time.Second)
			_, _ = b.ask(t, tag)
			if n := h.count("HEAD app:" + tag); n != 2 {
				t.Errorf("%d requests afterwards, want 2", n)
			}
		})
	}
}

func TestGatesHoldForClientsToo(t *testing.T) {
	h := newHub()
	first, second := h.image("app", "one"), h.image("app", "two")
	young := onMiss
	young.MinAge = time.Hour
	young.Mode, young.TTL = mirror.ModeFresh, time.Minute
	young.Immutable = []string{"v1"}
	t.Run("a digest that is too young", func(t *testing.T) {
		h.tag("app", "1", first.Digest)
		b := newBench(t, h, Options{}, young)
		_, err := b.ask(t, "1")
		w, ok := errors.AsType[*mirror.WithheldError](err)
		if !ok || !w.Until.Equal(b.engine.Now().Add(time.Hour)) || !strings.HasSuffix(err.Error(), "to have it now: lastro sync --release reg.test/app:1") {
			t.Fatalf("got %v", err)
		}
		if _, err := b.ask(t, first.Digest.String()); err == nil {
			t.Error("it can be had by its digest")
		}
		b.pass(time.Hour)
		if got := b.mustAsk(t, "1"); got != first.Digest {
			t.Errorf("got %q after an hour", got)
		}
		b.settle(t)
		h.tag("app", "1", second.Digest)
		b.pass(time.Minute)
		if got := b.mustAsk(t, "1"); got != "" || b.at(t, app, "1") != first.Digest {
			t.Errorf("got %q where the old one is served", got)
		}
	})
	t.Run("an immutable tag that moves", func(t *testing.T) {
		h.tag("app", "v1", first.Digest)
		fixed := young
		fixed.MinAge = 0
		b := newBench(t, h, Options{}, fixed)
		b.mustAsk(t, "v1")
		b.settle(t)
		h.tag("app", "v1", second.Digest)
		b.pass(25 * time.Hour)
		got := b.mustAsk(t, "v1")
		b.settle(t)
		if got != "" || b.at(t, app, "v1") != first.Digest {
			t.Errorf("got %q, and the tag is at %s", got, b.at(t, app, "v1"))
		}
		events, err := b.store.Ledger().History(t.Context(), app, "v1")
		if err != nil || events[len(events)-1].Event != mirror.EventAlarm {
			t.Errorf("%+v, %v", events, err)
		}
	})
	t.Run("what retention would remove again", func(t *testing.T) {
		h.tag("app", "1", first.Digest)
		b := newBench(t, h, Options{}, onMiss)
		b.engine.Retired = func(context.Context, string, string, digest.Digest) (bool, error) { return true, nil }
		_, err := b.ask(t, "1")
		if w, ok := errors.AsType[*mirror.WithheldError](err); !ok || !strings.Contains(w.Reason, "retention removed it") {
			t.Errorf("got %v", err)
		}
		if got := b.mustAsk(t, first.Digest.String()); got != first.Digest {
			t.Errorf("by its digest: got %q", got)
		}
	})
}

func TestATagThatMovesAfterItWasAskedForIsAskedForAgain(t *testing.T) {
	h := newHub()
	old, next := h.image("app", "old"), h.image("app", "next")
	h.tag("app", "1", old.Digest)
	b := newBench(t, h, Options{}, onMiss)
	h.gate(func(_ context.Context, what string) error {
		if what == "GET app@"+old.Digest.String() {
			h.tag("app", "1", next.Digest)
			h.mu.Lock()
			delete(h.manifests, "app@"+old.Digest.String())
			h.mu.Unlock()
		}
		return nil
	})
	if got := b.mustAsk(t, "1"); got != next.Digest {
		t.Errorf("got %q", got)
	}
	b.settle(t)
	if at := b.at(t, app, "1"); at != next.Digest {
		t.Errorf("the tag is at %q", at)
	}
}

func TestAClientThatLeavesDoesNotStopTheRun(t *testing.T) {
	h := newHub()
	root := h.image("app", "one", h.layer("app", "l", 1000))
	h.tag("app", "1", root.Digest)
	b := newBench(t, h, Options{}, onMiss)
	open := h.blocked("HEAD")
	defer open()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := b.Manifest(ctx, app, "1"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	open()
	b.settle(t)
	if at := b.at(t, app, "1"); at != root.Digest {
		t.Errorf("the tag is at %q", at)
	}
}

func TestCloseEndsWhatRuns(t *testing.T) {
	h := newHub()
	layer := h.layer("app", "l", 300_000)
	h.tag("app", "1", h.image("app", "one", layer).Digest)
	b := newBench(t, h, Options{}, onMiss)
	defer h.blocked("BLOB")()
	b.mustAsk(t, "1")
	ended := make(chan error)
	go func() {
		_, err := b.pull(t, app, layer.Digest)
		ended <- err
	}()
	b.Close()
	if err := <-ended; err == nil {
		t.Error("a client got a blob that did not come")
	}
	if at := b.at(t, app, "1"); at != "" {
		t.Errorf("the tag is at %s", at)
	}
	if _, err := b.ask(t, "2"); err == nil {
		t.Error("it is asked for after the end")
	}
}

func TestTooMuchAtOnceWaitsOrIsRefused(t *testing.T) {
	h := newHub()
	for _, tag := range []string{"1", "2", "3"} {
		h.tag("app", tag, h.image("app", tag).Digest)
	}
	b := newBench(t, h, Options{Runs: 1, Waiting: 2}, onMiss)
	open := h.blocked("HEAD")
	defer open()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tag := range []string{"1", "2"} {
		if _, _, err := b.Manifest(ctx, app, tag); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v", tag, err)
		}
	}
	if _, err := b.ask(t, "3"); !errors.Is(err, errBusy) {
		t.Errorf("got %v", err)
	}
	if n := h.count("HEAD"); n > 1 {
		t.Errorf("%d at once", n)
	}
	open()
	b.settle(t)
	if b.at(t, app, "1") == "" || b.at(t, app, "2") == "" {
		t.Error("what waited did not come")
	}
}
