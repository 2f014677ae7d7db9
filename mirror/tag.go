package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/opencontainers/go-digest"
)

// immutableBeat is how often the upstream is asked for an immutable tag that is here.
const immutableBeat = 24 * time.Hour

// errRetired says that retention removed what the upstream still has.
var errRetired = errors.New("removed by retention")

// heldError is a digest that is not to be published yet, or a tag that stays
// where it is. noted is what the tag's history says of it; "": nothing.
type heldError struct {
	Held
	noted string
}

func (e *heldError) Error() string { return e.Reason }

// goneError is a tag that is here and upstream no more.
type goneError struct{ Vanished }

func (e *goneError) Error() string { return "the upstream has it no more" }

// tag plans one tag: nothing, its image, or only what was attached to it since.
// It says whether the tag is here.
func (p *planner) tag(ctx context.Context, src Source, rp *rulePlan, r *rule, c change) (changes []change, here bool, err error) {
	c.previous, err = p.Dest.Resolve(ctx, c.to, c.tag)
	here = err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, false, fmt.Errorf("local %s:%s: %w", c.to, c.tag, err)
	}
	if here {
		if err := p.held(ctx, c); err != nil {
			return nil, here, err
		}
	}
	if here && r.fixedTag(c.tag) && !c.unlisted && !p.released(c) {
		if changes, sure, err := p.fixed(ctx, src, rp, r, c); sure || err != nil {
			return changes, here, err
		}
	}
	changes, err = p.asked(ctx, src, rp, r, c)
	return changes, here, err
}

// held refuses to look further at a tag that stays where it is.
func (p *planner) held(ctx context.Context, c change) error {
	if p.Held == nil {
		return nil
	}
	reason, err := p.Held(ctx, c.to, c.tag)
	if err != nil {
		return fmt.Errorf("local %s:%s: %w", c.to, c.tag, err)
	}
	if reason == "" {
		return nil
	}
	c.desc.Digest = c.previous
	return &heldError{Held: Held{Copied: c.copiedAs(reason)}}
}

// fixed plans an immutable tag that is here without asking for it, when it was
// asked for not long ago. Otherwise it is not sure.
func (p *planner) fixed(ctx context.Context, src Source, rp *rulePlan, r *rule, c change) (changes []change, sure bool, err error) {
	if p.Memory == nil {
		return nil, false, nil
	}
	asked, err := p.Memory.Asked(ctx, c.to, c.tag)
	if err != nil {
		return nil, false, fmt.Errorf("local %s:%s: %w", c.to, c.tag, err)
	}
	if age := p.Now().Sub(asked); age < 0 || age >= immutableBeat {
		return nil, false, nil
	}
	c.desc.Digest = c.previous
	changes, err = p.unmoved(ctx, src, rp, r, c)
	return changes, true, err
}

// asked plans a tag by what the upstream says of it.
func (p *planner) asked(ctx context.Context, src Source, rp *rulePlan, r *rule, c change) (changes []change, err error) {
	c.desc, err = src.Head(ctx, c.repository, c.tag)
	switch {
	case errors.Is(err, fs.ErrNotExist) && c.previous != "" && p.Memory != nil:
		return nil, &goneError{Vanished{Repo: c.to, Tag: c.tag, Digest: c.previous}}
	case err != nil:
		return nil, fmt.Errorf("upstream %s/%s:%s: %w", r.host, c.repository, c.tag, err)
	}
	if r.fixedTag(c.tag) {
		rp.sawTag(c.to, c.tag)
	}
	switch c.previous {
	case "":
		c.reason = cmp.Or(c.reason, "new upstream")
		err = p.retired(ctx, c)
	case c.desc.Digest:
		return p.unmoved(ctx, src, rp, r, c)
	default:
		err = p.moved(ctx, rp, r, &c)
	}
	if err == nil {
		err = p.ripe(ctx, rp, r, c)
	}
	return []change{c}, err
}

func (rp *rulePlan) sawTag(repo, tag string) {
	rp.mu.Lock()
	defer rp.mu.Unlock()
	s := rp.sighting(repo)
	s.asked = append(s.asked, tag)
}

func (rp *rulePlan) sawDigest(repo string, d digest.Digest) {
	rp.mu.Lock()
	defer rp.mu.Unlock()
	s := rp.sighting(repo)
	s.seen = append(s.seen, d)
}

