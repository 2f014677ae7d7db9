package layout

import (
	"errors"
	"maps"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// waiting is content that lies in scratch, whole and verified, until a barrier
// makes it durable and gives it its name. The zero value is ready.
type waiting struct {
	mu   sync.Mutex
	held map[digest.Digest]held
}

type held struct {
	size int64
	err  error // why it could not get its name
}

func (w *waiting) add(desc ocispec.Descriptor) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.held == nil {
		w.held = map[digest.Digest]held{}
	}
	w.held[desc.Digest] = held{size: desc.Size}
}

func (w *waiting) size(d digest.Digest) (size int64, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	h, ok := w.held[d]
	return h.size, ok
}

// all is a copy.
func (w *waiting) all() map[digest.Digest]held {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.held)
}

// end says how the wait for a name ended. With an error it goes on.
func (w *waiting) end(d digest.Digest, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		delete(w.held, d)
	} else {
		w.held[d] = held{w.held[d].size, err}
	}
}

// errs is why content among ds waits still after a barrier.
func (w *waiting) errs(ds []digest.Digest) (err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range ds {
		err = errors.Join(err, w.held[d].err)
	}
	return err
}

// Settle is a barrier after which content that was ingested has its name. What
// other content waits for is not its error.
func (t *Tree) Settle(ds ...digest.Digest) error {
	if err := t.Barrier(); err != nil {
		return err
	}
	return Explain(t.waiting.errs(ds))
}

// settle makes everything that was written before durable. Content that waited
// for that gets its name; when the disk lost something it is no longer held,
// because the page cache would vouch for it.
func (t *Tree) settle() error {
	all := t.waiting.all()
	err := t.syncAll()
	for d := range all {
		if err == nil {
			t.waiting.end(d, t.rename(partial(d), Data(d)))
		} else {
			err = errors.Join(err, t.scratch.Remove(partial(d)))
			t.waiting.end(d, nil)
		}
	}
	return err
}
