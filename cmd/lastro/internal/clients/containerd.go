package clients

import (
	"fmt"
	"path"
	"strings"
)

const caName = "lastro-ca.crt"

// Containerd makes a hosts.toml for each upstream. A mirror that is the server
// leaves containerd no other place to go to.
func Containerd(s Site) Config {
	c := Config{Folder: "/etc/containerd", Notes: []string{
		`containerd reads the files when it pulls, if config_path of its registry settings in config.toml names their folder ("/etc/containerd/certs.d"); ctr needs --hosts-dir`,
		"registries that have no file here are asked as before",
	}}
	for _, h := range s.hosts() {
		folder := path.Join("certs.d", h.Name)
		c.Files = append(c.Files, File{path.Join(folder, "hosts.toml"), s.hostsTOML(h)})
		if s.CA != "" {
			c.Files = append(c.Files, File{path.Join(folder, caName), s.CA})
		}
	}
	return c
}

func (s Site) hostsTOML(h Host) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Images of %s come from the mirror at %s.\n# %s\n", h.Name, s.Address, s.sentence())
	server := s.url()
	if s.Fallback {
		server = h.server()
	}
	fmt.Fprintf(&b, "server = %q\n", server)
	if s.Fallback {
		fmt.Fprintf(&b, "\n[host.%q]\n", s.url())
	}
	// Never "push": what is pushed to an upstream's name is not for its mirror.
	b.WriteString("capabilities = [\"pull\", \"resolve\"]\n")
	if s.CA != "" {
		fmt.Fprintf(&b, "ca = %q\n", caName)
	}
	return b.String()
}
