package mirror_test

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"lastro/mirror"
)

func TestWhereALocalRepositoryComesFrom(t *testing.T) {
	for _, c := range []struct {
		name, from, to, local, want string
	}{
		{"a name", "docker.io/library/debian", "", "docker.io/library/debian", "docker.io/library/debian"},
		{"a short name", "debian", "", "docker.io/library/debian", "docker.io/library/debian"},
		{"a name that goes elsewhere", "docker.io/library/debian", "mirror/debian", "mirror/debian", "docker.io/library/debian"},
		{"its own place, when it goes elsewhere", "docker.io/library/debian", "mirror/debian", "docker.io/library/debian", ""},
		{"a port", "reg.test:5000/a/b", "", "reg.test-5000/a/b", "reg.test:5000/a/b"},
		{"braces", "ghcr.io/org/{app,web}", "", "ghcr.io/org/web", "ghcr.io/org/web"},
		{"braces with a prefix", "ghcr.io/org/{app,web}", "m", "m/web", "ghcr.io/org/web"},
		{"what the braces do not have", "ghcr.io/org/{app,web}", "m", "m/db", ""},
		{"short names in braces", "{debian,alpine}", "m", "m/docker.io/library/alpine", "docker.io/library/alpine"},
		{"a pattern", "ghcr.io/org/**", "", "ghcr.io/org/a/b", "ghcr.io/org/a/b"},
		{"a pattern of one level", "ghcr.io/org/*", "", "ghcr.io/org/a/b", ""},
		{"a pattern with a port", "reg.test:5000/**", "", "reg.test-5000/a", "reg.test:5000/a"},
		{"a pattern with a prefix", "reg.test:5000/a/b*", "m/x", "m/x/bc", "reg.test:5000/a/bc"},
		{"what a pattern leaves out", "reg.test:5000/a/b*", "m/x", "m/x/cb", ""},
		{"another host", "ghcr.io/**", "", "quay.io/a", ""},
		{"a prefix that only begins alike", "ghcr.io/org/**", "m", "mm/a", ""},
		{"a pattern of Docker Hub, which has no short names", "docker.io/**", "", "docker.io/debian", ""},
		{"an alias of Docker Hub with a prefix", "index.docker.io/library/*", "m", "m/docker.io/library/debian", "docker.io/library/debian"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := mirror.NewDirectory([]mirror.Rule{{From: c.from, To: c.to}})
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second time it is remembered
				var from []string
				for _, o := range d.Origins(c.local) {
					from = append(from, o.Upstream.String())
				}
				if got := strings.Join(from, " "); got != c.want {
					t.Errorf("%s comes from %q, want %q", c.local, got, c.want)
				}
			}
		})
	}
}

func TestEveryRepositoryIsFoundAgainWhereItsRulePutIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := mirror.Rule{
			From: rapid.SampledFrom([]string{"reg.test:5000/**", "reg.test:5000/a/**", "reg.test:5000/a*/b", "reg.test:5000/{a,b}/*", "reg.test:5000/a/b", "reg.test:5000/{a/b,a*}"}).Draw(t, "from"),
			To:   rapid.SampledFrom([]string{"", "m", "m/n", "a"}).Draw(t, "to"),
		}
		ref := mirror.Reference{Host: "reg.test:5000", Repository: rapid.StringMatching(`[ab]{1,2}(/[ab]){0,2}`).Draw(t, "repository")}
		d, err := mirror.NewDirectory([]mirror.Rule{r})
		if err != nil {
			t.Fatal(err)
		}
		local, copied := d.Local(ref)
		origins := d.Origins(local)
		found := slices.ContainsFunc(origins, func(o mirror.Origin) bool { return o.Upstream == ref })
		if found != copied {
			t.Errorf("%+v: %s goes to %q, which comes from %+v", r, ref, local, origins)
		}
	})
}

func TestWhichTagsARuleBringsForClients(t *testing.T) {
	d, err := mirror.NewDirectory([]mirror.Rule{{From: "reg.test/app", Tags: mirror.TagFilter{Include: []string{"edge"}, Exclude: []string{"*-rc*"}, Semver: ">=1", Latest: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	o := d.Origins("reg.test/app")[0]
	for tag, want := range map[string]bool{
		"edge": true, "1.2.0": true, "1.1.0": true, "0.9.0": false, "1.2.0-rc1": false, "other": false,
		"sha256-" + "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" + ".sig": false, "-": false,
	} {
		if got := o.Selects(tag); got != want {
			t.Errorf("%s: got %v", tag, got)
		}
	}
}

func TestAModeThatThereIsNotAndATTLBelowNothing(t *testing.T) {
	err := mirror.Rule{From: "reg.test/app", Mode: "newest", TTL: -1}.Validate()
	want := "ttl: -1ns is less than nothing (example: 10m)\nmode: \"newest\" is none of local, stale and fresh (example: fresh)"
	if err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
	if err := (mirror.Rule{From: "reg.test/app", OnDemand: true, Mode: mirror.ModeLocal}).Validate(); err != nil {
		t.Errorf("local with on-demand: %v", err)
	}
}
