package clients

import (
	"fmt"
	"path"
	"strings"
)

const caName = "lastro-ca.crt"

// Containerd makes a hosts.toml for each upstream, and one for the mirror where
// containerd would not know how to reach it. A mirror that is the server leaves
// containerd no other place to go to.
func Containerd(s Site) Config {
	c := Config{Folder: "/etc/containerd", Notes: []string{
		`containerd reads the files when it pulls, if config_path of its registry settings in config.toml names their folder ("/etc/containerd/certs.d"); ctr needs --hosts-dir`,
		"registries that have no file here are asked as before",
	}}
	for _, h := range s.hosts() {
		c.Files = append(c.Files, s.containerdHost(h.Name, s.hostsTOML(h))...)
	}
	if !s.TLS || s.CA != "" {
		c.Files = append(c.Files, s.containerdHost(s.Address, s.ownTOML())...)
	}
	return c
}

func (s Site) containerdHost(name, content string) []File {
	folder := path.Join("certs.d", name)
	files := []File{{path.Join(folder, "hosts.toml"), content}}
	if s.CA != "" {
		files = append(files, File{path.Join(folder, caName), s.CA})
	}
	return files
}

// pulls are what the mirror is used for under an upstream's name: what is
// pushed to that name is not for its mirror.
const pulls = `["pull", "resolve"]`

// hostsTOML always has a host: containerd 1.6 passes over a file that has none,
// and goes to the upstream itself.
func (s Site) hostsTOML(h Host) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Images of %s come from the mirror at %s.\n# %s\n", h.Name, s.Address, s.sentence())
	if s.Fallback {
		fmt.Fprintf(&b, "server = %q\n", h.server())
	} else {
		fmt.Fprintf(&b, "server = %q\n", s.url())
		s.endpoint(&b, pulls)
	}
	fmt.Fprintf(&b, "\n[host.%q]\n", s.url())
	s.endpoint(&b, pulls)
	return b.String()
}

// ownTOML is for names that begin with the mirror's address.
func (s Site) ownTOML() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Images of the mirror at %s under its own name.\nserver = %[2]q\n\n[host.%[2]q]\n", s.Address, s.url())
	s.endpoint(&b, `["pull", "resolve", "push"]`)
	return b.String()
}

func (s Site) endpoint(b *strings.Builder, capabilities string) {
	fmt.Fprintf(b, "capabilities = %s\n", capabilities)
	if s.CA != "" {
		fmt.Fprintf(b, "ca = %q\n", caName)
	}
}
