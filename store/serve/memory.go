package serve

import (
	"sync"

	"github.com/opencontainers/go-digest"
)

const (
	// memorySize is how many bytes of manifests are remembered.
	memorySize = 64 << 20
	// memoryMost is how large a manifest is remembered.
	memoryMost = 4 << 20
	// besides is about what a manifest takes besides its bytes.
	besides = 512
)

// memory remembers manifests that were verified. What a digest names never
// changes, so nothing in it is ever wrong; whether a repository serves it is
// for others to say. The zero memory is empty.
//
// It has two halves. What is asked for comes to the young one; when that is
// full it becomes the old one, and what nobody asked for meanwhile goes.
type memory struct {
	mu         sync.Mutex
	young, old map[digest.Digest]*manifest
	size       int // of the young
}

func (m *memory) get(d digest.Digest) (*manifest, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if found, ok := m.young[d]; ok {
		return found, true
	}
	found, ok := m.old[d]
	if ok {
		m.add(found)
	}
	return found, ok
}

// put remembers a manifest that was verified. Nobody may change it any more.
func (m *memory) put(found *manifest) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.add(found)
}

func (m *memory) add(found *manifest) {
	size := len(found.raw) + besides
	if _, ok := m.young[found.digest]; ok || size > memoryMost {
		return
	}
	if m.size+size > memorySize/2 || m.young == nil {
		m.old, m.young, m.size = m.young, map[digest.Digest]*manifest{}, 0
	}
	m.young[found.digest] = found
	m.size += size
}
