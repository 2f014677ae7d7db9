package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// Plan says what a sync would do, and why. It marshals to the document that a
// sync prints; [Engine.Apply] carries it out.
type Plan struct {
	rules    []*rulePlan
	requests int64
	took     time.Duration
}

// rulePlan is one rule's part of a plan.
type rulePlan struct {
	rule      *rule
	changes   []change
	unchanged int
	retired   int // removed by retention, and not to come back
	failed    []Failed
}

// change is one tag that is to be copied.
type change struct {
	repository string // upstream
	to, tag    string
	desc       ocispec.Descriptor // of the upstream's image
	previous   digest.Digest
	reason     string
	attached   attachments // of the repository
	unfiltered bool        // attached to an image: there are no platforms to choose from
	recheck    bool        // the image is here: only its referrers are asked for
}

// Changes is how many images would be copied.
func (p Plan) Changes() int {
	n := 0
	for _, r := range p.rules {
		for _, c := range r.changes {
			if !c.recheck {
				n++
			}
		}
	}
	return n
}

// copies is how many images are looked at again, those that did not move too.
func (p Plan) copies() int {
	n := 0
	for _, r := range p.rules {
		n += len(r.changes)
	}
	return n
}

// Failed is how many images could not be planned.
func (p Plan) Failed() int {
	n := 0
	for _, r := range p.rules {
		n += len(r.failed)
	}
	return n
}

// Plan asks the upstreams what they have: one list of tags for each repository
// and one HEAD for each selected tag. What cannot be planned is in the plan as
// failed. The error is of the rules themselves, or of ctx.
func (e *Engine) Plan(ctx context.Context, rules []Rule) (Plan, error) {
	started := e.Now()
	m := newMeter(e.Source)
	p := &planner{Engine: e, meter: m, owner: map[string]string{}}
	var plan Plan
	for _, r := range rules {
		c, err := compile(r)
		if err != nil {
			return Plan{}, fmt.Errorf("rule %q: %w", r.Name, err)
		}
		rp, err := p.rule(ctx, c)
		if err != nil {
			return Plan{}, err
		}
		plan.rules = append(plan.rules, rp)
	}
	plan.requests, plan.took = m.requests(), e.Now().Sub(started)
	return plan, ctx.Err()
}

// planner plans the rules of one run, which share what was listed.
type planner struct {
	*Engine
	meter *meter

	listings sync.Map          // "host/repository" → *listing
	owner    map[string]string // local repository → upstream repository
	planned  sync.Map          // "to:tag" → true
}

// listing is the list of a repository's tags, got once.
type listing struct {
	once sync.Once
	tags []string
	err  error
}

func (p *planner) rule(ctx context.Context, c *rule) (*rulePlan, error) {
	rp := &rulePlan{rule: c}
	repositories, err := p.repositories(ctx, c)
	if err != nil {
		if interrupted(ctx, err) {
			return nil, err
		}
		rp.failed = append(rp.failed, Failed{Repo: c.From, Error: err.Error()})
	}
	for _, repository := range repositories {
		to, from := c.local(repository), c.host+"/"+repository
		if other, ok := p.owner[to]; ok && other != from {
			return nil, fmt.Errorf("rule %q: %s would go to %s, where %s goes already: give one of them another to", c.Name, from, to, other)
		}
		p.owner[to] = from
		if err := p.repository(ctx, rp, repository, to); err != nil {
			return nil, err
		}
	}
	return rp, nil
}

