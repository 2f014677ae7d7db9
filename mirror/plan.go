package mirror

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
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
	need     []Need
	requests int64
	took     time.Duration
}

// rulePlan is one rule's part of a plan.
type rulePlan struct {
	rule *rule

	mu        sync.Mutex
	changes   []change
	unchanged int
	retired   int // removed by retention, and not to come back
	held      []Held
	deferred  []Deferred
	vanished  []Vanished
	failed    []Failed
	notes     []note                // for the memory
	memories  map[string]*sightings // by local repository
}

// change is one tag that is to be copied.
type change struct {
	repository string // upstream
	to, tag    string
	desc       ocispec.Descriptor // of the upstream's image
	previous   digest.Digest
	reason     string
	attached   attachments // of the repository
	by         string      // who, for the event; "": sync
	unfiltered bool        // attached to an image: there are no platforms to choose from
	recheck    bool        // the image is here: only its referrers are asked for
	unlisted   bool        // it is here, and not in the upstream's list
}

// note is an event that moves no tag.
type note struct{ repo, tag, event, reason string }

// sightings are what was asked and seen of a repository.
type sightings struct {
	asked []string
	seen  []digest.Digest
}

// sighting returns those of a repository. The caller holds mu.
func (rp *rulePlan) sighting(repo string) *sightings {
	if rp.memories[repo] == nil {
		rp.memories[repo] = &sightings{}
	}
	return rp.memories[repo]
}

// Changes is how many images would be copied, and tags retired.
func (p Plan) Changes() int {
	n := 0
	for _, r := range p.rules {
		for _, c := range r.changes {
			if !c.recheck {
				n++
			}
		}
		for _, v := range r.vanished {
			if v.Retired {
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

// Deferred is how many images could not be planned before their upstream
// answers again.
func (p Plan) Deferred() int {
	n := 0
	for _, r := range p.rules {
		n += len(r.deferred)
	}
	return n
}

// Plan asks the upstreams what they have: one list of tags for each repository
// and one HEAD for each selected tag. What cannot be planned is in the plan as
// failed. The error is of the rules themselves, or of ctx.
func (e *Engine) Plan(ctx context.Context, rules []Rule) (Plan, error) {
	started := e.Now()
	p := e.planner()
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
	if err := p.run(ctx); err != nil {
		return Plan{}, err
	}
	for _, rp := range plan.rules {
		rp.sort()
	}
	plan.need = p.needs(ctx, plan)
	plan.requests, plan.took = p.meter.requests(), e.Now().Sub(started)
	return plan, ctx.Err()
}

// rule finds out which repositories a rule means, and puts them down to be planned.
func (p *planner) rule(ctx context.Context, c *rule) (*rulePlan, error) {
	rp := &rulePlan{rule: c, memories: map[string]*sightings{}}
	repositories, err := p.repositories(ctx, c)
	if err != nil {
		if interrupted(ctx, err) {
			return nil, err
		}
		rp.fail(c.From, "", err)
	}
	if err := p.own(c, repositories); err != nil {
		return nil, err
	}
	for _, repository := range repositories {
		to := c.local(repository)
		p.work[to] = append(p.work[to], func(ctx context.Context) error { return p.repository(ctx, rp, repository) })
	}
	return rp, nil
}

// repositoriesAtOnce is how many repositories are planned beside each other.
const repositoriesAtOnce = 8

// run plans what was put down. What several rules have for one local repository
// is planned in their order, so that the first to select a tag has it.
func (p *planner) run(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(repositoriesAtOnce)
	for _, steps := range p.work {
		g.Go(func() error {
			for _, step := range steps {
				if err := step(gctx); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

func (rp *rulePlan) sort() {
	slices.SortFunc(rp.changes, func(a, b change) int { return compareNames(a.to, a.tag, b.to, b.tag) })
	slices.SortFunc(rp.failed, func(a, b Failed) int { return compareNames(a.Repo, a.Tag, b.Repo, b.Tag) })
	slices.SortFunc(rp.deferred, func(a, b Deferred) int { return compareNames(a.Repo, a.Tag, b.Repo, b.Tag) })
	slices.SortFunc(rp.held, func(a, b Held) int { return compareNames(a.Repo, a.Tag, b.Repo, b.Tag) })
	slices.SortFunc(rp.vanished, func(a, b Vanished) int { return compareNames(a.Repo, a.Tag, b.Repo, b.Tag) })
}

// own refuses two upstream repositories that go to one local one.
func (p *planner) own(c *rule, repositories []string) error {
	for _, repository := range repositories {
		to, from := c.local(repository), c.host+"/"+repository
		if other, ok := p.owner[to]; ok && other != from {
			return fmt.Errorf("rule %q: %s would go to %s, where %s goes already: give one of them another to", c.Name, from, to, other)
		}
		p.owner[to] = from
	}
	return nil
}

// report is the plan in the form of what would be done.
func (p Plan) report() Report {
	report := newReport(p)
	for i, rp := range p.rules {
		for _, c := range rp.changes {
			if !c.recheck {
				report.Rules[i].Copied = append(report.Rules[i].Copied, c.copied())
			} else {
				report.Rules[i].Unchanged++
			}
		}
	}
	report.UpstreamRequests, report.TookSeconds = p.requests, p.took.Seconds()
	return report
}

// planned is a report of what would be done, with what it needs.
type planned struct {
	Report
	Need []Need `json:"need"`
}

// Print says what would be done, and why, and what it needs.
func (p Plan) Print(w io.Writer) error {
	if err := p.report().print(w, "to copy"); err != nil {
		return err
	}
	for _, n := range p.need {
		if _, err := fmt.Fprintln(w, n); err != nil {
			return err
		}
	}
	return nil
}

// MarshalJSON is the report of a sync that would do what is planned.
func (p Plan) MarshalJSON() ([]byte, error) {
	need := p.need
	if need == nil {
		need = []Need{}
	}
	return json.Marshal(planned{p.report(), need})
}
