package probe

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"

	"lastro/store/vault/bucket"
	"lastro/store/vault/layout"
)

// GoodFor is how long what was found counts: servers are upgraded, and buckets switched.
const GoodFor = 30 * 24 * time.Hour

// Options are what Run can be told.
type Options struct {
	Server  bucket.Server // nil: a folder of our own
	Now     time.Time
	Version string // of the program
	Writers int    // that race; at least two
	Keys    int    // that they race for; at least one
}

// Result is what was found out.
type Result struct {
	Proven layout.Proven
	Tried  []Tried
	Ahead  time.Duration // how far the server's clock goes before this one; negative: behind
	Left   int           // objects of the probe that could not be removed
	Why    error         // the first of them could not
}

// Tried is one property and how it showed.
type Tried struct {
	Name  string `json:"name"`
	Holds bool   `json:"holds"`
	Seen  string `json:"seen"`
}

// run is one probe.
type run struct {
	b       bucket.Bucket
	o       Options
	prefix  string // of all keys; flat, as folders would stay
	written string // a content that was stored as bulk
	result  Result
}

// Run tries what the place does, and adapts the server to it. An error says that it
// could not be tried; a place that does not do something is no error.
func Run(ctx context.Context, b bucket.Bucket, o Options) (Result, error) {
	o.Writers, o.Keys = max(o.Writers, 2), max(o.Keys, 1)
	id := ulid.MustNew(ulid.Timestamp(o.Now), ulid.DefaultEntropy()).String()
	r := &run{b: b, o: o, prefix: layout.DirProbe + id + "-"}
	r.result.Proven.When, r.result.Proven.Version = o.Now.UTC().Truncate(time.Second), o.Version
	r.adapt(bucket.Lacks{})
	err := r.all(ctx)
	r.adapt(LacksOf(r.result.Proven))
	if left := r.clean(ctx); err == nil {
		err = left
	}
	return r.result, err
}

// LacksOf is what a server must be used without.
func LacksOf(p layout.Proven) bucket.Lacks {
	return bucket.Lacks{Conditions: !p.Conditions, Checksums: !p.Checksum}
}

func (r *run) adapt(l bucket.Lacks) {
	if r.o.Server != nil {
		r.o.Server.Adapt(l)
	}
}

func (r *run) all(ctx context.Context) error {
	steps := []func(context.Context) error{r.conditions, r.asked, r.clock, r.putOnce, r.swap, r.coherent, r.checksum, r.features, r.remove}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return fmt.Errorf("finding out what the place can do: %w", err)
		}
	}
	return nil
}

func (r *run) note(name string, holds *bool, yes bool, seen string, args ...any) {
	*holds = yes
	r.result.Tried = append(r.result.Tried, Tried{name, yes, fmt.Sprintf(seen, args...)})
}

// conditions tells whether writes under conditions are taken at all.
func (r *run) conditions(ctx context.Context) error {
	r.written = r.prefix + "first"
	err := r.writes(ctx, r.written)
	refused := errors.Is(err, bucket.ErrNoConditions)
	if refused {
		r.adapt(bucket.Lacks{Conditions: true})
		r.written = r.prefix + "again"
		err = r.writes(ctx, r.written)
	}
	r.note("takes conditions", &r.result.Proven.Conditions, !refused, "%s",
		choose(refused, "refused as not implemented: looks first, then writes", "If-None-Match and If-Match are accepted"))
	return err
}

// writes makes each kind of write once.
func (r *run) writes(ctx context.Context, key string) error {
	o := bucket.Bytes([]byte(key))
	o.Bulk = true
	if _, err := r.b.Put(ctx, key, o); err != nil {
		return err
	}
	etag, err := r.b.Swap(ctx, key+".json", "", []byte("{}"))
	if err == nil {
		_, err = r.b.Swap(ctx, key+".json", etag, []byte(`{"again":true}`))
	}
	return err
}

// asked tells whether things are stored as the settings want.
func (r *run) asked(ctx context.Context) error {
	if r.o.Server == nil {
		return nil
	}
	list, err := r.o.Server.Asked(ctx, r.written)
	for _, a := range list {
		var so bool
		r.note(a.Setting, &so, a.Want == a.Got, "asked for %s, stored with %q", a.Want, a.Got)
		if a.Must && !so {
			err = fmt.Errorf("%s asks for %s, and the server stores with %q: take the setting out, or use another server", a.Setting, a.Want, a.Got)
		}
	}
	return err
}

// MaxAhead is how far two clocks may be apart.
const MaxAhead = 5 * time.Minute

// clock compares the server's with this one's.
func (r *run) clock(ctx context.Context) error {
	if r.o.Server == nil {
		return nil
	}
	for info, err := range r.b.List(ctx, r.prefix) {
		if err != nil {
			return err
		}
		r.result.Ahead = info.Modified.Sub(r.o.Now).Round(time.Second)
		var near bool
		r.note("clocks agree", &near, r.result.Ahead.Abs() <= MaxAhead, "%s apart", r.result.Ahead.Abs())
		break
	}
	return nil
}

func choose(yes bool, then, otherwise string) string {
	if yes {
		return then
	}
	return otherwise
}
