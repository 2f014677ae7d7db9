package clients

import (
	"fmt"
	"path"
	"strings"
)

const k3sFolder = "/etc/rancher/k3s"

// K3s makes what k3s makes containerd's files of.
func K3s(s Site) Config {
	c := Config{Folder: k3sFolder, Files: []File{{"registries.yaml", s.registriesYAML()}}, Notes: []string{
		"k3s reads its files when it starts: restart it on every node",
		`registries that are not in registries.yaml are asked as before; a mirror named "*" would send them here too, where they do not exist`,
	}}
	if !s.Fallback {
		c.Files = append(c.Files, File{path.Join("config.yaml.d", "lastro.yaml"), "# " + s.sentence() + "\ndisable-default-registry-endpoint: true\n"})
		c.Notes = append(c.Notes, "k3s knows disable-default-registry-endpoint since 1.26.13, 1.27.10, 1.28.6 and 1.29.1; older ones ask the upstream itself for what the mirror lacks")
	}
	if s.CA != "" {
		c.Files = append(c.Files, File{caName, s.CA})
	}
	return c
}

func (s Site) registriesYAML() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Images come from the mirror at %s.\n# %s\nmirrors:\n", s.Address, s.sentence())
	for _, h := range s.hosts() {
		fmt.Fprintf(&b, "  %q:\n    endpoint:\n      - %q\n", h.Name, s.url())
		if s.Fallback && h.PlainHTTP {
			fmt.Fprintf(&b, "      - %q\n", h.server()) // the default has TLS
		}
	}
	if !s.TLS {
		fmt.Fprintf(&b, "  # Images of the mirror under its own name.\n  %q:\n    endpoint:\n      - %q\n", s.Address, s.url())
	}
	if s.CA != "" {
		fmt.Fprintf(&b, "configs:\n  %q:\n    tls:\n      ca_file: %q\n", s.Address, path.Join(k3sFolder, caName))
	}
	return b.String()
}
