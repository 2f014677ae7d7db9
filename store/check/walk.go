package check

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/opencontainers/go-digest"

	"lastro/mirror"
	"lastro/store/layout"
)

// repositories looks at every repository a first time: those on disk, and those
// that only the ledger knows.
func (c *check) repositories(ctx context.Context) error {
	seen := map[string]bool{}
	look := func(repo string) error {
		if seen[repo] || !c.matches(repo) {
			return nil
		}
		seen[repo] = true
		c.out.Repositories++
		c.o.Progress.Plan(1, 0)
		err := c.repository(ctx, repo)
		c.o.Progress.Done(repo, err)
		return err
	}
	err := c.disk.Folders(ctx, func(repo string, _ []string) error {
		if err := layout.CheckRepository(repo); err != nil {
			c.found(Problem{Kind: Foreign, Path: path.Join(layout.Repositories, repo), Detail: err.Error()})
			return nil
		}
		return look(repo)
	}, c.unreadable, "_manifests", "_layers", "_uploads")
	if err != nil {
		return err
	}
	for repo, err := range c.Ledger().Repositories(ctx) {
		if err != nil {
			return err
		}
		if err := look(repo); err != nil {
			return err
		}
	}
	return nil
}

func (c *check) unreadable(name string, err error) {
	c.found(Problem{Kind: Unreadable, Path: name, Detail: err.Error()})
}

// entries lists a folder of a registry. What cannot be listed is a problem.
func (c *check) entries(name string) []fs.DirEntry {
	entries, err := c.disk.Entries(name)
	if err != nil {
		c.unreadable(name, err)
	}
	return entries
}

// digests lists the digests below a folder: <algorithm>/<hex>.
func (c *check) digests(dir string) (ds []digest.Digest) {
	for _, algorithm := range c.entries(dir) {
		below := path.Join(dir, algorithm.Name())
		if !algorithm.IsDir() {
			c.foreign(below)
			continue
		}
		for _, e := range c.entries(below) {
			d := digest.NewDigestFromEncoded(digest.Algorithm(algorithm.Name()), e.Name())
			if d.Validate() != nil || !e.IsDir() {
				c.foreign(path.Join(below, e.Name()))
				continue
			}
			ds = append(ds, d)
		}
	}
	return ds
}

func (c *check) foreign(name string) {
	c.found(Problem{Kind: Foreign, Path: name, Detail: "it is no part of a registry"})
}

// repository looks at one repository a first time.
func (c *check) repository(ctx context.Context, repo string) error {
	c.uploads(repo)
	layers := c.digests(layout.Layers(repo))
	units, err := c.visible(ctx, repo)
	if err != nil {
		return err
	}
	needed := map[digest.Digest]bool{}
	for _, u := range units {
		if err := c.first(ctx, u, needed); err != nil {
			return err
		}
	}
	for _, d := range layers {
		c.known[d] = true
		u := unit{unitKey: unitKey{layerUnit, repo, "", d}, needed: needed[d]}
		if err := c.first(ctx, u, nil); err != nil {
			return err
		}
	}
	return nil
}

// visible are the units of a repository that clients may see, by the files and by
// the ledger: tags, then manifests.
func (c *check) visible(ctx context.Context, repo string) (units []unit, err error) {
	tags := map[string]bool{}
	for _, e := range c.entries(layout.Tags(repo)) {
		if layout.CheckTag(e.Name()) != nil || !e.IsDir() {
			c.foreign(path.Join(layout.Tags(repo), e.Name()))
			continue
		}
		tags[e.Name()] = true
	}
	for t, err := range c.Ledger().Tags(ctx, repo) {
		if err != nil {
			return nil, err
		}
		tags[t.Tag] = true
	}
	for tag := range tags {
		units = append(units, unit{unitKey: unitKey{tagUnit, repo, tag, ""}})
	}
	for _, d := range c.digests(layout.Revisions(repo)) {
		c.known[d] = true
		units = append(units, unit{unitKey: unitKey{manifestUnit, repo, "", d}})
	}
	for d, err := range c.Ledger().Links(ctx, repo) {
		if err != nil {
			return nil, err
		}
		units = append(units, unit{unitKey: unitKey{recordUnit, repo, "", d}})
	}
	return units, nil
}

