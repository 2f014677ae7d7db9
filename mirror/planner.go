package mirror

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
)

// planner plans the rules of one run, which share what was listed.
type planner struct {
	*Engine
	meter *meter

	listings sync.Map                                 // "host/repository" → *listing
	owner    map[string]string                        // local repository → upstream repository
	work     map[string][]func(context.Context) error // by local repository
	asking   *semaphore.Weighted                      // tags, over all repositories
	planned  sync.Map                                 // "to:tag" → true
}

func (e *Engine) planner() *planner {
	return &planner{Engine: e, meter: newMeter(e.Source), owner: map[string]string{},
		work: map[string][]func(context.Context) error{}, asking: semaphore.NewWeighted(int64(e.jobs()))}
}

// listing is the list of a repository's tags, got once.
type listing struct {
	once sync.Once
	tags []string
	err  error
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
	for _, namespace := range c.namespaces() {
		for repository, err := range listRepositories(ctx, src, namespace) {
			if err != nil {
				return names, c.unlistable(err)
			}
			if c.wants(repository) && !slices.Contains(names, repository) {
				names = append(names, repository)
			}
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%s: no repository matches %q", c.host, c.From)
	}
	return names, nil
}

// listRepositories asks for one namespace where the upstream has such lists.
func listRepositories(ctx context.Context, src Source, namespace string) iter.Seq2[string, error] {
	if l, ok := src.(Lister); ok {
		return l.RepositoriesIn(ctx, namespace)
	}
	return src.Repositories(ctx)
}

// namespaces are the first elements of the rule's patterns, each once. One that
// has a wildcard is empty: all of them.
func (c *rule) namespaces() []string {
	var all []string
	for _, p := range c.patterns {
		namespace, _, ok := strings.Cut(p.text, "/")
		if !ok || strings.ContainsAny(namespace, `*?[{\`) {
			namespace = ""
		}
		if !slices.Contains(all, namespace) {
			all = append(all, namespace)
		}
	}
	return all
}

// unlistable says what to do about an upstream without a list.
func (c *rule) unlistable(err error) error {
	err = fmt.Errorf("%s: list of repositories: %w", c.host, err)
	if errors.Is(err, errors.ErrUnsupported) {
		err = fmt.Errorf("%w: name the repositories instead of a pattern (example: %s/{app,web})", err, c.host)
	}
	return err
}

// repository plans the tags of one repository. What fails is noted in rp.
func (p *planner) repository(ctx context.Context, rp *rulePlan, repository string) error {
	to := rp.rule.local(repository)
	src, err := p.meter.source(rp.rule.host)
	var selected, unlisted []string
	var attached attachments
	if err == nil {
		selected, unlisted, attached, err = p.tags(ctx, src, rp.rule, repository, to)
	}
	if interrupted(ctx, err) {
		return err
	}
	if err != nil {
		rp.fail(to, "", fmt.Errorf("upstream %s/%s: list tags: %w", rp.rule.host, repository, err))
		return nil
	}
	tags := make([]change, 0, len(selected)+len(unlisted))
	for i, tag := range slices.Concat(selected, unlisted) {
		tags = append(tags, change{repository: repository, to: to, tag: tag, attached: attached, unlisted: i >= len(selected)})
	}
	held, err := p.heads(ctx, rp, src, tags)
	if err == nil {
		err = p.vanished(ctx, rp, to, held)
	}
	return err
}

// list is what the upstream lists of a repository.
func (p *planner) list(ctx context.Context, src Source, host, repository string) ([]string, error) {
	l, _ := p.listings.LoadOrStore(host+"/"+repository, &listing{})
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
	return list.tags, list.err
}

// tags are the selected tags of a repository, and those that attach something.
// Where the list is refused, the tags that the rule names stand for it.
func (p *planner) tags(ctx context.Context, src Source, c *rule, repository, to string) (selected, unlisted []string, attached attachments, err error) {
	list, err := p.list(ctx, src, c.host, repository)
	if err != nil {
		literals, ok := c.literals()
		if !ok || interrupted(ctx, err) {
			return nil, nil, attachments{}, err
		}
		return literals, nil, attachments{}, nil
	}
	names, attached := divide(list)
	listed := make(map[string]bool, len(list))
	for _, tag := range list {
		listed[tag] = true
	}
	selected = append(c.choose(names), c.missing(listed)...) // their HEADs say that they are not there
	unlisted, err = p.unlisted(ctx, c, to, listed)
	return selected, unlisted, attached, err
}

// divide tells the tags that attach something to others from the rest.
func divide(list []string) (names []string, attached attachments) {
	attached = attachments{listed: true, tags: map[digest.Digest][]string{}}
	for _, tag := range list {
		if subject, ok := AttachedTag(tag); ok {
			attached.tags[subject] = append(attached.tags[subject], tag)
		} else {
			names = append(names, tag)
		}
	}
	return names, attached
}

// unlisted are the tags that are here by this rule and that the upstream does
// not list. Their HEADs say whether they are gone: lists are known to lie.
func (p *planner) unlisted(ctx context.Context, c *rule, to string, listed map[string]bool) ([]string, error) {
	if p.Memory == nil {
		return nil, nil
	}
	var tags []string
	for tag, err := range p.Memory.Mirrored(ctx, to) {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("local %s: list tags: %w", to, err)
		}
		_, attached := AttachedTag(tag)
		if !attached && !listed[tag] && c.judge(tag).selected && !slices.ContainsFunc(c.include, func(pt Pattern) bool { return pt.text == tag }) {
			tags = append(tags, tag)
		}
	}
	return tags, nil
}

// heads asks for each tag's digest and plans what differs. It returns how many
// of the tags are here.
func (p *planner) heads(ctx context.Context, rp *rulePlan, src Source, tags []change) (held int, err error) {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(p.jobs())
	for _, c := range tags {
		if !p.first(c) {
			continue
		}
		g.Go(func() error {
			if err := p.asking.Acquire(gctx, 1); err != nil {
				return err
			}
			defer p.asking.Release(1)
			changes, here, err := p.tag(gctx, src, rp, rp.rule, c)
			if interrupted(gctx, err) {
				return err
			}
			rp.mu.Lock()
			defer rp.mu.Unlock()
			if here {
				held++
			}
			rp.note(c, changes, err)
			return nil
		})
	}
	return held, g.Wait()
}

// note puts the outcome of one tag into the plan. The caller holds mu.
func (rp *rulePlan) note(c change, changes []change, err error) {
	held, isHeld := errors.AsType[*heldError](err)
	throttled, isThrottled := errors.AsType[*ThrottledError](err)
	gone, isGone := errors.AsType[*goneError](err)
	switch {
	case errors.Is(err, errRetired):
		rp.retired++
	case isHeld:
		rp.held = append(rp.held, held.Held)
		if held.noted != "" {
			rp.notes = append(rp.notes, note{c.to, c.tag, EventHeld, held.noted})
		}
	case isThrottled:
		rp.deferred = append(rp.deferred, Deferred{c.to, c.tag, throttled.Until, err.Error()})
	case isGone:
		rp.vanished = append(rp.vanished, gone.Vanished)
	case err != nil:
		rp.failed = append(rp.failed, Failed{c.to, c.tag, err.Error()})
	case len(changes) == 0:
		rp.unchanged++
	default:
		rp.changes = append(rp.changes, changes...)
	}
}

func (rp *rulePlan) fail(repo, tag string, err error) {
	rp.mu.Lock()
	defer rp.mu.Unlock()
	if throttled, ok := errors.AsType[*ThrottledError](err); ok {
		rp.deferred = append(rp.deferred, Deferred{repo, tag, throttled.Until, err.Error()})
		return
	}
	rp.failed = append(rp.failed, Failed{repo, tag, err.Error()})
}

// first reports whether a tag is not planned yet, and that it is from now on.
func (p *planner) first(c change) bool {
	_, twice := p.planned.LoadOrStore(c.to+":"+c.tag, true)
	return !twice
}

func compareNames(repoA, tagA, repoB, tagB string) int {
	if n := strings.Compare(repoA, repoB); n != 0 {
		return n
	}
	return strings.Compare(tagA, tagB)
}
