package clients

import (
	"fmt"
	"path"
	"strings"
)

// Podman makes what Podman, CRI-O, Buildah and skopeo read. They tell a mirror
// no host, so that it stands in the name they ask for.
func Podman(s Site) Config {
	c := Config{
		Folder: "/etc/containers",
		Files:  []File{{path.Join("registries.conf.d", "50-lastro.conf"), s.registriesConf()}},
		Notes:  []string{"registries that are not in the file are asked as before"},
	}
	if s.CA != "" {
		c.Files = append(c.Files, File{path.Join("certs.d", s.Address, "ca.crt"), s.CA})
	}
	return c
}

func (s Site) registriesConf() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Images come from the mirror at %s.\n# %s\n", s.Address, s.sentence())
	for _, h := range s.hosts() {
		here := s.Address + "/" + h.local()
		fmt.Fprintf(&b, "\n[[registry]]\nprefix = %q\n", h.Name)
		if !s.Fallback {
			location(&b, here, !s.TLS)
			continue
		}
		location(&b, h.Name, h.PlainHTTP)
		b.WriteString("\n[[registry.mirror]]\n")
		location(&b, here, !s.TLS)
	}
	if !s.TLS {
		fmt.Fprintf(&b, "\n# Images of the mirror under its own name.\n[[registry]]\n")
		location(&b, s.Address, true)
	}
	return b.String()
}

func location(b *strings.Builder, place string, plain bool) {
	fmt.Fprintf(b, "location = %q\n", place)
	if plain {
		b.WriteString("insecure = true\n")
	}
}
