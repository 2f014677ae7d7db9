package demand

import (
	"testing"

	"lastro/mirror"
)

func directory(t testing.TB, rules ...mirror.Rule) func() *mirror.Directory {
	t.Helper()
	d, err := mirror.NewDirectory(rules)
	if err != nil {
		t.Fatal(err)
	}
	return func() *mirror.Directory { return d }
}

func TestWhichRepositoryAClientMeans(t *testing.T) {
	rules := directory(t,
		mirror.Rule{From: "docker.io/library/debian"},
		mirror.Rule{From: "docker.io/library/debian", To: "second/debian"},
		mirror.Rule{From: "docker.io/library/redis", To: "cache/redis"},
		mirror.Rule{From: "reg.test:5000/team/**"},
		mirror.Rule{From: "reg.test-5000/other/app", To: "elsewhere/app"},
		mirror.Rule{From: "ghcr.io/org/**", To: "org"},
		mirror.Rule{From: "docker.io/bitnami/*"},
	)
	here := map[string]bool{"local/app": true, "library/debian": true, "nginx": true}
	n := Names{Rules: rules, Known: func(host string) bool { return host == "quay.io" }, Here: func(repo string) bool { return here[repo] }}
	hub := n
	hub.Default = func() string { return "docker.io" }
	for _, c := range []struct {
		what     string
		names    Names
		ns, name string
		want     string // "": not ok
	}{
		{"a name of Docker Hub with ns", n, "docker.io", "library/debian", "docker.io/library/debian"},
		{"a short name of Docker Hub with ns", n, "docker.io", "debian", "docker.io/library/debian"},
		{"the host of Docker Hub's API", n, "registry-1.docker.io", "library/debian", "docker.io/library/debian"},
		{"Docker Hub's old host", n, "index.docker.io", "debian", "docker.io/library/debian"},
		{"a host in capitals", n, "Docker.io", "debian", "docker.io/library/debian"},
		{"a rule with to", n, "docker.io", "library/redis", "cache/redis"},
		{"an upstream's repository without a rule", n, "docker.io", "library/alpine", "docker.io/library/alpine"},
		{"a port", n, "reg.test:5000", "team/app", "reg.test-5000/team/app"},
		{"a host that is written as another one's port", n, "reg.test-5000", "other/app", "elsewhere/app"},
		{"another port", n, "reg.test:5001", "team/app", ""},
		{"a pattern with to", n, "ghcr.io", "org/a/b", "org/a/b"},
		{"an upstream without rules", n, "quay.io", "x/y", "quay.io/x/y"},
		{"an upstream that nobody configured", n, "evil.test", "x/y", ""},
		{"a host without a dot, which could be a namespace", n, "bitnami", "redis", ""},
		{"a host with a path", n, "docker.io/library", "debian", ""},
		{"a host with a name and a password", n, "user@docker.io", "debian", ""},
		{"the local registry's own repository does not hide the upstream's", n, "docker.io", "nginx", "docker.io/library/nginx"},

		{"a repository that is here", n, "", "local/app", "local/app"},
		{"a local repository named like one of Docker Hub", hub, "", "library/debian", "library/debian"},
		{"a local short name", hub, "", "nginx", "nginx"},
		{"a rule's local repository", n, "", "cache/redis", "cache/redis"},
		{"the second place of a repository", n, "", "second/debian", "second/debian"},
		{"a repository that a pattern puts there", n, "", "org/new/app", "org/new/app"},
		{"a host before the name", n, "", "docker.io/library/debian", "docker.io/library/debian"},
		{"a host before a short name", n, "", "docker.io/debian", "docker.io/library/debian"},
		{"a host before the name, and a rule with to", n, "", "docker.io/redis", "cache/redis"},
		{"a host with its port as it is here", n, "", "reg.test-5000/team/app", "reg.test-5000/team/app"},
		{"a host without rules before the name", n, "", "quay.io/x/y", "quay.io/x/y"},
		{"an unknown host before the name", n, "", "evil.test/x/y", "evil.test/x/y"},
		{"a name of nobody without a default", n, "", "alpine", "alpine"},
		{"a name of nobody", hub, "", "alpine", "docker.io/library/alpine"},
		{"a name of nobody that a rule has", hub, "", "library/redis", "cache/redis"},
		{"a namespace", hub, "", "bitnami/redis", "docker.io/bitnami/redis"},

		{"no name", n, "", "", ""},
		{"a name in capitals", n, "", "Debian", ""},
		{"a name that climbs", n, "", "a/../b", ""},
		{"a name that climbs, with ns", n, "docker.io", "../x", ""},
		{"a name with a tag", n, "docker.io", "debian:12", ""},
		{"a name that ends in a slash", hub, "", "debian/", ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			got, ok := c.names.Find(c.ns, c.name)
			if got != c.want || ok != (c.want != "") {
				t.Errorf("%s %s: got %q, %v, want %q", c.ns, c.name, got, ok, c.want)
			}
		})
	}
}
