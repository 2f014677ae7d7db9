package demand

import (
	"context"
	"errors"
	"strings"
	"testing"

	"lastro/mirror"
)

func TestWhatClientsAskForGoesFirstAtTheUpstream(t *testing.T) {
	h := newHub()
	root := h.image("app", "one", h.layer("app", "layer", 1000))
	h.tag("app", "1", root.Digest)
	h.gate(func(ctx context.Context, what string) error {
		select {
		case <-mirror.Rush(ctx):
		default:
			t.Errorf("%s waits behind a sync", what)
		}
		return nil
	})
	b := newBench(t, h, Options{}, onMiss)
	b.mustAsk(t, "1")
	b.settle(t)
}

// TestASyncThatAClientWaitsForGoesFirst holds a sync's request for a blob until it
// is told that somebody waits.
func TestASyncThatAClientWaitsForGoesFirst(t *testing.T) {
	h := newHub()
	layer := h.layer("app", "layer", 1000)
	root := h.image("app", "one", layer)
	h.tag("app", "1", root.Digest)
	begun := make(chan struct{})
	h.gate(func(ctx context.Context, what string) error {
		if !strings.HasPrefix(what, "BLOB app@"+layer.Digest.String()) {
			return nil
		}
		close(begun)
		select {
		case <-mirror.Rush(ctx):
			return nil
		case <-t.Context().Done():
			return errors.New("nobody said that a client waits")
		}
	})
	b := newBench(t, h, Options{}, onMiss)
	synced := make(chan error, 1)
	go func() {
		plan, err := b.engine.Plan(t.Context(), []mirror.Rule{onMiss})
		if err == nil {
			_, err = b.engine.Apply(t.Context(), plan)
		}
		synced <- err
	}()
	<-begun
	if _, err := b.pull(t, app, layer.Digest); err != nil {
		t.Error(err)
	}
	if err := <-synced; err != nil {
		t.Error(err)
	}
}
