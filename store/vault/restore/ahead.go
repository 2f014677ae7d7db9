package restore

import (
	"context"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	"lastro/store/vault/catalog"
	"lastro/store/vault/layout"
)

// Ahead restores images one by one in an order that others choose, as Run does and
// with its guards. It brings no history back and remembers nothing: a Run of the
// same snapshot afterwards finds the images there and does the rest. It is for one
// goroutine.
type Ahead struct {
	r       *restore
	moments map[name][]moment
	done    map[name]bool // by tag, or digest
}

// NewAhead begins with nothing restored. progress may not be nil.
func NewAhead(c *catalog.Catalog, st Store, record layout.Snapshot, by string, progress mirror.Progress) *Ahead {
	r := &restore{Catalog: c, st: st, o: Options{By: by}, progress: progress, slots: make(chan struct{}, catalog.AtOnce), broken: map[digest.Digest]error{}}
	r.plan.record, r.plan.Snapshot, r.plan.Time = record, record.ID, record.Created
	return &Ahead{r: r, done: map[name]bool{}}
}

// Images is how many images are as in the snapshot, without what is attached to others.
func (a *Ahead) Images() int { return len(a.done) }

// Newest is when each tag of a repository came to where it was last, by the history
// in the vault.
func (a *Ahead) Newest(ctx context.Context) (map[string]map[string]time.Time, error) {
	p := a.planner()
	if err := p.readMoments(ctx); err != nil {
		return nil, err
	}
	a.moments = p.moments
	newest := map[string]map[string]time.Time{}
	for n, list := range a.moments {
		if newest[n.repo] == nil {
			newest[n.repo] = map[string]time.Time{}
		}
		for _, m := range list {
			if m.at.After(newest[n.repo][n.tag]) {
				newest[n.repo][n.tag] = m.at
			}
		}
	}
	return newest, nil
}

func (a *Ahead) planner() *planner {
	p := &planner{Catalog: a.r.Catalog, st: a.r.st, o: a.r.o, keep: a.r.keep, wanted: map[digest.Digest]bool{}, moments: a.moments}
	p.plan.record, p.plan.Snapshot, p.plan.Time = a.r.plan.record, a.r.plan.Snapshot, a.r.plan.Time
	return p
}

// Order says what of a repository is restored, and when to stop.
type Order struct {
	Tags   []string               // with what is attached to them; none: all images
	Newest map[string]time.Time   // which tags come first; nil: in the order of their names
	Leave  func() bool            // is asked before each image
	After  func(repo, tag string) // is called after each that is restored
}

// Repository restores images of the repository of an index in the snapshot's root.
// left says that it was stopped before the end. What is damaged in the vault is left
// to a Run, which says so.
func (a *Ahead) Repository(ctx context.Context, desc ocispec.Descriptor, o Order) (left bool, err error) {
	repo := desc.Annotations[layout.AnnotationRepository]
	p := a.planner()
	for _, tag := range o.Tags {
		chosen, err := newSelection([]string{repo + ":" + tag})
		if err != nil {
			return false, err
		}
		p.choose = append(p.choose, chosen...)
	}
	err = p.repository(ctx, repo, desc)
	a.moments = p.moments
	if err != nil {
		return false, err
	}
	for _, r := range p.plan.repos {
		if left, err = a.units(ctx, r, o); left || err != nil {
			return left, err
		}
	}
	return false, nil
}

// units fetches and publishes one image after the other.
func (a *Ahead) units(ctx context.Context, r repositoryPlan, o Order) (left bool, err error) {
	fetch := map[digest.Digest]ocispec.Descriptor{}
	for _, desc := range r.fetch {
		fetch[desc.Digest] = desc
	}
	for _, u := range inOrder(r.units, o.Newest) {
		if o.Leave() {
			return true, nil
		}
		one := repositoryPlan{name: r.name, units: []unit{u}}
		for _, d := range u.blobs {
			if desc, ok := fetch[d]; ok {
				one.fetch = append(one.fetch, desc)
				delete(fetch, d)
			}
		}
		failed := len(a.r.report.Failed)
		if err := a.r.repository(ctx, one); err != nil {
			return false, err
		}
		if tag := layout.TagOf(u.desc); len(a.r.report.Failed) == failed && !u.attached() {
			key := tag
			if tag == "" {
				key = u.desc.Digest.String()
			}
			a.done[name{r.name, key}] = true
			o.After(r.name, tag)
		}
	}
	return false, nil
}

// inOrder puts the newest tags first. What is attached to images stays before them all.
func inOrder(units []unit, newest map[string]time.Time) []unit {
	first := slices.IndexFunc(units, func(u unit) bool { return layout.TagOf(u.desc) != "" && !u.attached() })
	if first < 0 || newest == nil {
		return units
	}
	slices.SortStableFunc(units[first:], func(x, y unit) int {
		return newest[layout.TagOf(y.desc)].Compare(newest[layout.TagOf(x.desc)])
	})
	return units
}
