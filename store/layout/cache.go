package layout

import (
	"hash/maphash"
	"sync"
)

// cacheShards is a power of two.
const cacheShards = 64

// cache remembers what was read from the disk, exactly: a change is announced
// before it is made, from then on what it changes is read from the disk, and what
// was read before its end is not remembered. What is too much goes by chance.
type cache[V any] struct {
	seed   maphash.Seed
	bound  int // of each shard, in bytes
	weight func(string, V) int
	shards [cacheShards]shard[V]
}

type shard[V any] struct {
	mu       sync.RWMutex
	known    map[string]V
	bytes    int
	changing int    // changes that have begun and not ended
	changes  uint64 // that have ended

	_ [8]byte // shards do not share a line of the processor's cache
}

// newCache remembers up to bound bytes, by weight.
func newCache[V any](bound int, weight func(key string, v V) int) *cache[V] {
	c := &cache[V]{seed: maphash.MakeSeed(), bound: bound / cacheShards, weight: weight}
	for i := range c.shards {
		c.shards[i].known = map[string]V{}
	}
	return c
}

func (c *cache[V]) shard(key string) *shard[V] {
	return &c.shards[maphash.String(c.seed, key)%cacheShards]
}

// get returns what is known. When nothing is, mark is for keep, after the disk
// was read.
func (c *cache[V]) get(key string) (v V, mark uint64, ok bool) {
	s := c.shard(key)
	s.mu.RLock()
	v, ok = s.known[key]
	mark = s.changes
	s.mu.RUnlock()
	return v, mark, ok
}

// keep remembers what was read after get gave mark, unless a change came
// in between.
func (c *cache[V]) keep(key string, v V, mark uint64) {
	s := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changing > 0 || s.changes != mark {
		return
	}
	c.forget(s, key)
	weight := c.weight(key, v)
	for other := range s.known {
		if s.bytes+weight <= c.bound {
			break
		}
		c.forget(s, other)
	}
	if s.bytes+weight <= c.bound {
		s.known[key] = v
		s.bytes += weight
	}
}

func (c *cache[V]) forget(s *shard[V], key string) {
	if v, ok := s.known[key]; ok {
		s.bytes -= c.weight(key, v)
		delete(s.known, key)
	}
}

// change is to be called before what lies under key changes, and the function
// that it returns after.
func (c *cache[V]) change(key string) (end func()) {
	s := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changing++
	c.forget(s, key)
	return s.end
}

func (s *shard[V]) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changing--
	s.changes++
}

// changeAll is change for all keys that covers names.
func (c *cache[V]) changeAll(covers func(key string) bool) (end func()) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		s.changing++
		for key := range s.known {
			if covers(key) {
				c.forget(s, key)
			}
		}
		s.mu.Unlock()
	}
	return func() {
		for i := range c.shards {
			c.shards[i].end()
		}
	}
}
