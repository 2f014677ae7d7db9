package progress

import "time"

// window is how far back the speed looks.
const window = 10 * time.Second

// speed is how fast bytes were moved of late.
type speed struct{ samples []sample }

type sample struct {
	at    time.Time
	moved int64
}

// add notes how much was moved up to now, and forgets what is too old. One
// sample from before the window stays, as its beginning.
func (s *speed) add(now time.Time, moved int64) {
	if n := len(s.samples); n > 0 && now.Before(s.samples[n-1].at) {
		s.samples = s.samples[:0] // the clock was set back
	}
	s.samples = append(s.samples, sample{now, moved})
	old := 0
	for old+1 < len(s.samples) && now.Sub(s.samples[old+1].at) >= window {
		old++
	}
	s.samples = append(s.samples[:0], s.samples[old:]...)
}

// perSecond is zero until there is something to tell it from.
func (s *speed) perSecond() float64 {
	if len(s.samples) == 0 {
		return 0
	}
	first, last := s.samples[0], s.samples[len(s.samples)-1]
	took := last.at.Sub(first.at)
	if took < time.Second {
		return 0
	}
	return float64(last.moved-first.moved) / took.Seconds()
}
