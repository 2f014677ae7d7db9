package ledger_test

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	"lastro/store/ledger"
)

// place is a digest in a repository.
type place struct {
	repo   string
	digest digest.Digest
}

// content is one state of the graph.
type content struct {
	nodes map[digest.Digest]mirror.Manifest
	links map[place]bool
}

// oracle is what a ledger should say, in slices and maps that are searched from
// end to end.
type oracle struct {
	now     time.Time
	events  []ledger.Event // in the order of recording
	graph   content
	absent  map[place]bool
	checked map[place]time.Time
	jobs    map[string]ledger.Job
	held    map[place]bool // by vault
	noted   map[pullKey]time.Time
	pulled  map[pullKey]time.Time // on disk
	since   time.Time             // pulls are noted
}

// pullKey is a tag or a digest of a repository.
type pullKey struct {
	repo, tag string
	digest    digest.Digest
}

func newContent() content {
	return content{map[digest.Digest]mirror.Manifest{}, map[place]bool{}}
}

func newOracle(now time.Time) *oracle {
	return &oracle{now: now, graph: newContent(), absent: map[place]bool{}, checked: map[place]time.Time{}, jobs: map[string]ledger.Job{}, held: map[place]bool{},
		noted: map[pullKey]time.Time{}, pulled: map[pullKey]time.Time{}, since: now}
}

func (o *oracle) history(repo, tag string) []ledger.Event {
	var list []ledger.Event
	for _, e := range o.events {
		if e.Repo == repo && e.Tag == tag {
			list = append(list, e)
		}
	}
	return byTime(list)
}

func byTime(events []ledger.Event) []ledger.Event {
	sorted := slices.Clone(events)
	slices.SortStableFunc(sorted, func(a, b ledger.Event) int { return a.Time.Compare(b.Time) })
	return sorted
}

// after is where a history leaves its tag; no digest: nowhere.
func after(history []ledger.Event) (s ledger.TagState) {
	for _, e := range history {
		switch {
		case e.Tag == "":
		case e.Event == ledger.Removed:
			s = ledger.TagState{}
		case e.Digest != "" && e.Digest != s.Digest:
			s = ledger.TagState{Repo: e.Repo, Tag: e.Tag, Digest: e.Digest, Since: e.Time}
		}
	}
	return s
}

func (o *oracle) tag(repo, tag string) ledger.TagState { return after(o.history(repo, tag)) }

func (o *oracle) at(repo, tag string, t time.Time) ledger.TagState {
	if !t.Before(o.now) {
		return o.tag(repo, tag)
	}
	return after(slices.DeleteFunc(o.history(repo, tag), func(e ledger.Event) bool { return e.Time.After(t) }))
}

func (o *oracle) record(e ledger.Event) {
	if e.Time.IsZero() {
		e.Time = o.now
	}
	if old := o.history(e.Repo, e.Tag); len(old) > 0 && old[len(old)-1].Time.After(e.Time) {
		e.Time = old[len(old)-1].Time
	}
	if was := o.tag(e.Repo, e.Tag).Digest; e.Previous == "" && (was != e.Digest || e.Event == ledger.Removed) {
		e.Previous = was
	}
	o.append(e)
}

func (o *oracle) append(e ledger.Event) {
	e.Seq, e.Time = uint64(len(o.events)+1), e.Time.UTC()
	o.events = append(o.events, e)
	o.forgetPulls()
}

// forgetPulls drops the pulls on disk of what is not there.
func (o *oracle) forgetPulls() {
	maps.DeleteFunc(o.pulled, func(k pullKey, _ time.Time) bool {
		return k.tag != "" && o.tag(k.repo, k.tag).Digest == "" || k.tag == "" && !o.graph.links[place{k.repo, k.digest}]
	})
}

func (o *oracle) note(k pullKey, t time.Time) {
	if t = t.Truncate(time.Second); t.After(o.noted[k]) {
		o.noted[k] = t
	}
}

func (o *oracle) flush() {
	for k, t := range o.noted {
		if t.After(o.pulled[k]) {
			o.pulled[k] = t
		}
	}
	clear(o.noted)
	o.forgetPulls()
}

