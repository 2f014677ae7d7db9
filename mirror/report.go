package mirror

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"
)

// Report is what a sync did. Its JSON form is what scripts rely on.
type Report struct {
	Rules            []RuleReport `json:"rules"`
	TransferredBytes int64        `json:"transferred_bytes"` // from upstreams, manifests included
	UpstreamRequests int64        `json:"upstream_requests"`
	TookSeconds      float64      `json:"took_seconds"`
}

// RuleReport is one rule's part of a report.
type RuleReport struct {
	Name      string   `json:"name"`
	Copied    []Copied `json:"copied"`
	Unchanged int      `json:"unchanged"`
	Retired   int      `json:"retired"` // removed here by retention, which would do so again: not copied
	Held      []Copied `json:"held"`
	Failed    []Failed `json:"failed"`
}

// Copied is a tag that now points at what the upstream has.
type Copied struct {
	Repo     string        `json:"repo"`
	Tag      string        `json:"tag"`
	Digest   digest.Digest `json:"digest"`
	Previous digest.Digest `json:"previous"`
	Reason   string        `json:"reason"`
}

// Failed is an image, or a repository, that stayed as it was.
type Failed struct {
	Repo  string `json:"repo"`
	Tag   string `json:"tag"`
	Error string `json:"error"`
}

func (f Failed) name() string {
	if f.Tag == "" {
		return f.Repo
	}
	return f.Repo + ":" + f.Tag
}

func newReport(p Plan) Report {
	report := Report{Rules: []RuleReport{}}
	for _, rp := range p.rules {
		report.Rules = append(report.Rules, RuleReport{
			Name: rp.rule.Name, Copied: []Copied{}, Unchanged: rp.unchanged, Retired: rp.retired, Held: []Copied{},
			Failed: append([]Failed{}, rp.failed...),
		})
	}
	return report
}

func (r *RuleReport) note(c change, published Published, err error) {
	switch {
	case err != nil:
		r.Failed = append(r.Failed, Failed{c.to, c.tag, err.Error()})
	case c.recheck && !published.Changed:
		r.Unchanged++
	default:
		r.Copied = append(r.Copied, c.copied())
	}
}

func (c change) copied() Copied {
	return Copied{c.to, c.tag, c.desc.Digest, c.previous, c.reason}
}

func (r Report) sort() {
	for _, rule := range r.Rules {
		slices.SortFunc(rule.Copied, func(a, b Copied) int { return cmp.Or(cmp.Compare(a.Repo, b.Repo), cmp.Compare(a.Tag, b.Tag)) })
		slices.SortFunc(rule.Failed, func(a, b Failed) int { return cmp.Or(cmp.Compare(a.Repo, b.Repo), cmp.Compare(a.Tag, b.Tag)) })
	}
}

// Failed is how many images failed.
func (r Report) Failed() int {
	n := 0
	for _, rule := range r.Rules {
		n += len(rule.Failed)
	}
	return n
}

// Print says what was done, one line an image.
func (r Report) Print(w io.Writer) error {
	return r.print(w, "copied")
}

func (r Report) print(w io.Writer, did string) error {
	for _, rule := range r.Rules {
		for _, c := range rule.Copied {
			fmt.Fprintf(w, "%s  %s:%s  %s  (%s)\n", did, c.Repo, c.Tag, c.Digest, c.Reason)
		}
		for _, f := range rule.Failed {
			fmt.Fprintf(w, "failed  %s  %s\n", f.name(), f.Error)
		}
		retired := ""
		if rule.Retired > 0 {
			retired = fmt.Sprintf(", %d retired", rule.Retired)
		}
		if _, err := fmt.Fprintf(w, "rule %s: %d %s, %d unchanged%s, %d failed\n", rule.Name, len(rule.Copied), did, rule.Unchanged, retired, len(rule.Failed)); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "%d bytes from upstream in %d requests, %.1f s\n", r.TransferredBytes, r.UpstreamRequests, r.TookSeconds)
	return err
}

// report is the plan in the form of what would be done.
func (p Plan) report() Report {
	report := newReport(p)
	for i, rp := range p.rules {
		for _, c := range rp.changes {
			if !c.recheck {
				report.Rules[i].Copied = append(report.Rules[i].Copied, c.copied())
			} else {
				report.Rules[i].Unchanged++
			}
		}
	}
	report.UpstreamRequests, report.TookSeconds = p.requests, p.took.Seconds()
	return report
}

// Print says what would be done, and why.
func (p Plan) Print(w io.Writer) error { return p.report().print(w, "to copy") }

// MarshalJSON is the report of a sync that would do what is planned.
func (p Plan) MarshalJSON() ([]byte, error) { return json.Marshal(p.report()) }
