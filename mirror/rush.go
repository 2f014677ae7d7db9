package mirror

import "context"

type rushKey struct{}

// WithRush is a context of work that a client waits for from when rush closes on:
// of what waits for a place at its upstream, a Source lets it go first.
func WithRush(ctx context.Context, rush <-chan struct{}) context.Context {
	return context.WithValue(ctx, rushKey{}, rush)
}

// Rush is what WithRush said; nil, which never closes, when nothing was said.
func Rush(ctx context.Context) <-chan struct{} {
	rush, _ := ctx.Value(rushKey{}).(<-chan struct{})
	return rush
}