// moved says how a tag moved, and refuses it when it never should.
func (p *planner) moved(ctx context.Context, rp *rulePlan, r *rule, c *change) error {
	if r.fixedTag(c.tag) && !p.released(*c) {
		reason := fmt.Sprintf("the immutable tag moved upstream to %s: it is left at %s", c.desc.Digest, c.previous)
		rp.alarm(c.to, c.tag, reason)
		return fmt.Errorf("upstream %s/%s:%s: %s; if that is right: lastro sync --release %s:%s", r.host, c.repository, c.tag, reason, c.to, c.tag)
	}
	c.reason = cmp.Or(c.reason, "moved upstream")
	if p.Memory == nil {
		return nil
	}
	left, err := p.Memory.Had(ctx, c.to, c.tag, c.desc.Digest)
	if err != nil {
		return fmt.Errorf("local %s:%s: %w", c.to, c.tag, err)
	}
	if !left.IsZero() {
		c.reason = "moved back upstream, to what it was until " + left.UTC().Format(time.RFC3339)
	}
	return nil
}

func (rp *rulePlan) alarm(repo, tag, reason string) {
	rp.mu.Lock()
	defer rp.mu.Unlock()
	rp.notes = append(rp.notes, note{repo, tag, EventAlarm, reason})
}

// ripe refuses a digest that has not been known for long enough.
func (p *planner) ripe(ctx context.Context, rp *rulePlan, r *rule, c change) error {
	age := r.age(c.tag)
	if age == 0 || p.Memory == nil || p.released(c) {
		return nil
	}
	known, err := p.Memory.Known(ctx, c.to, c.desc.Digest)
	if err != nil {
		return fmt.Errorf("local %s:%s: %w", c.to, c.tag, err)
	}
	now := p.Now()
	if known.IsZero() {
		rp.sawDigest(c.to, c.desc.Digest)
		known = now
	}
	until := known.Add(age)
	if !now.Before(until) {
		return nil
	}
	reason := fmt.Sprintf("%s is held until %s: it must be known for %s", c.desc.Digest, until.UTC().Format(time.RFC3339), age)
	// The note is without the time, which the plans of two runs may see a moment apart.
	return &heldError{Held{c.copiedAs(reason), until}, c.desc.Digest.String() + " is held until it is known for long enough"}
}

// released reports whether a person let a tag through.
func (p *planner) released(c change) bool { return p.Released != nil && p.Released(c.to, c.tag) }

func (p *planner) retired(ctx context.Context, c change) error {
	if p.Retired == nil {
		return nil
	}
	retired, err := p.Retired(ctx, c.to, c.tag, c.desc.Digest)
	if err != nil {
		return fmt.Errorf("local %s:%s: %w", c.to, c.tag, err)
	}
	if retired {
		return errRetired
	}
	return nil
}

// unmoved looks whether all of an image that did not move is here.
func (p *planner) unmoved(ctx context.Context, src Source, rp *rulePlan, r *rule, c change) ([]change, error) {
	var due bool // a thorough look, and one for referrers
	if r.Referrers {
		checked, err := p.Dest.ReferrersChecked(ctx, c.to, c.desc.Digest)
		if err != nil {
			return nil, fmt.Errorf("local %s:%s: %w", c.to, c.tag, err)
		}
		due = p.Now().Sub(checked) >= referrersBeat
	}
	held := &holding{dest: p.Dest, rule: r, repo: c.to}
	look := held.whole
	if quick, ok := p.Dest.(Completer); ok && r.Referrers && !due {
		look = func(ctx context.Context, root digest.Digest) (bool, error) { return held.complete(ctx, quick, root) }
	}
	whole, err := look(ctx, c.desc.Digest)
	switch {
	case err != nil:
		return nil, fmt.Errorf("local %s:%s: %w", c.to, c.tag, err)
	case !whole:
		c.reason = "not whole here"
		return []change{c}, nil
	case !r.Referrers:
		return nil, nil
	case due:
		c.reason, c.recheck = "its referrers are to be looked for again", true
		return []change{c}, nil
	}
	return p.attachments(ctx, src, rp, r, c, held.manifests)
}

// attachments plans the tags that attach something to an image that is here,
// and what is attached to that. Without a list of tags they are only looked for
// when the referrers are.
func (p *planner) attachments(ctx context.Context, src Source, rp *rulePlan, r *rule, c change, manifests []digest.Digest) ([]change, error) {
	if !c.attached.listed {
		return nil, nil
	}
	var changes []change
	for _, d := range manifests {
		for _, tag := range c.attached.to(d) {
			a := c.attachedChange(tag)
			if !p.first(a) {
				continue
			}
			more, _, err := p.tag(ctx, src, rp, r.unfiltered(), a)
			if errors.Is(err, errRetired) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("attached to %s: %w", c.tag, err)
			}
			changes = append(changes, more...)
		}
	}
	return changes, nil
}
