package mirror

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// pulledBy is who publishes what a client asked for.
const pulledBy = "pull"

// Pull is an image that a client asked for, and that the upstream has.
type Pull struct {
	applying *applying
	src      Source
	rule     *rule
	change   change
}

// Ask asks the upstream what a tag or digest is, under the gates of a sync. The
// errors of gates are *[WithheldError]: the digest is too young, an immutable tag
// moved, or retention removed the image and would again. What was seen is
// remembered, so that ages count from the first pull on. fs.ErrNotExist: the
// upstream has no such thing.
func (e *Engine) Ask(ctx context.Context, o Origin, ref string) (*Pull, error) {
	a := e.pulling()
	src, err := a.meter.source(o.rule.host)
	if err != nil {
		return nil, err
	}
	p := &Pull{a, src, o.rule, change{repository: o.Upstream.Repository, to: o.Local, by: pulledBy}}
	d := digest.Digest(ref)
	if d.Validate() != nil {
		p.change.tag = ref
		if p.change.previous, err = e.Dest.Resolve(ctx, o.Local, ref); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("local %s:%s: %w", o.Local, ref, err)
		}
	}
	rp := &rulePlan{rule: o.rule, memories: map[string]*sightings{}}
	err = p.ask(ctx, rp, ref)
	withheld := p.withheld(rp, err)
	if err := a.remember(ctx, rp); err != nil {
		return nil, err
	}
	if withheld != nil {
		return nil, withheld
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// pulling is an applying of one image that is brought for clients. Such images
// have one line for their downloads.
func (e *Engine) pulling() *applying {
	return &applying{Engine: e, meter: newMeter(e.Source), downloads: e.traffic().forPulls(e.jobs())}
}

// ask finds out what is to be copied.
func (p *Pull) ask(ctx context.Context, rp *rulePlan, ref string) error {
	c, gates := &p.change, &planner{Engine: p.applying.Engine}
	if held, err := p.held(ctx, gates); held || err != nil {
		return err
	}
	if known, err := p.fixed(ctx, gates); known || err != nil {
		return err
	}
	var err error
	if c.desc, err = p.src.Head(ctx, c.repository, ref); err != nil {
		return fmt.Errorf("upstream %s/%s: %w", p.rule.host, c.sourceOf(ref), err)
	}
	if c.tag != "" && p.rule.fixedTag(c.tag) {
		rp.sawTag(c.to, c.tag)
	}
	switch c.previous {
	case c.desc.Digest:
		return nil
	case "":
		err = p.retired(ctx, gates)
	default:
		err = gates.moved(ctx, rp, p.rule, c)
	}
	if err == nil {
		err = gates.ripe(ctx, rp, p.rule, *c)
	}
	c.reason = "pulled by a client"
	return err
}

func (p *Pull) retired(ctx context.Context, gates *planner) error {
	if p.change.tag == "" {
		return nil
	}
	return gates.retired(ctx, p.change)
}

// held reports whether a tag that is here stays where it is: it is what clients get.
func (p *Pull) held(ctx context.Context, gates *planner) (bool, error) {
	c := &p.change
	if c.previous == "" || c.tag == "" {
		return false, nil
	}
	err := gates.held(ctx, *c)
	if _, held := errors.AsType[*heldError](err); !held {
		return false, err
	}
	c.desc.Digest = c.previous
	return true, nil
}

// fixed reports whether an immutable tag is here, and the upstream was asked for
// it not long ago.
func (p *Pull) fixed(ctx context.Context, gates *planner) (bool, error) {
	c := &p.change
	if c.previous == "" || !p.rule.fixedTag(c.tag) || gates.Memory == nil || gates.released(*c) {
		return false, nil
	}
	asked, err := gates.Memory.Asked(ctx, c.to, c.tag)
	if err != nil {
		return false, fmt.Errorf("local %s:%s: %w", c.to, c.tag, err)
	}
	age := gates.Now().Sub(asked)
	c.desc.Digest = c.previous
	return age >= 0 && age < immutableBeat, nil
}

// withheld is the error of a gate in the words for clients, or nil.
func (p *Pull) withheld(rp *rulePlan, err error) error {
	c := p.change
	w := &WithheldError{Repo: c.to, Tag: c.tag, Digest: c.desc.Digest}
	release := fmt.Sprintf("lastro sync --release %s:%s", c.to, c.tag)
	held, young := errors.AsType[*heldError](err)
	switch {
	case young:
		rp.note(c, nil, err)
		w.Until, w.Reason = held.Until, held.Reason
		if c.tag != "" {
			w.Reason += "; to have it now: " + release
		}
	case errors.Is(err, errRetired):
		w.Reason = "retention removed it, and would remove it again: change what it keeps, or pull " + string(c.desc.Digest)
	case len(rp.notes) > 0: // an alarm
		w.Reason = rp.notes[0].reason + "; if that is right: " + release
	default:
		return nil
	}
	return w
}

// Digest is what the upstream has.
func (p *Pull) Digest() digest.Digest { return p.change.desc.Digest }

// Here reports whether the local tag is there already.
func (p *Pull) Here() bool { return p.change.previous == p.change.desc.Digest }

// Bring copies the image and publishes it, as a sync does. came hears of every
// manifest that was verified, the image's own first, and of what is copied of
// it; it is called from one goroutine.
func (p *Pull) Bring(ctx context.Context, came func(m Manifest, copied []Ref)) error {
	g := p.graph()
	g.came = came
	published, err := g.copy(ctx)
	c := p.change
	if err != nil {
		return fmt.Errorf("%s/%s → %s: %w", p.rule.host, c.source(), c.to, err)
	}
	log := p.applying.log().Info
	if !published.Changed {
		log = p.applying.log().Debug
	}
	log("image pulled through", "repo", c.to, "tag", c.tag, "digest", c.desc.Digest, "upstream", p.rule.host, "bytes", p.applying.transferred.Load())
	return nil
}

func (p *Pull) graph() *graph { return p.applying.graph(p.src, p.rule, p.change) }

// Manifest reads one manifest of the image ahead of Bring, and says what Bring copies of it.
func (p *Pull) Manifest(ctx context.Context, desc ocispec.Descriptor) (Manifest, []Ref, error) {
	m, err := p.graph().read(ctx, desc)
	if err != nil {
		return m, nil, err
	}
	selected, _ := split(m, p.rule.platforms)
	return m, append(slices.Collect(p.rule.kept(m)), selected...), nil
}

// Size asks the upstream for a blob of a repository; fs.ErrNotExist, also of
// upstreams that cannot be asked so.
func (e *Engine) Size(ctx context.Context, o Origin, d digest.Digest) (int64, error) {
	src, err := e.Source(o.rule.host)
	if err != nil {
		return 0, err
	}
	sizer, ok := src.(Sizer)
	if !ok {
		return 0, fmt.Errorf("upstream %s cannot be asked for the size of %s: %w", o.rule.host, d, fs.ErrNotExist)
	}
	size, err := sizer.Size(ctx, o.Upstream.Repository, d)
	if err != nil {
		return 0, fmt.Errorf("upstream %s: blob %s: %w", o.Upstream, d, err)
	}
	return size, nil
}

// Fetch stores one blob, before what waits for its turn: a client waits for it.
// Nothing becomes visible. Who is at work on it already is waited for.
func (e *Engine) Fetch(ctx context.Context, o Origin, desc ocispec.Descriptor) error {
	if has, err := e.Dest.Has(ctx, desc); err != nil || has {
		return err
	}
	a := e.pulling()
	src, err := a.meter.source(o.rule.host)
	if err != nil {
		return err
	}
	promises, err := a.promise(ctx, []ocispec.Descriptor{desc})
	if err != nil {
		return err
	}
	defer promises[0].end()
	g := a.graph(src, o.rule, change{repository: o.Upstream.Repository, to: o.Local})
	return g.blob(ctx, missingBlob{desc, urgent, promises[0]})
}

// Watch is [Traffic.Watch] of what the engine brings. A client waits for it: who
// is at work on it goes first from now on.
func (e *Engine) Watch(d digest.Digest) (changed <-chan struct{}, release func()) {
	e.traffic().hurry(d)
	return e.traffic().Watch(d)
}

// source names the image in its upstream.
func (c change) source() string {
	if c.tag == "" {
		return c.sourceOf(c.desc.Digest.String())
	}
	return c.sourceOf(c.tag)
}

func (c change) sourceOf(ref string) string {
	if digest.Digest(ref).Validate() == nil {
		return c.repository + "@" + ref
	}
	return c.repository + ":" + ref
}
