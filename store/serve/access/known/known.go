// Package known remembers for a while what was proven, so that the proof is
// paid once and not per request. It keeps no secret: what was proven is found
// by an HMAC whose key is of this process alone.
package known

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"sync"
	"time"
)

// limit is how many proofs are remembered.
const limit = 8192

// Print stands for a secret.
type Print [sha256.Size]byte

// Set is what was proven, by the print of the secret. It may be used from many
// goroutines.
type Set[V any] struct {
	hashes sync.Pool

	mu     sync.RWMutex
	proven map[Print]proof[V]
}

type proof[V any] struct {
	value V
	until time.Time
}

// New has proven nothing.
func New[V any]() *Set[V] {
	key := make([]byte, sha256.Size)
	rand.Read(key)
	s := &Set[V]{proven: map[Print]proof[V]{}}
	s.hashes.New = func() any { return hmac.New(sha256.New, key) }
	return s
}

// Print of a secret that is made of parts. Two secrets have two prints, also
// when their parts written one after the other are the same.
func (s *Set[V]) Print(parts ...string) (p Print) {
	h := s.hashes.Get().(hash.Hash)
	defer s.hashes.Put(h)
	h.Reset()
	for _, part := range parts {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
		h.Write([]byte(part))
	}
	h.Sum(p[:0])
	return p
}

// Get is what was proven by a secret, if that still holds.
func (s *Set[V]) Get(p Print, now time.Time) (v V, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	found, ok := s.proven[p]
	if !ok || !now.Before(found.until) {
		return v, false
	}
	return found.value, true
}

// Put remembers until then, or until there is too much to remember.
func (s *Set[V]) Put(p Print, v V, until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, again := s.proven[p]; !again && len(s.proven) >= limit {
		s.forget()
	}
	s.proven[p] = proof[V]{v, until}
}

// forget makes room: of a few, what would end first.
func (s *Set[V]) forget() {
	var first Print
	var until time.Time
	looked := 0
	for p, found := range s.proven {
		if looked == 0 || found.until.Before(until) {
			first, until = p, found.until
		}
		if looked++; looked == 8 {
			break
		}
	}
	delete(s.proven, first)
}

// Clear forgets everything.
func (s *Set[V]) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.proven)
}
