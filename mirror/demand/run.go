package demand

import (
	"errors"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
)

// run brings one image.
type run struct {
	wish
	first    chan struct{} // closed when the image's manifest is here, or will not be
	finished chan struct{} // closed at the end

	// These are written before first closes.
	pull   *mirror.Pull
	root   ocispec.Descriptor // zero: there is nothing to bring
	failed error

	mu        sync.Mutex
	manifests map[digest.Digest]ocispec.Descriptor
	blobs     map[digest.Digest]ocispec.Descriptor

	over time.Time // when it ended; guarded by the Demand
}

const (
	// remembered is how long a run that ended tells what its image is made of,
	// and maxEnded how many of them do.
	remembered = time.Minute
	maxEnded   = 64

	// How long what cannot be had is not asked for again.
	missingFor   = 30 * time.Second
	throttledFor = time.Minute // at most
	failedFor    = 5 * time.Second
)

// start returns the run for a wish, a new one when there is none and there
// are fewer than so many.
func (d *Demand) start(w wish, most int) (*run, error) {
	now := d.engine().Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if r := d.runs[w.key()]; r != nil {
		return r, nil
	}
	if err, ok := d.refused.get(w.key(), now); ok {
		return nil, err
	}
	switch {
	case d.closed:
		return nil, errClosed
	case len(d.runs) >= most:
		return nil, errBusy
	}
	r := &run{wish: w, first: make(chan struct{}), finished: make(chan struct{}), manifests: map[digest.Digest]ocispec.Descriptor{}, blobs: map[digest.Digest]ocispec.Descriptor{}}
	d.runs[w.key()] = r
	d.work.Go(func() { d.run(r) })
	return r, nil
}

func (d *Demand) running(w wish) *run {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.runs[w.key()]
}

// knows reports whether the upstream was asked not long ago.
func (d *Demand) knows(w wish) bool {
	now := d.engine().Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.asked.get(w.key(), now)
	return ok
}

// run waits for a place, brings the image, and says how that ended.
func (d *Demand) run(r *run) {
	var err error
	select {
	case d.places <- struct{}{}:
		err = d.bring(r)
		<-d.places
	case <-d.ctx.Done():
		err = errClosed
	}
	d.end(r, err)
}

// bring tries twice when an upstream's tag moves after it was asked for, and
// what it named is gone.
func (d *Demand) bring(r *run) error {
	err := d.once(r)
	if errors.Is(err, fs.ErrNotExist) && r.pull != nil && r.root.Digest == "" && r.digest == "" {
		err = d.once(r)
	}
	return err
}

func (d *Demand) once(r *run) error {
	e := d.engine()
	pull, err := e.Ask(d.ctx, r.origin, r.ref)
	if err != nil || pull.Here() {
		return err
	}
	r.pull = pull
	return pull.Bring(d.ctx, func(m mirror.Manifest, copied []mirror.Ref) {
		r.came(m, copied)
		if r.root.Digest == "" {
			r.root = m.Descriptor
			close(r.first)
		}
	})
}

// came puts down what an image is made of.
func (r *run) came(m mirror.Manifest, copied []mirror.Ref) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.manifests[m.Descriptor.Digest] = m.Descriptor
	for _, ref := range copied {
		switch _, known := r.manifests[ref.Digest]; {
		case ref.Role != mirror.RoleChild:
			r.blobs[ref.Digest] = ref.Descriptor
		case !known:
			r.manifests[ref.Digest] = ref.Descriptor
		}
	}
}

// end takes a run out of those that run.
func (d *Demand) end(r *run, err error) {
	now := d.engine().Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.runs, r.key())
	close(r.finished)
	r.over = now
	if err == nil {
		r.forget()
	}
	d.asked.put(r.key(), nil, now, now.Add(holds(r.origin.Rule().TTL, err)))
	if r.root.Digest == "" {
		r.failed = err
		close(r.first)
	} else {
		d.ended = append(d.ended, r)
		d.ended = d.ended[max(0, len(d.ended)-maxEnded):]
	}
	if err != nil && d.ctx.Err() == nil {
		if r.root.Digest == "" {
			d.refused.put(r.key(), err, now, now.Add(refusal(err, now)))
		}
		d.log(r, err)
	}
}

// forget leaves questions about manifests to the local registry, which has them.
func (r *run) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.manifests)
}

// holds is how long what the upstream said of a tag that is here holds.
func holds(ttl time.Duration, err error) time.Duration {
	if _, withheld := errors.AsType[*mirror.WithheldError](err); withheld || err == nil {
		return ttl
	}
	return min(ttl, missingFor)
}

// refusal is how long an error holds.
func refusal(err error, now time.Time) time.Duration {
	throttled, isThrottled := errors.AsType[*mirror.ThrottledError](err)
	withheld, isWithheld := errors.AsType[*mirror.WithheldError](err)
	switch {
	case isThrottled:
		return min(throttledFor, throttled.Until.Sub(now))
	case isWithheld && !withheld.Until.IsZero():
		return min(missingFor, withheld.Until.Sub(now))
	case isWithheld, errors.Is(err, fs.ErrNotExist):
		return missingFor
	}
	return failedFor
}

// log tells of an image that did not come. That there is none is the client's to hear.
func (d *Demand) log(r *run, err error) {
	log := d.o.Log.Warn
	_, throttled := errors.AsType[*mirror.ThrottledError](err)
	_, withheld := errors.AsType[*mirror.WithheldError](err)
	if throttled || withheld || errors.Is(err, fs.ErrNotExist) {
		log = d.o.Log.Debug
	}
	log("image not pulled through", "repo", r.origin.Local, "ref", r.ref, "upstream", r.origin.Upstream.Host, "err", err)
}

// carrying finds the run about an image that a manifest of repo belongs to.
func (d *Demand) carrying(repo string, m digest.Digest) (*run, ocispec.Descriptor, bool) {
	for _, r := range d.recent(repo) {
		if desc, ok := r.lookUp(r.manifests, m); ok {
			return r, desc, true
		}
	}
	return nil, ocispec.Descriptor{}, false
}

// recent are the runs about a repository, those that ended not long ago after those
// that run.
func (d *Demand) recent(repo string) []*run {
	now := d.engine().Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ended = slices.DeleteFunc(d.ended, func(r *run) bool { return now.Sub(r.over) >= remembered })
	var found []*run
	for _, r := range d.runs {
		if r.origin.Local == repo {
			found = append(found, r)
		}
	}
	for _, r := range d.ended {
		if r.origin.Local == repo {
			found = append(found, r)
		}
	}
	return found
}

func (r *run) lookUp(in map[digest.Digest]ocispec.Descriptor, d digest.Digest) (ocispec.Descriptor, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	desc, ok := in[d]
	return desc, ok
}
