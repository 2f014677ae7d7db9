package demand

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
)

// patience is how long a client with an image that is here waits for what the
// upstream says.
const patience = 5 * time.Second

// wish is what a client asks for.
type wish struct {
	origin mirror.Origin
	ref    string
	digest digest.Digest // "": ref is a tag
}

func (w wish) key() string { return w.origin.Local + " " + w.ref }

// answer is a manifest; without one the answer is what is here.
type answer struct {
	desc ocispec.Descriptor
	raw  []byte
}

// Manifest brings a manifest that is not here, or that the upstream has a newer
// one of. Without an error and a descriptor the answer is what is here. There is
// no error while the local registry has the manifest. Other errors:
// fs.ErrNotExist, *[mirror.ThrottledError], *[mirror.WithheldError], and those of
// upstreams that fail.
func (d *Demand) Manifest(ctx context.Context, repo, ref string) (ocispec.Descriptor, []byte, error) {
	w, ok := d.wish(repo, ref)
	if !ok {
		return ocispec.Descriptor{}, nil, nil
	}
	a, err := d.manifest(ctx, w)
	if err != nil && d.here(ctx, w) {
		a, err = answer{}, nil // it came meanwhile
	}
	return a.desc, a.raw, err
}

// wish finds the rule that has to do with what a client asks for: the first that
// selects the tag, as in a sync.
func (d *Demand) wish(repo, ref string) (wish, bool) {
	origins := d.rules().Origins(repo)
	if len(origins) == 0 {
		return wish{}, false
	}
	if named := digest.Digest(ref); named.Validate() == nil {
		return wish{onDemand(origins), ref, named}, true
	}
	for _, o := range origins {
		if o.Selects(ref) {
			return wish{origin: o, ref: ref}, true
		}
	}
	return wish{}, false
}

// onDemand is the first origin by a rule that brings what is not here, or the first.
func onDemand(origins []mirror.Origin) mirror.Origin {
	for _, o := range origins {
		if o.Rule().OnDemand {
			return o
		}
	}
	return origins[0]
}

// server is a Destination that tells without reading it whether a repository
// serves a manifest.
type server interface {
	ServesManifest(repo string, d digest.Digest) error
}

// here reports whether the local registry answers. It has to when it cannot
// tell: the fault is its own.
func (d *Demand) here(ctx context.Context, w wish) bool {
	var err error
	dest := d.engine().Dest
	quick, ok := dest.(server)
	switch {
	case w.digest == "":
		_, err = dest.Resolve(ctx, w.origin.Local, w.ref)
	case ok:
		err = quick.ServesManifest(w.origin.Local, w.digest)
	default:
		_, _, err = dest.Manifest(ctx, w.origin.Local, w.digest)
	}
	return !errors.Is(err, fs.ErrNotExist)
}

func (d *Demand) manifest(ctx context.Context, w wish) (answer, error) {
	if d.here(ctx, w) {
		return d.checked(ctx, w), nil
	}
	if w.digest != "" {
		if r, desc, ok := d.carrying(w.origin.Local, w.digest); ok {
			return d.read(ctx, r, desc)
		}
	}
	if !w.origin.Rule().OnDemand {
		return answer{}, nil
	}
	r, err := d.start(w, d.o.Waiting)
	if err != nil {
		return answer{}, err
	}
	return d.first(ctx, r)
}

// checked looks after a manifest that is here, as the rule's mode says.
func (d *Demand) checked(ctx context.Context, w wish) answer {
	mode := w.origin.Mode()
	if w.digest != "" || mode == mirror.ModeLocal {
		return answer{}
	}
	r := d.running(w)
	if r == nil && d.knows(w) {
		return answer{}
	}
	if mode == mirror.ModeStale {
		if r == nil {
			_, _ = d.start(w, max(1, d.o.Runs/2)) // if it cannot be now, then another time
		}
		return answer{}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r, err := d.start(w, d.o.Waiting)
	if err != nil {
		return answer{}
	}
	a, err := d.first(ctx, r)
	if err != nil {
		return answer{}
	}
	return a
}

// first waits for the manifest of a run's image.
func (d *Demand) first(ctx context.Context, r *run) (answer, error) {
	select {
	case <-r.first:
	case <-ctx.Done():
		return answer{}, ctx.Err()
	}
	if r.failed != nil || r.root.Digest == "" {
		return answer{}, r.failed
	}
	return d.read(ctx, r, r.root)
}

// read answers with a manifest of an image that is on its way.
func (d *Demand) read(ctx context.Context, r *run, desc ocispec.Descriptor) (answer, error) {
	m, copied, err := r.pull.Manifest(ctx, desc)
	if err != nil {
		return answer{}, err
	}
	r.came(m, copied)
	_, raw, err := d.engine().Dest.Manifest(ctx, "", desc.Digest)
	return answer{m.Descriptor, raw}, err
}
