package mirror

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Directory knows which local repository comes from where, by the rules. It
// may be used from many goroutines.
type Directory struct {
	rules []*rule

	mu    sync.Mutex
	found map[string][]Origin // what was looked up, bounded
}

// maxFound bounds what a directory remembers of names that clients ask for.
const maxFound = 10_000

// Origin is where a local repository comes from by one rule.
type Origin struct {
	Local    string
	Upstream Reference // a repository
	rule     *rule
}

// NewDirectory reads the rules.
func NewDirectory(rules []Rule) (*Directory, error) {
	d := &Directory{found: map[string][]Origin{}}
	for _, r := range rules {
		c, err := compile(r)
		if err != nil {
			return nil, fmt.Errorf("rule %q: %w", r.Name, err)
		}
		d.rules = append(d.rules, c)
	}
	return d, nil
}

// Origins are where a local repository comes from, in the order of the rules. The
// caller does not change them.
func (d *Directory) Origins(local string) []Origin {
	d.mu.Lock()
	defer d.mu.Unlock()
	if origins, ok := d.found[local]; ok {
		return origins
	}
	var origins []Origin
	for _, r := range d.rules {
		if repository, ok := r.upstreamOf(local); ok {
			origins = append(origins, Origin{local, Reference{Host: r.host, Repository: repository}, r})
		}
	}
	if len(d.found) >= maxFound {
		clear(d.found)
	}
	d.found[local] = origins
	return origins
}

// Local is where the first rule that copies an upstream repository puts it.
func (d *Directory) Local(ref Reference) (string, bool) {
	for _, r := range d.rules {
		if r.host == ref.Host && r.means(ref.Repository) {
			return r.local(ref.Repository), true
		}
	}
	return "", false
}

// Host returns the host of a rule that is written like text, which may have the
// port's ':' as '-', as local repositories do.
func (d *Directory) Host(text string) (string, bool) {
	host, loose := canonicalHost(text), ""
	for _, r := range d.rules {
		if r.host == host {
			return host, true
		}
		if loose == "" && localHost(r.host) == localHost(host) {
			loose = r.host
		}
	}
	return loose, loose != ""
}

// Rule is the settings of the rule.
func (o Origin) Rule() Rule { return o.rule.Rule }

// Selects reports whether the rule selects a tag, as far as can be said without
// the upstream's list: that Latest would leave it out is not known. Tags that attach
// something to an image are not selected: they come with it.
func (o Origin) Selects(tag string) bool {
	_, attached := AttachedTag(tag)
	return !attached && ValidTag(tag) && o.rule.judge(tag).selected
}

// Mode is what the rule says about tags that are here.
func (o Origin) Mode() string {
	switch {
	case o.rule.Mode != "":
		return o.rule.Mode
	case o.rule.OnDemand:
		return ModeStale
	}
	return ModeLocal
}

// means reports whether the rule copies an upstream repository.
func (c *rule) means(repository string) bool {
	return slices.Contains(c.names, repository) || c.wants(repository)
}

// upstreamOf is the upstream repository that the rule puts at a local name: the
// inverse of local.
func (c *rule) upstreamOf(local string) (string, bool) {
	if i := slices.IndexFunc(c.names, func(name string) bool { return c.local(name) == local }); i >= 0 {
		return c.names[i], true
	}
	if len(c.patterns) == 0 {
		return "", false
	}
	for _, name := range c.candidates(local) {
		hub := c.host == DockerHub && !strings.Contains(name, "/") // it means library/
		if !hub && c.wants(name) && c.local(name) == local {
			return name, true
		}
	}
	return "", false
}

// candidates are the only upstream repositories that a pattern can have put at a
// local name.
func (c *rule) candidates(local string) []string {
	if c.To == "" {
		name, _ := strings.CutPrefix(local, localHost(c.host)+"/")
		return []string{name}
	}
	rest, ok := strings.CutPrefix(local, strings.TrimSuffix(c.To, "/")+"/")
	if !ok {
		return nil
	}
	var names []string
	for _, full := range []string{c.fixed + rest, rest} {
		if name, ok := strings.CutPrefix(full, c.host+"/"); ok {
			names = append(names, name)
		}
	}
	return names
}
