package check

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/opencontainers/go-digest"
)

// Kind is what is wrong, in one word.
type Kind string

// The kinds; see the package.
const (
	Missing    Kind = "missing"
	Truncated  Kind = "truncated"
	Corrupt    Kind = "corrupt"
	Unreadable Kind = "unreadable"
	Unlinked   Kind = "unlinked"
	Dangling   Kind = "dangling"
	Malformed  Kind = "malformed"
	Foreign    Kind = "foreign"
	Unrecorded Kind = "unrecorded"
	Vanished   Kind = "vanished"
	Edges      Kind = "edges"
	Orphaned   Kind = "orphaned"
	Abandoned  Kind = "abandoned"
)

// Problem is one thing that is wrong.
type Problem struct {
	Digest   digest.Digest `json:"digest"`         // "": it has none
	Kind     Kind          `json:"kind"`           //
	Repo     string        `json:"repo,omitempty"` // "": it is of content, wherever it is used
	Tag      string        `json:"tag,omitempty"`
	Path     string        `json:"path,omitempty"` // below <data>/registry, or <data> for an unfinished download
	Detail   string        `json:"detail"`
	Images   []string      `json:"images"` // what a client that pulls it is hurt by; at most some
	Hurt     int           `json:"images_count"`
	Age      float64       `json:"age_seconds,omitempty"` // of what is orphaned or abandoned
	Next     string        `json:"next"`                  // what to do; "" when it is repaired
	Repaired bool          `json:"repaired"`
	Source   string        `json:"source,omitempty"` // where content was brought from

	Quarantined string `json:"quarantined,omitempty"` // where bad bytes lie that were taken out of service, below <data>/registry
}

// most is how many images a problem names.
const most = 20

// Waste reports whether nobody is hurt by it: space that is to be given back.
func (k Kind) Waste() bool { return k == Orphaned || k == Abandoned }

// Kinds are all kinds.
func Kinds() []Kind {
	return []Kind{Missing, Truncated, Corrupt, Unreadable, Unlinked, Dangling, Malformed, Foreign, Unrecorded, Vanished, Edges, Orphaned, Abandoned}
}

// Subject is what it is a problem of.
func (p Problem) Subject() string {
	switch {
	case p.Tag != "":
		return p.Repo + ":" + p.Tag
	case p.Repo != "" && p.Digest != "":
		return p.Repo + "@" + p.Digest.String()
	case p.Digest != "":
		return p.Digest.String()
	}
	return p.Path
}

// key tells problems apart.
type key struct {
	kind      Kind
	digest    digest.Digest
	repo, tag string
	path      string
}

func (p Problem) key() key { return key{p.Kind, p.Digest, p.Repo, p.Tag, p.Path} }

// Report is what a check found.
type Report struct {
	Repositories int       `json:"repositories"`
	Blobs        int       `json:"blobs"` // contents, manifests too
	Bytes        int64     `json:"bytes"`
	Part         string    `json:"part,omitempty"` // what was read, as N/M
	ReadBlobs    int       `json:"read_blobs"`
	ReadBytes    int64     `json:"read_bytes"`
	Problems     []Problem `json:"problems"`
	Repaired     int       `json:"repaired"`
	Refused      string    `json:"refused,omitempty"` // why nothing was healed that could have been
	TookSeconds  float64   `json:"took_seconds"`
}

// Left is how many problems remain.
func (r Report) Left() int { return len(r.Problems) - r.Repaired }

// Print says it in words.
func (r Report) Print(w io.Writer) error {
	for _, p := range r.Problems {
		p.print(w)
	}
	if r.Refused != "" {
		fmt.Fprintf(w, "refused to heal: %s\n", r.Refused)
	}
	read := ""
	if r.Part != "" {
		read = fmt.Sprintf(", of which part %s was read and hashed: %d contents, %s", r.Part, r.ReadBlobs, size(r.ReadBytes))
	}
	repaired := ""
	if r.Repaired > 0 {
		repaired = fmt.Sprintf(", %d of them repaired", r.Repaired)
	}
	_, err := fmt.Fprintf(w, "checked %d repositories, %d contents, %s%s: %d problems%s\n",
		r.Repositories, r.Blobs, size(r.Bytes), read, len(r.Problems), repaired)
	return err
}

func (p Problem) print(w io.Writer) {
	fmt.Fprintf(w, "%-10s %s\n           %s\n", p.Kind, p.Subject(), p.Detail)
	if p.Hurt > 0 {
		more := ""
		if n := p.Hurt - len(p.Images); n > 0 {
			more = fmt.Sprintf(" and %d more", n)
		}
		fmt.Fprintf(w, "           hurts %s%s\n", strings.Join(p.Images, ", "), more)
	}
	if p.Quarantined != "" {
		fmt.Fprintf(w, "           out of service, its bytes are in %s\n", p.Quarantined)
	}
	switch {
	case p.Repaired && p.Source != "":
		fmt.Fprintf(w, "           repaired from %s\n", p.Source)
	case p.Repaired:
		fmt.Fprintf(w, "           repaired\n")
	default:
		fmt.Fprintf(w, "           next: %s\n", p.Next)
	}
}

func size(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

// next is what a person does about what is left.
func (p Problem) next(repair bool) string {
	switch p.Kind {
	case Missing, Truncated, Corrupt:
		switch {
		case p.Hurt == 0 && p.Repo == "" && p.Kind == Corrupt && !repair:
			return "lastro check --repair takes it out of service"
		case repair:
			return "no source has it: push the image again, or lastro restore from a vault that has it"
		}
		return "lastro check --repair brings it from an upstream or a vault"
	case Unreadable:
		return "look at the disk and at the file's permissions"
	case Malformed:
		return "lastro check --repair where it is a link; an image that cannot be understood is to be pushed again"
	case Foreign:
		return "remove it, or leave it: lastro does not touch it"
	case Edges:
		return "lastro check --repair, and lastro rebuild when that does not suffice"
	case Orphaned:
		return "lastro collect frees it"
	case Abandoned:
		return "lastro serve removes it within a day"
	}
	if repair {
		return "sync or push the image again: not all of it is here"
	}
	return "lastro check --repair"
}

func sortProblems(all []Problem) {
	slices.SortFunc(all, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Repo, b.Repo), cmp.Compare(a.Tag, b.Tag), cmp.Compare(a.Digest, b.Digest),
			cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Path, b.Path))
	})
}
