package demand

import "time"

// memo remembers errors, or only that something was, until a time. The zero
// value is ready. It is not safe for use from many goroutines.
type memo struct{ notes map[string]noted }

type noted struct {
	err   error
	until time.Time
}

// maxNotes bounds a memo. A full one forgets what is over, and then all.
const maxNotes = 10_000

func (m *memo) put(key string, err error, now, until time.Time) {
	if m.notes == nil {
		m.notes = map[string]noted{}
	}
	if len(m.notes) >= maxNotes {
		m.sweep(now)
	}
	m.notes[key] = noted{err, until}
}

func (m *memo) sweep(now time.Time) {
	for key, n := range m.notes {
		if !now.Before(n.until) {
			delete(m.notes, key)
		}
	}
	if len(m.notes) >= maxNotes {
		clear(m.notes)
	}
}

func (m *memo) get(key string, now time.Time) (error, bool) {
	n, ok := m.notes[key]
	if !ok || !now.Before(n.until) {
		return nil, false
	}
	return n.err, true
}
