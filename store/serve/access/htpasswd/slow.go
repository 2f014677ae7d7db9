package htpasswd

import (
	"math"
	"net/netip"
	"sync"
	"time"
)

// How many logins may fail at once, and after how long one more may. A person
// who mistypes meets none of these. The one of a pair is the longest that
// somebody waits for a guesser who knows their name and shares their address.
var (
	perPair    = pace{burst: 5, each: 10 * time.Second}
	perAddress = pace{burst: 20, each: 3 * time.Second}
	perName    = pace{burst: 50, each: time.Second}
)

const (
	maxBuckets = 10000
	// trust is how long a user who logged in from an address does not pay for
	// what others guess there.
	trust = 24 * time.Hour
)

type pace struct {
	burst float64
	each  time.Duration
}

// slow counts failed logins.
type slow struct {
	mu        sync.Mutex
	pairs     buckets[pair]
	addresses buckets[netip.Addr]
	names     buckets[string]
	trusted   map[pair]time.Time // until
}

type pair struct {
	addr netip.Addr
	name string
}

func newSlow() *slow {
	return &slow{
		pairs:     buckets[pair]{perPair, map[pair]bucket{}},
		addresses: buckets[netip.Addr]{perAddress, map[netip.Addr]bucket{}},
		names:     buckets[string]{perName, map[string]bucket{}},
		trusted:   map[pair]time.Time{},
	}
}

// take counts a login as failed before it is tried, so that many at once are
// not more than may be. After zero it may be tried; else it may be then.
func (s *slow) take(p pair, now time.Time) (after time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	after = s.pairs.wait(p, now)
	if !s.trusts(p, now) {
		after = max(after, s.addresses.wait(p.addr, now), s.names.wait(p.name, now))
	}
	if after > 0 {
		return after
	}
	s.pairs.add(p, 1, now)
	s.addresses.add(p.addr, 1, now)
	s.names.add(p.name, 1, now)
	return 0
}

func (s *slow) trusts(p pair, now time.Time) bool { return now.Before(s.trusted[p]) }

// succeed takes back what take counted, and trusts.
func (s *slow) succeed(p pair, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pairs.m, p)
	s.addresses.add(p.addr, -1, now)
	s.names.add(p.name, -1, now)
	if len(s.trusted) >= maxBuckets {
		for some := range s.trusted {
			delete(s.trusted, some)
			break
		}
	}
	s.trusted[p] = now.Add(trust)
}

// undo takes back what take counted for a login that was not tried.
func (s *slow) undo(p pair, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pairs.add(p, -1, now)
	s.addresses.add(p.addr, -1, now)
	s.names.add(p.name, -1, now)
}

// buckets count for each key what is not yet forgiven.
type buckets[K comparable] struct {
	pace
	m map[K]bucket
}

type bucket struct {
	spent float64
	at    time.Time
}

func (b buckets[K]) spent(k K, now time.Time) float64 {
	was := b.m[k]
	return max(0, was.spent-float64(now.Sub(was.at))/float64(b.each))
}

func (b buckets[K]) wait(k K, now time.Time) time.Duration {
	over := b.spent(k, now) + 1 - b.burst
	return time.Duration(math.Ceil(max(0, over) * float64(b.each)))
}

func (b buckets[K]) add(k K, n float64, now time.Time) {
	spent := b.spent(k, now) + n
	if spent <= 0 {
		delete(b.m, k)
		return
	}
	if _, again := b.m[k]; !again && len(b.m) >= maxBuckets {
		b.forget(now)
	}
	b.m[k] = bucket{spent, now}
}

// forget makes room: of a few, who has failed least.
func (b buckets[K]) forget(now time.Time) {
	var least K
	lowest, looked := math.Inf(1), 0
	for k := range b.m {
		if spent := b.spent(k, now); spent < lowest {
			least, lowest = k, spent
		}
		if looked++; looked == 8 {
			break
		}
	}
	delete(b.m, least)
}
