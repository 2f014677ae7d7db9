package clients

import (
	"cmp"
	"slices"
	"strings"

	"lastro/mirror"
)

// Site is a mirror as its clients see it.
type Site struct {
	Address  string // host and port, as clients reach it
	TLS      bool
	CA       string // PEM certificates that clients are to trust; "": those that they trust anyway
	Hosts    []Host // upstreams that are mirrored, in any order
	Default  string // the upstream of names without a host
	Fallback bool   // clients may ask the upstream itself for what the mirror lacks
}

// Host is an upstream by its name in image names.
type Host struct {
	Name      string
	PlainHTTP bool // how clients reach it themselves
}

// Config is what one client needs.
type Config struct {
	Folder string   `json:"-"` // where the client keeps its files
	Files  []File   `json:"files"`
	Notes  []string `json:"notes"` // what the files cannot say or do
}

// File is one of them.
type File struct {
	Path    string `json:"path"` // below the folder
	Content string `json:"content"`
}

// url is the mirror's address.
func (s Site) url() string { return scheme(!s.TLS) + s.Address }

func scheme(plain bool) string {
	if plain {
		return "http://"
	}
	return "https://"
}

// hosts are the upstreams, each once: Docker Hub, then by name.
func (s Site) hosts() []Host {
	all := slices.SortedFunc(slices.Values(s.Hosts), func(a, b Host) int {
		return cmp.Or(b.rank()-a.rank(), cmp.Compare(a.Name, b.Name))
	})
	return slices.CompactFunc(all, func(a, b Host) bool { return a.Name == b.Name })
}

func (h Host) isHub() bool { return h.Name == mirror.DockerHub }

func (h Host) rank() int {
	if h.isHub() {
		return 1
	}
	return 0
}

// server is where a client reaches the upstream itself.
func (h Host) server() string {
	if h.isHub() {
		return "https://registry-1.docker.io"
	}
	return scheme(h.PlainHTTP) + h.Name
}

// local is where the mirror keeps the upstream's repositories.
func (h Host) local() string {
	return strings.TrimSuffix(mirror.Reference{Host: h.Name}.Local(), "/")
}

// sentence says what becomes of images that the mirror lacks.
func (s Site) sentence() string {
	if s.Fallback {
		return "What the mirror lacks is asked of the upstream itself."
	}
	return "What the mirror lacks is an error: the upstream itself is never asked."
}
