package upstream

import (
	"context"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"
)

// breaks counts how often streams of content broke off, for content that
// mirrors may have, too.
type breaks struct {
	mu sync.Mutex
	of map[digest.Digest]int
}

// toleratedBreaks is how often a stream may break off before mirrors are asked
// first.
const toleratedBreaks = 2

func (b *breaks) often(d digest.Digest) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.of[d] >= toleratedBreaks
}

func (b *breaks) add(d digest.Digest) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.of == nil {
		b.of = map[digest.Digest]int{}
	}
	b.of[d]++
}

func (b *breaks) forget(d digest.Digest) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.of, d)
}

// noted is a stream whose end is counted.
type noted struct {
	io.ReadCloser
	ctx    context.Context // of the caller, whose own end is no break
	breaks *breaks
	digest digest.Digest
}

func (n *noted) Read(p []byte) (int, error) {
	k, err := n.ReadCloser.Read(p)
	switch {
	case err == io.EOF:
		n.breaks.forget(n.digest)
	case err != nil && n.ctx.Err() == nil:
		n.breaks.add(n.digest)
	}
	return k, err
}
