package mirror

import (
	"context"
	"fmt"
)

// maxVanished is the share of the tags of a repository that may vanish in one
// run and be believed: one in five, and always one, but never all.
const maxVanished = 5

// vanished decides what becomes of the tags that are here and upstream no
// more. held is how many of the rule's tags are here.
func (p *planner) vanished(ctx context.Context, rp *rulePlan, to string, held int) error {
	rp.mu.Lock()
	defer rp.mu.Unlock()
	var gone []*Vanished
	for i := range rp.vanished {
		if rp.vanished[i].Repo == to {
			gone = append(gone, &rp.vanished[i])
		}
	}
	if len(gone) == 0 {
		return ctx.Err()
	}
	retire := rp.rule.RemovedUpstream == Retire
	if retire && !p.AllowVanished && (len(gone) > max(1, held/maxVanished) || len(gone) >= held) {
		reason := fmt.Sprintf("%d of %d tags are gone upstream at once: none is removed here", len(gone), held)
		rp.failed = append(rp.failed, Failed{to, "", reason + fmt.Sprintf("; look there, and if that is right: lastro sync %q --allow-removals", rp.rule.Name)})
		rp.noteAll(gone, EventAlarm, reason)
		return ctx.Err()
	}
	if !retire {
		rp.noteAll(gone, EventVanished, fmt.Sprintf("rule %s: the upstream has it no more; it stays here", rp.rule.Name))
		return ctx.Err()
	}
	return p.retire(ctx, rp, gone)
}

// retire marks the tags that go. In doubt one stays. The caller holds mu.
func (p *planner) retire(ctx context.Context, rp *rulePlan, gone []*Vanished) error {
	for _, v := range gone {
		reason, err := p.kept(ctx, v)
		v.Retired = reason == "" && err == nil
		switch {
		case err != nil:
			rp.failed = append(rp.failed, Failed{v.Repo, v.Tag, "local: whether it is to be kept: " + err.Error()})
		case reason != "":
			rp.noteAll([]*Vanished{v}, EventVanished, fmt.Sprintf("rule %s: the upstream has it no more; it stays here: %s", rp.rule.Name, reason))
		}
	}
	return ctx.Err()
}

func (p *planner) kept(ctx context.Context, v *Vanished) (reason string, err error) {
	if p.Kept == nil {
		return "", nil
	}
	return p.Kept(ctx, v.Repo, v.Tag, v.Digest)
}

// noteAll notes the same of several tags. The caller holds mu.
func (rp *rulePlan) noteAll(tags []*Vanished, event, reason string) {
	for _, v := range tags {
		rp.notes = append(rp.notes, note{v.Repo, v.Tag, event, reason})
	}
}

// remember tells the memory what the plan saw, before anything is copied.
func (a *applying) remember(ctx context.Context, rp *rulePlan) error {
	if a.Memory == nil {
		return nil
	}
	for repo, s := range rp.memories {
		if err := a.Memory.Remember(ctx, repo, s.asked, s.seen); err != nil {
			return err
		}
	}
	for _, n := range rp.notes {
		if err := a.Memory.Note(ctx, n.repo, n.tag, n.event, n.reason); err != nil {
			return err
		}
		if n.event == EventAlarm {
			a.log().Warn("alarm", "repo", n.repo, "tag", n.tag, "reason", n.reason)
		}
	}
	for _, v := range rp.vanished {
		if !v.Retired {
			continue
		}
		if err := a.Memory.Retire(ctx, v.Repo, v.Tag, fmt.Sprintf("rule %s: removed upstream", rp.rule.Name)); err != nil {
			return err
		}
		a.log().Info("tag retired", "repo", v.Repo, "tag", v.Tag, "reason", "removed upstream")
	}
	return nil
}
