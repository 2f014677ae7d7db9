package access

import "sync/atomic"

// Outcomes count how requests were decided since the start.
type Outcomes struct {
	OK        int64 // allowed
	Asked     int64 // sent to log in, without having tried
	Denied    int64 // known, and may not
	Failed    int64 // not believed
	Throttled int64 // not looked at, because of too many logins
}

type outcomes struct{ ok, asked, denied, failed, throttled atomic.Int64 }

// Outcomes are zero while there is no auth.
func (g *Guard) Outcomes() Outcomes {
	o := &g.outcomes
	return Outcomes{o.ok.Load(), o.asked.Load(), o.denied.Load(), o.failed.Load(), o.throttled.Load()}
}
