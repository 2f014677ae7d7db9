package demand

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"

	"lastro/mirror"
)

// Options bound what is done at once. The zero value has defaults.
type Options struct {
	Log     *slog.Logger // nil: nothing is logged
	Runs    int          // images that are brought at once; 0: 32
	Waiting int          // what is asked of upstreams at once; 0: 1024
}

const (
	defaultRuns    = 32
	defaultWaiting = 1024
)

var (
	errBusy   = errors.New("too many requests wait for upstreams: try again later")
	errClosed = errors.New("the registry is being stopped")
)

// Demand brings what clients ask for. It may be used from many goroutines.
type Demand struct {
	engine func() *mirror.Engine
	rules  func() *mirror.Directory
	o      Options

	ctx    context.Context // of all that runs; ends with Close
	cancel context.CancelFunc
	work   sync.WaitGroup
	places chan struct{} // for runs

	mu      sync.Mutex
	closed  bool
	runs    map[string]*run
	ended   []*run // not long ago
	tasks   map[string]*task
	asked   memo // when a tag is to be asked for again
	refused memo // what is not to be asked for again yet
}

// New makes a Demand. engine gives engines that share a Destination and a
// [mirror.Traffic], also with those of scheduled syncs; rules gives the rules as
// they are now, compiled once.
func New(engine func() *mirror.Engine, rules func() *mirror.Directory, o Options) *Demand {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Runs, o.Waiting = cmp.Or(o.Runs, defaultRuns), cmp.Or(o.Waiting, defaultWaiting)
	d := &Demand{engine: engine, rules: rules, o: o, places: make(chan struct{}, o.Runs), runs: map[string]*run{}, tasks: map[string]*task{}}
	at := make(chan struct{})
	close(at) // at once: somebody waits
	d.ctx, d.cancel = context.WithCancel(mirror.WithRush(context.Background(), at))
	return d
}

// Close ends what runs and waits for its end. What was published stays; what
// had come of the rest is continued by whoever asks for it next.
func (d *Demand) Close() {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.cancel()
	d.work.Wait()
}