func (o *oracle) lastPulled(repo, tag string, d digest.Digest) (t time.Time) {
	asked := []pullKey{{repo: repo, tag: tag}}
	if d != "" {
		asked = append(asked, pullKey{repo: repo, digest: d})
	}
	for i := 0; i < len(asked); i++ {
		for _, r := range o.graph.nodes[asked[i].digest].Refs {
			if r.Role == mirror.RoleChild {
				asked = append(asked, pullKey{repo: repo, digest: r.Digest})
			}
		}
	}
	for _, k := range asked {
		for _, known := range []time.Time{o.noted[k], o.pulled[k]} {
			if known.After(t) {
				t = known
			}
		}
	}
	return t
}

func (o *oracle) imports(events []ledger.Event) {
	for _, e := range events {
		known := slices.ContainsFunc(o.events, func(k ledger.Event) bool {
			return k.Repo == e.Repo && k.Tag == e.Tag && k.Event == e.Event && k.Digest == e.Digest && k.Time.Equal(e.Time)
		})
		if !known {
			o.append(e)
		}
	}
}

func (o *oracle) tags(repo string) (list []ledger.TagState) {
	histories := map[[2]string][]ledger.Event{}
	for _, e := range o.events {
		if repo == "" || e.Repo == repo {
			histories[[2]string{e.Repo, e.Tag}] = append(histories[[2]string{e.Repo, e.Tag}], e)
		}
	}
	for _, h := range histories {
		if s := after(byTime(h)); s.Digest != "" {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b ledger.TagState) int {
		return strings.Compare(a.Repo+"\x00"+a.Tag, b.Repo+"\x00"+b.Tag)
	})
	return list
}

func (o *oracle) repositories() []string {
	all := map[string]bool{}
	for _, s := range o.tags("") {
		all[s.Repo] = true
	}
	for p := range o.graph.links {
		all[p.repo] = true
	}
	return slices.Sorted(maps.Keys(all))
}

func (c content) add(repo string, m mirror.Manifest) {
	c.nodes[m.Descriptor.Digest] = m
	c.links[place{repo, m.Descriptor.Digest}] = true
}

// chosen are the digests that say yes, in order.
func (c content) chosen(yes func(mirror.Manifest) bool) (list []digest.Digest) {
	for d, m := range c.nodes {
		if yes(m) {
			list = append(list, d)
		}
	}
	slices.Sort(list)
	return list
}

func (c content) parents(d digest.Digest) []digest.Digest {
	return c.chosen(func(m mirror.Manifest) bool {
		return slices.ContainsFunc(m.Refs, func(r mirror.Ref) bool { return r.Digest == d })
	})
}

func (c content) of(repo string) []digest.Digest {
	return c.chosen(func(m mirror.Manifest) bool { return c.links[place{repo, m.Descriptor.Digest}] })
}

func (c content) referrers(repo string, d digest.Digest) (list []ocispec.Descriptor) {
	names := func(m mirror.Manifest) bool {
		return m.Subject != nil && m.Subject.Digest == d && c.links[place{repo, m.Descriptor.Digest}]
	}
	for _, r := range c.chosen(names) {
		m := c.nodes[r]
		list = append(list, ocispec.Descriptor{MediaType: m.Descriptor.MediaType, Digest: r, Size: m.Descriptor.Size, ArtifactType: artifactType(m), Annotations: m.Annotations})
	}
	return list
}

func artifactType(m mirror.Manifest) string {
	kind := m.Descriptor.ArtifactType
	for _, r := range m.Refs {
		if kind == "" && r.Role == mirror.RoleConfig {
			kind = r.MediaType
		}
	}
	return kind
}

// closure is how many bytes are reachable from d in repo, referrers included.
func (c content) closure(repo string, d digest.Digest, size int64, seen map[digest.Digest]int64) {
	if _, ok := seen[d]; ok {
		return
	}
	seen[d] = size
	for _, r := range c.nodes[d].Refs {
		c.closure(repo, r.Digest, r.Size, seen)
	}
	for _, r := range c.referrers(repo, d) {
		c.closure(repo, r.Digest, r.Size, seen)
	}
}
