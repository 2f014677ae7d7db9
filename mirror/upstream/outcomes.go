package upstream

import (
	"errors"
	"io/fs"
	"sync/atomic"

	"lastro/mirror"
)

// Outcomes is how requests ended, each with all its attempts.
type Outcomes struct{ OK, Missing, Refused, Throttled, Failed int64 }

// outcomes counts them.
type outcomes struct{ ok, missing, refused, throttled, failed atomic.Int64 }

func (o *outcomes) count(err error) {
	_, throttled := errors.AsType[*mirror.ThrottledError](err)
	switch {
	case err == nil:
		o.ok.Add(1)
	case throttled:
		o.throttled.Add(1)
	case errors.Is(err, fs.ErrNotExist):
		o.missing.Add(1)
	case refused(err):
		o.refused.Add(1)
	default:
		o.failed.Add(1)
	}
}

// Outcomes is how requests to the upstream itself ended so far.
func (r *Registry) Outcomes() Outcomes {
	o := &r.outcomes
	return Outcomes{o.ok.Load(), o.missing.Load(), o.refused.Load(), o.throttled.Load(), o.failed.Load()}
}
