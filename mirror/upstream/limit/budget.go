package limit

import (
	"slices"
	"time"
)

// budget is what is left of a quota, as far as we can know between two answers.
type budget struct {
	quota   Quota
	at      time.Time   // when quota was said; zero: never
	pending int         // pulls that are being made
	ours    []time.Time // pulls that quota knows of and that have not come back, oldest first
	exempt  map[string]bool
}

// unsaid is how long a pull stays away when the upstream says nothing of it.
const unsaid = time.Minute

// maxOurs bounds what is remembered of pulls.
const maxOurs = 10_000

// said notes a quota. While pulls are being made, answers overtake each other,
// and the least that any of them says is right.
func (b *budget) said(q Quota, now time.Time) {
	if b.pending > 0 && b.known() && q.Limit == b.quota.Limit {
		q.Remaining = min(q.Remaining, b.left(now))
	}
	b.drop(now)
	b.quota, b.at = q, now
}

// made notes a pull that was answered.
func (b *budget) made(now time.Time) {
	b.ours = append(b.ours, now)
	if len(b.ours) > maxOurs {
		b.ours = slices.Delete(b.ours, 0, len(b.ours)-maxOurs)
	}
}

// drop forgets pulls that have come back.
func (b *budget) drop(now time.Time) {
	b.ours = slices.DeleteFunc(b.ours, func(t time.Time) bool { return !t.Add(b.away()).After(now) })
}

func (b *budget) known() bool { return !b.at.IsZero() }

// away is how long a pull is away in a rolling window.
func (b *budget) away() time.Duration {
	if b.quota.Window > 0 {
		return b.quota.Window
	}
	return unsaid
}

// left is how many pulls are left, those that are being made among them.
func (b *budget) left(now time.Time) int {
	q := b.quota
	if q.Reset > 0 {
		if !now.Before(b.at.Add(q.Reset)) {
			return q.Limit
		}
		return q.Remaining
	}
	back := 0
	for back < len(b.ours) && !b.ours[back].Add(b.away()).After(now) {
		back++
	}
	return min(q.Limit, q.Remaining+back+b.evenly(now))
}

// others is how many pulls are away that others made.
func (b *budget) others() int { return max(0, b.quota.Limit-b.quota.Remaining-len(b.ours)) }

// evenly is how many pulls of others have come back by then.
func (b *budget) evenly(then time.Time) int {
	passed := min(then.Sub(b.at), b.away())
	return int(float64(b.others()) * float64(max(0, passed)) / float64(b.away()))
}

// opens is when so many pulls are left, at the latest when all are.
func (b *budget) opens(want int, now time.Time) time.Time {
	if b.left(now) >= want {
		return now
	}
	if b.quota.Reset > 0 {
		return b.at.Add(b.quota.Reset)
	}
	need, others := want-b.quota.Remaining, b.others()
	least := b.at.Add(b.away())
	for back := range min(need, len(b.ours)) + 1 {
		if need-back > others {
			continue
		}
		at := b.at
		if need > back {
			at = b.at.Add(b.away()*time.Duration(need-back)/time.Duration(others) + time.Second)
		}
		if back > 0 {
			at = later(at, b.ours[back-1].Add(b.away()))
		}
		if at.Before(least) {
			least = at
		}
	}
	return later(least, now.Add(time.Second))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
