package configs

import (
	"fmt"
	"maps"
	"net"
	"path"
	"regexp"
	"slices"
	"strings"

	"lastro/mirror"
)

// check notes what is wrong with settings that are each of the right form.
func (c *Config) check(d *decoder) {
	for _, host := range slices.Sorted(maps.Keys(c.Upstreams)) {
		d.check(fmt.Sprintf("upstreams[%s]", host), c.Upstreams[host].Validate())
	}
	for i, m := range c.Mirror {
		d.check(fmt.Sprintf("mirror[%d]", i), m.Rule.Validate())
	}
	for i, r := range c.Retention {
		d.check(fmt.Sprintf("retention[%d]", i), r.Rule.Validate())
	}
	for i, b := range c.Backup {
		d.check(fmt.Sprintf("backup[%d]", i), b.Settings.Validate())
		d.check(fmt.Sprintf("backup[%d].keep", i), b.Keep.Validate())
		d.check(fmt.Sprintf("backup[%d].drill", i), b.Drill.Validate())
	}
	d.check("registry", c.Registry.Settings.Validate())
	d.check("collect", c.Collect.Settings.Validate())
	d.check("check", c.Check.Settings.Validate())
	c.spread()
	c.checkUnique(d)
	c.checkRequired(d)
	if samePlace(c.Registry.Listen, c.Admin.Listen) && !d.refused("registry.listen") && !d.refused("admin.listen") {
		at := "admin.listen"
		if d.places[at].line == 0 {
			at = "registry.listen"
		}
		d.refuse(d.places[at].line, at, "the registry and the admin page cannot both listen on the same port (example: \"127.0.0.1:5001\")")
	}
}

// spread gives every interval the spread of its job.
func (c *Config) spread() {
	for i := range c.Mirror {
		c.Mirror[i].Every = c.Mirror[i].Every.named("mirror " + c.Mirror[i].Name)
	}
	for i := range c.Retention {
		c.Retention[i].Every = c.Retention[i].Every.named("retention " + c.Retention[i].Match)
	}
	c.Collect.Every = c.Collect.Every.named("collect")
	c.Check.Every = c.Check.Every.named("check")
	for i := range c.Backup {
		c.Backup[i].Every = c.Backup[i].Every.named("backup " + c.Backup[i].Name)
		c.Backup[i].Verify.Every = c.Backup[i].Verify.Every.named("verify " + c.Backup[i].Name)
		c.Backup[i].Drill.Every = c.Backup[i].Drill.Every.named("drill " + c.Backup[i].Name)
	}
}

func (c *Config) checkUnique(d *decoder) {
	names, matches, vaults, addresses := unique{}, unique{}, unique{}, unique{}
	for i, m := range c.Mirror {
		names.check(d, m.Name, fmt.Sprintf("mirror[%d].name", i), "is the name of another rule")
	}
	c.checkTargets(d)
	for i, r := range c.Retention {
		matches.check(d, r.Match, fmt.Sprintf("retention[%d].match", i), "is the pattern of another rule: put all it keeps into one")
	}
	for i, b := range c.Backup {
		vaults.check(d, b.Name, fmt.Sprintf("backup[%d].name", i), "is the name of another vault")
		scheme, rest, _ := strings.Cut(b.To, "://")
		addresses.check(d, scheme+"://"+b.S3.Endpoint+" "+path.Clean(rest), fmt.Sprintf("backup[%d].to", i), "is the address of another vault")
	}
}

// checkTargets refuses two upstream repositories that go to one local one, where both
// are named. What patterns lead to shows when they are planned.
func (c *Config) checkTargets(d *decoder) {
	from, targets := map[string]string{}, unique{}
	for i, m := range c.Mirror {
		at := fmt.Sprintf("mirror[%d].to", i)
		ref, err := mirror.ParseReference(m.From)
		if m.To == "" || err != nil || strings.ContainsAny(m.From, "*?[{") {
			continue
		}
		source := ref.Host + "/" + ref.Repository
		if first, again := from[m.To]; again && first == source {
			continue // other tags of it
		}
		from[m.To] = source
		targets.check(d, m.To, at, "is where another rule copies to")
	}
}

// unique knows where a value was first.
type unique map[string]string

func (u unique) check(d *decoder, value, path, problem string) {
	if d.refused(path) || d.places[path].line == 0 {
		return
	}
	first, again := u[value]
	if !again {
		u[value] = path
		return
	}
	at := d.places[path]
	d.refuse(at.line, path, "%s %s: %s, on line %d", at.quoted(), problem, first, d.places[first].line)
}

func samePlace(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || portA != portB || portA == "0" {
		return false
	}
	every := func(host string) bool { return host == "" || host == "0.0.0.0" || host == "::" }
	return hostA == hostB || every(hostA) || every(hostB)
}

// keyed is a message of a settings type: it begins with the key.
var keyed = regexp.MustCompile(`^([a-z0-9]+(?:[-.\[\]a-z0-9]*[a-z0-9\]])?): (.*)$`)

// faultOf is a fault without its key.
type faultOf struct {
	message string
	whole   error
}

func (f faultOf) Error() string { return f.message }
func (f faultOf) Unwrap() error { return f.whole }

// discreet is an error that repeats nothing of the value that it is about, so that
// it is printed of a secret, too.
type discreet interface {
	error
	Discreet()
}

// check notes the faults of settings at their keys.
func (d *decoder) check(base string, err error) {
	for _, err := range each(err) {
		at, problem := base, err
		if m := keyed.FindStringSubmatch(err.Error()); m != nil {
			at, problem = base+"."+m[1], faultOf{m[2], err}
		}
		if d.refused(at) {
			continue
		}
		p, known := d.places[at]
		if parent := at; !known {
			for p.line == 0 && parent != "" {
				parent = parent[:max(strings.LastIndexAny(parent, ".["), 0)]
				p.line = d.places[parent].line
			}
			d.places[at] = p
		}
		d.refuseValue(at, problem)
	}
}

// each takes joined errors apart.
func each(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, each(e)...)
	}
	return all
}