// repositories are the upstream repositories that a rule means.
func (p *planner) repositories(ctx context.Context, c *rule) ([]string, error) {
	names := slices.Clone(c.names)
	if len(c.patterns) == 0 {
		return names, nil
	}
	src, err := p.meter.source(c.host)
	if err != nil {
		return names, err
	}
	for repository, err := range src.Repositories(ctx) {
		if err != nil {
			return names, fmt.Errorf("%s: list of repositories: %w: name the repositories instead of a pattern (example: %s/{app,web})", c.host, err, c.host)
		}
		if c.wants(repository) && !slices.Contains(names, repository) {
			names = append(names, repository)
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%s: no repository matches %q", c.host, c.From)
	}
	return names, nil
}

// repository plans the tags of one repository. What fails is noted in rp.
func (p *planner) repository(ctx context.Context, rp *rulePlan, repository, to string) error {
	src, err := p.meter.source(rp.rule.host)
	var tags []string
	var attached attachments
	if err == nil {
		tags, attached, err = p.tags(ctx, src, rp.rule, repository)
	}
	if interrupted(ctx, err) {
		return err
	}
	if err != nil {
		rp.failed = append(rp.failed, Failed{Repo: to, Error: fmt.Sprintf("upstream %s/%s: list tags: %v", rp.rule.host, repository, err)})
		return nil
	}
	return p.heads(ctx, rp, src, change{repository: repository, to: to, attached: attached}, tags)
}

// tags are the selected tags of a repository, and those that attach something.
// Where the list is refused, the tags that the rule names stand for it.
func (p *planner) tags(ctx context.Context, src Source, c *rule, repository string) (selected []string, attached attachments, err error) {
	l, _ := p.listings.LoadOrStore(c.host+"/"+repository, &listing{})
	list := l.(*listing)
	list.once.Do(func() {
		for tag, err := range src.Tags(ctx, repository) {
			if err != nil {
				list.err = err
				return
			}
			list.tags = append(list.tags, tag)
		}
	})
	if list.err != nil {
		literals, ok := c.literals()
		if !ok || interrupted(ctx, list.err) {
			return nil, attachments{}, list.err
		}
		return literals, attachments{}, nil
	}
	attached = attachments{listed: true, tags: map[digest.Digest][]string{}}
	for _, tag := range list.tags {
		if subject, ok := AttachedTag(tag); ok {
			attached.tags[subject] = append(attached.tags[subject], tag)
		} else if c.selects(tag) {
			selected = append(selected, tag)
		}
	}
	selected = append(selected, missingLiterals(c, list.tags)...) // their HEADs say that they are not there
	return selected, attached, nil
}

// missingLiterals are tags that a rule names and the upstream does not list.
func missingLiterals(c *rule, tags []string) []string {
	var missing []string
	for _, pt := range c.include {
		if pt.Literal() && ValidTag(pt.text) && !slices.Contains(tags, pt.text) && c.selects(pt.text) {
			missing = append(missing, pt.text)
		}
	}
	return missing
}

// heads asks for each tag's digest and plans what differs.
func (p *planner) heads(ctx context.Context, rp *rulePlan, src Source, repo change, tags []string) error {
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(2 * p.jobs())
	for _, tag := range tags {
		c := repo
		c.tag = tag
		if !p.first(c) {
			continue
		}
		g.Go(func() error {
			changes, err := p.tag(gctx, src, rp.rule, c)
			if interrupted(gctx, err) {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, errRetired):
				rp.retired++
			case err != nil:
				rp.failed = append(rp.failed, Failed{Repo: c.to, Tag: tag, Error: err.Error()})
			case len(changes) == 0:
				rp.unchanged++
			default:
				rp.changes = append(rp.changes, changes...)
			}
			return nil
		})
	}
	err := g.Wait()
	slices.SortFunc(rp.changes, func(a, b change) int { return cmp.Or(cmp.Compare(a.to, b.to), cmp.Compare(a.tag, b.tag)) })
	slices.SortFunc(rp.failed, func(a, b Failed) int { return cmp.Or(cmp.Compare(a.Repo, b.Repo), cmp.Compare(a.Tag, b.Tag)) })
	return err
}

// first reports whether a tag is not planned yet, and that it is from now on.
func (p *planner) first(c change) bool {
	_, twice := p.planned.LoadOrStore(c.to+":"+c.tag, true)
	return !twice
}

// tag plans one tag: nothing, its image, or only what was attached to it since.
func (p *planner) tag(ctx context.Context, src Source, r *rule, c change) ([]change, error) {
	var err error
	if c.desc, err = src.Head(ctx, c.repository, c.tag); err != nil {
		return nil, fmt.Errorf("upstream %s/%s:%s: %w", r.host, c.repository, c.tag, err)
	}
	c.previous, err = p.Dest.Resolve(ctx, c.to, c.tag)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c.reason = cmp.Or(c.reason, "new upstream")
		return []change{c}, p.retired(ctx, c)
	case err != nil:
		return nil, fmt.Errorf("local %s:%s: %w", c.to, c.tag, err)
	case c.previous != c.desc.Digest:
		c.reason = cmp.Or(c.reason, "moved upstream")
		return []change{c}, nil
	}
	return p.unmoved(ctx, src, r, c)
}

// errRetired says that retention removed what the upstream still has.
var errRetired = errors.New("removed by retention")

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
func (p *planner) unmoved(ctx context.Context, src Source, r *rule, c change) ([]change, error) {
	held := &holding{dest: p.Dest, rule: r, repo: c.to}
	whole, err := held.whole(ctx, c.desc.Digest)
	if err != nil {
		return nil, fmt.Errorf("local %s:%s: %w", c.to, c.tag, err)
	}
	if !whole {
		c.reason = "not whole here"
		return []change{c}, nil
	}
	if !r.Referrers {
		return nil, nil
	}
	checked, err := p.Dest.ReferrersChecked(ctx, c.to, c.desc.Digest)
	if err != nil {
		return nil, fmt.Errorf("local %s:%s: %w", c.to, c.tag, err)
	}
	if p.Now().Sub(checked) >= referrersBeat {
		c.reason, c.recheck = "its referrers are to be looked for again", true
		return []change{c}, nil
	}
	return p.attachments(ctx, src, r, c, held.manifests)
}

// attachments plans the tags that attach something to an image that is here,
// and what is attached to that. Without a list of tags they are only looked for
// when the referrers are.
func (p *planner) attachments(ctx context.Context, src Source, r *rule, c change, manifests []digest.Digest) ([]change, error) {
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
			more, err := p.tag(ctx, src, r.unfiltered(), a)
			if errors.Is(err, errRetired) {
				continue
			}
			if err != nil {
				return nil, err
			}
			changes = append(changes, more...)
		}
	}
	return changes, nil
}
