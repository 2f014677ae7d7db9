package mirror

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

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
	Name      string     `json:"name"`
	Copied    []Copied   `json:"copied"`
	Unchanged int        `json:"unchanged"`
	Retired   int        `json:"retired"`  // removed here by retention, which would do so again: not copied
	Held      []Held     `json:"held"`     // upstream, and not to be published yet
	Deferred  []Deferred `json:"deferred"` // until the upstream answers again
	Vanished  []Vanished `json:"vanished"` // here, and upstream no more
	Failed    []Failed   `json:"failed"`
}

// Held is a tag that stays where it is: until the upstream's digest, which is
// then its own, is old enough, or until a person releases it.
type Held struct {
	Copied
	Until time.Time `json:"until,omitzero"` // zero: a person says when
}

// Deferred is an image, or a repository, that waits for an upstream that
// limits requests. It is no failure: a sync after Until goes on with it.
type Deferred struct {
	Repo  string    `json:"repo"`
	Tag   string    `json:"tag"`
	Until time.Time `json:"until"`
	Error string    `json:"error"` // what the upstream said
}

// Vanished is a tag that is here and upstream no more.
type Vanished struct {
	Repo    string        `json:"repo"`
	Tag     string        `json:"tag"`
	Digest  digest.Digest `json:"digest"`
	Retired bool          `json:"retired"` // it is removed here, too
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

func name(repo, tag string) string {
	if tag == "" {
		return repo
	}
	return repo + ":" + tag
}

func newReport(p Plan) Report {
	report := Report{Rules: []RuleReport{}}
	for _, rp := range p.rules {
		report.Rules = append(report.Rules, RuleReport{
			Name: rp.rule.Name, Copied: []Copied{}, Unchanged: rp.unchanged, Retired: rp.retired, Held: append([]Held{}, rp.held...),
			Deferred: append([]Deferred{}, rp.deferred...), Vanished: append([]Vanished{}, rp.vanished...),
			Failed: append([]Failed{}, rp.failed...),
		})
	}
	return report
}

func (r *RuleReport) note(c change, published Published, err error) {
	throttled, isThrottled := errors.AsType[*ThrottledError](err)
	switch {
	case isThrottled:
		r.Deferred = append(r.Deferred, Deferred{c.to, c.tag, throttled.Until, err.Error()})
	case err != nil:
		r.Failed = append(r.Failed, Failed{c.to, c.tag, err.Error()})
	case c.recheck && !published.Changed:
		r.Unchanged++
	default:
		r.Copied = append(r.Copied, c.copied())
	}
}

func (c change) copied() Copied { return c.copiedAs(c.reason) }

func (c change) copiedAs(reason string) Copied {
	return Copied{c.to, c.tag, c.desc.Digest, c.previous, reason}
}

func (r Report) sort() {
	for _, rule := range r.Rules {
		slices.SortFunc(rule.Copied, func(a, b Copied) int { return compareNames(a.Repo, a.Tag, b.Repo, b.Tag) })
		slices.SortFunc(rule.Failed, func(a, b Failed) int { return compareNames(a.Repo, a.Tag, b.Repo, b.Tag) })
		slices.SortFunc(rule.Deferred, func(a, b Deferred) int { return compareNames(a.Repo, a.Tag, b.Repo, b.Tag) })
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

// Deferred is how many images wait for their upstream, and until when the
// first of them does.
func (r Report) Deferred() (n int, until time.Time) {
	for _, rule := range r.Rules {
		n += len(rule.Deferred)
		for _, d := range rule.Deferred {
			if until.IsZero() || d.Until.Before(until) {
				until = d.Until
			}
		}
	}
	return n, until
}

// Then is this report and that of a later sync of the same rules as one: what
// both copied, and what is left as the later one saw it.
func (r Report) Then(next Report) Report {
	rules := slices.Clone(next.Rules)
	for i := range rules {
		if i < len(r.Rules) {
			rules[i].Copied = append(slices.Clone(r.Rules[i].Copied), rules[i].Copied...)
			rules[i].Unchanged = max(0, rules[i].Unchanged-len(r.Rules[i].Copied))
		}
	}
	return Report{rules, r.TransferredBytes + next.TransferredBytes, r.UpstreamRequests + next.UpstreamRequests, r.TookSeconds + next.TookSeconds}
}

// Print says what was done, one line an image.
func (r Report) Print(w io.Writer) error {
	return r.print(w, "copied")
}

func (r Report) print(w io.Writer, did string) error {
	for _, rule := range r.Rules {
		if err := rule.print(w, did); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "%d bytes from upstream in %d requests, %.1f s\n", r.TransferredBytes, r.UpstreamRequests, r.TookSeconds)
	return err
}

func (r RuleReport) print(w io.Writer, did string) error {
	for _, c := range r.Copied {
		fmt.Fprintf(w, "%s  %s:%s  %s  (%s)\n", did, c.Repo, c.Tag, c.Digest, c.Reason)
	}
	for _, h := range r.Held {
		fmt.Fprintf(w, "held  %s:%s  %s\n", h.Repo, h.Tag, h.Reason)
	}
	for _, v := range r.Vanished {
		fmt.Fprintf(w, "%s  %s:%s  the upstream has it no more\n", v.outcome(), v.Repo, v.Tag)
	}
	for _, d := range r.Deferred {
		fmt.Fprintf(w, "deferred  %s  until %s: %s\n", name(d.Repo, d.Tag), d.Until.UTC().Format(time.RFC3339), d.Error)
	}
	for _, f := range r.Failed {
		fmt.Fprintf(w, "failed  %s  %s\n", name(f.Repo, f.Tag), f.Error)
	}
	_, err := fmt.Fprintf(w, "rule %s: %d %s, %d unchanged%s, %d failed\n", r.Name, len(r.Copied), did, r.Unchanged, r.others(), len(r.Failed))
	return err
}

// others counts what there is seldom any of.
func (r RuleReport) others() string {
	var text strings.Builder
	for _, other := range []struct {
		n    int
		what string
	}{{r.Retired, "retired"}, {len(r.Held), "held"}, {len(r.Vanished), "gone upstream"}, {len(r.Deferred), "deferred"}} {
		if other.n > 0 {
			fmt.Fprintf(&text, ", %d %s", other.n, other.what)
		}
	}
	return text.String()
}

func (v Vanished) outcome() string {
	if v.Retired {
		return "retired"
	}
	return "kept"
}
