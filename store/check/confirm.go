package check

import (
	"context"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"

	"lastro/mirror"
	"lastro/store/layout"
)

// confirm looks at each suspect a second time, alone.
func (c *check) confirm(ctx context.Context) error {
	for _, u := range c.suspects {
		e, err := c.alone(ctx, u, nil)
		if err != nil {
			return err
		}
		c.note(e)
	}
	return nil
}

// alone examines a unit while nobody changes its repository; then, unless nil, act.
func (c *check) alone(ctx context.Context, u unit, act func(*exam)) (e *exam, err error) {
	err = c.Quiet(u.repo, u.tag, func() error {
		e, err = c.examine(ctx, u, true)
		if err == nil && act != nil {
			act(e)
		}
		return err
	})
	return e, err
}

// note keeps what an exam found. Content is looked at once more by itself.
func (c *check) note(e *exam) {
	for _, f := range e.faults {
		c.found(f.Problem)
	}
	for _, l := range e.lacks {
		c.doubt(l, e.repo)
	}
}

// confirmBad reads each content again that seems missing or wrong.
func (c *check) confirmBad(ctx context.Context) error {
	for _, d := range slices.Collect(maps.Keys(c.bad)) {
		if err := c.confirmContent(ctx, c.bad[d]); err != nil {
			return err
		}
	}
	return nil
}

func (c *check) confirmContent(ctx context.Context, b *badContent) error {
	if b.taken != "" { // it was read twice then
		if b.info.Size() < b.Size {
			b.kind = Truncated
		}
		c.confirmed(b)
		return nil
	}
	info, l, err := c.hash(ctx, b.Content)
	if err != nil {
		return err
	}
	switch {
	case l.kind == "" && b.kind == Malformed:
		l = b.lack // a manifest that is right and cannot be understood
	case l.kind == "":
		delete(c.bad, b.Digest)
		return nil
	case l.kind == Missing && len(b.repos) == 0:
		delete(c.bad, b.Digest) // it went after it was listed
		return nil
	case l.kind == Missing:
		l.detail = b.detail
	}
	b.lack, b.info = l, info
	c.confirmed(b)
	return nil
}

// confirmed makes a problem of content.
func (c *check) confirmed(b *badContent) {
	delete(c.problems, key{kind: Orphaned, digest: b.Digest, path: layout.Data(b.Digest)})
	c.found(Problem{Kind: b.kind, Digest: b.Digest, Path: layout.Data(b.Digest), Detail: b.detail})
}

// images says of each problem which images it hurts.
func (c *check) images(ctx context.Context) error {
	wanted := map[digest.Digest][]*Problem{}
	for _, p := range c.problems {
		if p.Digest != "" && p.Kind != Orphaned {
			wanted[p.Digest] = append(wanted[p.Digest], p)
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	return c.disk.Folders(ctx, func(repo string, _ []string) error {
		if layout.CheckRepository(repo) != nil {
			return nil
		}
		g, err := c.graph(ctx, repo)
		if err != nil {
			return err
		}
		for d, problems := range wanted {
			c.needs(g, d)
			names := g.images(d)
			for _, p := range problems {
				p.hurts(repo, names)
			}
		}
		return nil
	}, c.unreadable, "_manifests")
}

func (p *Problem) hurts(repo string, names []string) {
	if p.Repo != "" && p.Repo != repo {
		return
	}
	if p.Tag != "" {
		names = []string{repo + ":" + p.Tag}
	}
	for _, name := range names {
		p.Hurt++
		if len(p.Images) < most {
			p.Images = append(p.Images, name)
		}
	}
}

// needs notes that a repository needs content that was found bad by reading it,
// and what is said of that there. Who refers to it is looked at again after a
// repair: only then is it known whether that is needed still.
func (c *check) needs(g graph, d digest.Digest) {
	b, ref := c.bad[d], g.refs[d]
	if b == nil || ref.Digest == "" && !g.served[d] {
		return
	}
	for _, p := range g.parents[d] {
		k := unitKey{manifestUnit, g.repo, "", p}
		if _, ok := c.suspects[k]; !ok {
			c.suspects[k] = unit{unitKey: k}
		}
	}
	b.repos[g.repo] = true
	b.Manifest = b.Manifest || g.served[d] || ref.Role == mirror.RoleChild
	if b.Size == 0 {
		b.Size, b.MediaType = ref.Size, ref.MediaType
	}
}

// graph is what refers to what in one repository.
type graph struct {
	repo    string
	parents map[digest.Digest][]digest.Digest
	refs    map[digest.Digest]mirror.Ref
	tags    map[digest.Digest][]string
	served  map[digest.Digest]bool
}

// graph reads a repository by the files, and by the ledger where those are lost.
func (c *check) graph(ctx context.Context, repo string) (g graph, err error) {
	g = graph{repo, map[digest.Digest][]digest.Digest{}, map[digest.Digest]mirror.Ref{}, map[digest.Digest][]string{}, map[digest.Digest]bool{}}
	units, err := c.visible(ctx, repo)
	if err != nil {
		return g, err
	}
	for _, u := range units {
		if u.what == tagUnit {
			err = c.tagged(ctx, g, u.tag)
		} else if !g.served[u.digest] {
			g.served[u.digest] = true
			err = c.refers(ctx, g, u)
		}
		if err != nil {
			return g, err
		}
	}
	return g, nil
}

func (c *check) tagged(ctx context.Context, g graph, tag string) error {
	at, err := c.disk.Link(layout.Tag(g.repo, tag))
	if err == nil {
		g.tags[at] = append(g.tags[at], tag)
	}
	// What the ledger does not know adds nothing.
	if known, err := c.Ledger().Tag(ctx, g.repo, tag); err == nil && known.Digest != at {
		g.tags[known.Digest] = append(g.tags[known.Digest], tag)
	}
	return ctx.Err()
}

func (c *check) refers(ctx context.Context, g graph, u unit) error {
	e := &exam{check: c, unit: u}
	m, _, err := e.read(ctx, descriptor(u.digest))
	for _, r := range m.Refs {
		g.parents[r.Digest], g.refs[r.Digest] = append(g.parents[r.Digest], u.digest), r
	}
	return err
}

// images are what a client pulls that needs d, ordered.
func (g graph) images(d digest.Digest) []string {
	names, seen, queue := map[string]bool{}, map[digest.Digest]bool{d: true}, []digest.Digest{d}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		for _, tag := range g.tags[at] {
			names[g.repo+":"+tag] = true
		}
		if g.served[at] && len(g.tags[at]) == 0 && len(g.parents[at]) == 0 {
			names[g.repo+"@"+at.String()] = true
		}
		for _, p := range g.parents[at] {
			if !seen[p] {
				seen[p] = true
				queue = append(queue, p)
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}