// first looks at a unit a first time. needed learns what it refers to.
func (c *check) first(ctx context.Context, u unit, needed map[digest.Digest]bool) error {
	u.needed = u.needed || needed[u.digest]
	if err := c.glance(ctx); err != nil {
		return err
	}
	e, err := c.examine(ctx, u, false)
	if err != nil {
		return err
	}
	for d := range e.seen {
		c.known[d] = true
		if d != u.digest {
			needed[d] = true
		}
	}
	for d := range e.uses {
		c.known[d] = true
		needed[d] = true
	}
	if !e.clean() {
		c.suspects[u.unitKey] = u
	}
	return nil
}

// use notes what a manifest refers to.
func (e *exam) use(m mirror.Manifest) {
	if e.uses == nil {
		e.uses = map[digest.Digest]bool{}
	}
	for _, r := range m.Refs {
		e.uses[r.Digest] = true
	}
}

// edges sum up what manifests refer to, so that the ledger's list of what refers to
// each content is read once: of each the number of manifests, and a sum of them.
type edges struct {
	repo  map[digest.Digest]string // of each manifest that was read: a repository
	tally map[digest.Digest]tally
}

type tally struct {
	n   int
	sum uint64
}

func newEdges() edges { return edges{map[digest.Digest]string{}, map[digest.Digest]tally{}} }

func (t tally) plus(d digest.Digest) tally { return tally{t.n + 1, t.sum + number(d)} }

// number is a digest's first sixty-four bits.
func number(d digest.Digest) (n uint64) {
	_, _ = fmt.Sscanf(d.Encoded()[:16], "%x", &n) // of a digest all are hexadecimal
	return n
}

// add notes the references of a manifest that the ledger has.
func (s edges) add(repo string, m mirror.Manifest) {
	d := m.Descriptor.Digest
	if s.repo[d] != "" {
		return
	}
	s.repo[d] = repo
	seen := map[digest.Digest]bool{}
	for _, r := range m.Refs {
		if !seen[r.Digest] {
			seen[r.Digest] = true
			s.tally[r.Digest] = s.tally[r.Digest].plus(d)
		}
	}
}

// pairs holds the edges of the ledger against those of the manifests, from the end
// of what is referred to.
func (c *check) pairs(ctx context.Context) error {
	differ := map[digest.Digest]bool{}
	for child, want := range c.edges.tally {
		parents, err := c.Ledger().Parents(ctx, child)
		if err != nil {
			return err
		}
		var got tally
		for _, p := range parents {
			if c.edges.repo[p] != "" {
				got = got.plus(p)
			}
		}
		if got != want {
			differ[child] = true
			c.strayed(parents, child)
		}
	}
	if len(differ) == 0 {
		return nil
	}
	return c.lost(ctx, differ)
}

// strayed suspects all that is said to refer to a child.
func (c *check) strayed(parents []digest.Digest, child digest.Digest) {
	for _, p := range parents {
		repo := c.edges.repo[p]
		if repo == "" {
			continue
		}
		k := unitKey{manifestUnit, repo, "", p}
		u := c.suspects[k]
		c.suspects[k] = unit{k, u.needed, append(slices.Clone(u.strays), child)}
	}
}

// lost suspects all that refers to a child of which the ledger knows other parents.
func (c *check) lost(ctx context.Context, differ map[digest.Digest]bool) error {
	for d, repo := range c.edges.repo {
		if err := ctx.Err(); err != nil {
			return err
		}
		desc, raw, err := c.Manifest(ctx, "", d)
		if err != nil {
			continue // it is looked at by itself
		}
		m, err := mirror.ParseManifest(desc, raw)
		if err != nil {
			continue
		}
		if slices.ContainsFunc(m.Refs, func(r mirror.Ref) bool { return differ[r.Digest] }) {
			k := unitKey{manifestUnit, repo, "", d}
			c.suspects[k] = unit{k, c.suspects[k].needed, c.suspects[k].strays}
		}
	}
	return nil
}
