package mirror

import (
	"fmt"
	"time"
)

// ThrottledError says that an upstream answers no more requests of this kind
// before Until: it said so, or its budget is used up. It is no fault of an
// image: whoever gets it comes back then.
type ThrottledError struct {
	Host  string
	Until time.Time
	Err   error // what the upstream said; nil when nothing was sent
}

func (e *ThrottledError) Error() string {
	text := fmt.Sprintf("upstream %s limits requests until %s", e.Host, e.Until.UTC().Format(time.RFC3339))
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

func (e *ThrottledError) Unwrap() error { return e.Err }

// Budget is how many pulls, manifests that are read, an upstream lets us make,
// over all credentials. What it never said is not known.
type Budget struct {
	Known     bool
	Limit     int           // pulls in a window
	Remaining int           // pulls left now, those in reserve included
	Reserve   int           // pulls that are left to others
	Window    time.Duration // how long until a used pull comes back
}

// Spare is how many pulls may be made now.
func (b Budget) Spare() int { return max(0, b.Remaining-b.Reserve) }
