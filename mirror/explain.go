package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// Explanation says what each rule makes of one tag, and why.
type Explanation struct {
	Ref   string            `json:"ref"` // upstream
	Rules []RuleExplanation `json:"rules"`
}

// RuleExplanation is one rule's part of an explanation.
type RuleExplanation struct {
	Rule     string `json:"rule"`
	Repo     string `json:"repo"` // local; "": the rule does not mean the repository
	Selected bool   `json:"selected"`
	Reason   string `json:"reason"`
	Outcome  string `json:"outcome"` // what a sync would do
}

// Explain says whether each rule selects the tag of an upstream reference, why,
// and what a sync would do with it. It changes nothing. The error is of the
// rules or of ctx; what upstreams say is part of the answer.
func (e *Engine) Explain(ctx context.Context, rules []Rule, ref Reference) (Explanation, error) {
	p := e.planner()
	x := Explanation{Ref: ref.String(), Rules: []RuleExplanation{}}
	for _, r := range rules {
		c, err := compile(r)
		if err != nil {
			return x, fmt.Errorf("rule %q: %w", r.Name, err)
		}
		part, err := p.explain(ctx, c, ref)
		if err != nil {
			return x, err
		}
		x.Rules = append(x.Rules, part)
	}
	return x, ctx.Err()
}

func (p *planner) explain(ctx context.Context, c *rule, ref Reference) (RuleExplanation, error) {
	x := RuleExplanation{Rule: c.Name, Outcome: "nothing"}
	if c.host != ref.Host || !c.means(ref.Repository) {
		x.Reason = fmt.Sprintf("%s/%s is not meant by %q", ref.Host, ref.Repository, c.From)
		return x, nil
	}
	x.Repo = c.local(ref.Repository)
	if subject, ok := AttachedTag(ref.Tag); ok {
		x.Reason = fmt.Sprintf("%s is attached to %s, and comes with it (referrers: %t)", ref.Tag, subject, c.Referrers)
		return x, nil
	}
	src, err := p.meter.source(c.host)
	if err != nil {
		return x, err
	}
	list, err := p.list(ctx, src, c.host, ref.Repository)
	if interrupted(ctx, err) {
		return x, err
	}
	x.Selected, x.Reason = c.explain(ref.Tag, list)
	x.Reason = ref.Tag + " " + x.Reason
	if !x.Selected {
		return x, nil
	}
	if err != nil {
		x.Reason += fmt.Sprintf("; the upstream's list of tags cannot be had: %v", err)
	}
	rp := &rulePlan{rule: c, memories: map[string]*sightings{}}
	changes, _, err := p.tag(ctx, src, rp, c, change{repository: ref.Repository, to: x.Repo, tag: ref.Tag})
	if interrupted(ctx, err) {
		return x, err
	}
	x.Outcome = outcome(changes, err)
	return x, nil
}

// outcome says what a sync would do.
func outcome(changes []change, err error) string {
	held, isHeld := errors.AsType[*heldError](err)
	_, isGone := errors.AsType[*goneError](err)
	switch {
	case errors.Is(err, errRetired):
		return "nothing: retention removed it here, and would again"
	case isHeld:
		return "held: " + held.Reason
	case isGone:
		return "nothing: the upstream has it no more"
	case errors.Is(err, fs.ErrNotExist):
		return "failure: the upstream does not have it"
	case err != nil:
		return "failure: " + err.Error()
	case len(changes) == 0:
		return "unchanged"
	case changes[0].recheck:
		return "unchanged, and its referrers are looked for"
	}
	return fmt.Sprintf("copy: %s (%s)", changes[0].desc.Digest, changes[0].reason)
}

// Print says it in words.
func (x Explanation) Print(w io.Writer) error {
	if _, err := fmt.Fprintln(w, x.Ref); err != nil {
		return err
	}
	for _, r := range x.Rules {
		verdict := "not selected"
		if r.Selected {
			verdict = "selected, to " + r.Repo
		}
		if _, err := fmt.Fprintf(w, "rule %s: %s: %s\n  a sync would do: %s\n", r.Rule, verdict, r.Reason, r.Outcome); err != nil {
			return err
		}
	}
	return nil
}
