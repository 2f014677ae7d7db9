package catalog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"lastro/store/vault/bucket"
	"lastro/store/vault/layout"
	"lastro/store/vault/probe"
)

// How many writers race for how many objects on a server. In a folder the locks are
// our own: there it is only seen whether they work.
const (
	raceWriters = 16
	raceKeys    = 4
)

// Probed is what a place was found to do, and whether a vault was there before.
type Probed struct {
	Config layout.Config
	Made   bool // by this call
	Tried  []probe.Tried
	Left   int   // objects of the probe that could not be removed
	Why    error // the first of them could not
}

// Init makes the vault if there is none, finds out what its place does, and records
// that, as often as it is called. Clocks that differ are an error.
func (v *Catalog) Init(ctx context.Context) (Probed, error) {
	c, _, err := v.config(ctx)
	if err != nil && !errors.Is(err, ErrNoVault) {
		return Probed{}, err
	}
	return v.establish(ctx, c, err)
}

// establish gets what config said: a vault, or ErrNoVault.
func (v *Catalog) establish(ctx context.Context, c layout.Config, none error) (Probed, error) {
	if none != nil {
		if err := v.checkEmpty(ctx); err != nil {
			return Probed{}, err
		}
	}
	r, err := v.prove(ctx)
	if err != nil {
		return Probed{}, err
	}
	p := Probed{Made: none != nil, Tried: r.Tried, Left: r.Left, Why: r.Why}
	if p.Made {
		p.Config, err = v.create(ctx, r.Proven)
	} else {
		p.Config, err = v.record(ctx, c, r.Proven)
	}
	return p, err
}

func (v *Catalog) prove(ctx context.Context) (probe.Result, error) {
	o := probe.Options{Server: v.Server, Now: v.Now(), Version: v.Version}
	if v.Server != nil {
		o.Writers, o.Keys = raceWriters, raceKeys
	}
	r, err := probe.Run(ctx, v.Bucket, o)
	if err == nil && r.Ahead.Abs() > probe.MaxAhead {
		err = fmt.Errorf("vault %s: the server's clock says %s, this machine's %s: set the clock; nothing was changed",
			v.Bucket, stamp(o.Now.Add(r.Ahead)), stamp(o.Now))
	}
	if err == nil && (layout.Config{Proven: r.Proven}).Mode() != layout.Strict {
		v.Log.Warn("the bucket does not keep to the conditions of writes: only one process at a time may back up to it", "bucket", v.Bucket.String())
	}
	return r, err
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// record writes down what was proven. A config that is lost or damaged is c again.
func (v *Catalog) record(ctx context.Context, c layout.Config, p layout.Proven) (layout.Config, error) {
	const tries = 20
	for n := 1; ; n++ {
		c, err := v.recordOnce(ctx, c, p)
		if err == nil || !errors.Is(err, bucket.ErrChanged) || n == tries {
			return c, err
		}
	}
}

func (v *Catalog) recordOnce(ctx context.Context, c layout.Config, p layout.Proven) (layout.Config, error) {
	now, etag, err := load(ctx, v, layout.KeyConfig, layout.ParseConfig)
	_, damaged := Damage(err)
	switch {
	case err == nil:
		c = now
	case !damaged:
		return c, err
	}
	c.Proven = p
	data, err := layout.Encode(c)
	if err != nil {
		return c, err
	}
	if damaged {
		return c, v.Bucket.Replace(ctx, layout.KeyConfig, bucket.Bytes(data))
	}
	_, err = v.Bucket.Swap(ctx, layout.KeyConfig, etag, data)
	return c, err
}
