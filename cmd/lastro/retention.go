package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/opencontainers/go-digest"

	"lastro/configs"
	"lastro/mirror"
	"lastro/mirror/version"
	"lastro/retention"
	"lastro/store/ledger"
)

// byRetention is who removed a tag, in its history.
const byRetention = "retention"

type retainOptions struct {
	dryRun      bool
	explain     string
	maxRemovals string
	rule        string // only repositories that this rule matches; "": all
}

// retained is the result of applying retention.
type retained struct {
	Decisions []retainDecision `json:"decisions"`
	Removed   int              `json:"removed"`
	Refused   []retainRefusal  `json:"refused"`
	DryRun    bool             `json:"dry_run"`
}

type retainDecision struct {
	Repo    string        `json:"repo"`
	Tag     string        `json:"tag"`
	Digest  digest.Digest `json:"digest"`
	Remove  bool          `json:"remove"`
	Reasons []string      `json:"reasons"`
	Until   *time.Time    `json:"until,omitempty"` // kept at least until then
	Goes    string        `json:"goes,omitempty"`  // when, in words; of one that is explained
}

type retainRefusal struct {
	Repo  string `json:"repo"`
	Error string `json:"error"`
}

// retain decides for every repository and removes what nothing keeps. A
// repository in doubt is refused alone.
func (s *site) retain(ctx context.Context, o retainOptions) (retained, error) {
	out := retained{Decisions: []retainDecision{}, Refused: []retainRefusal{}, DryRun: o.dryRun || o.explain != ""}
	only, err := s.explained(ctx, o.explain)
	if err != nil {
		return out, err
	}
	rules, err := retentionRules(s.cfg().Retention, o.maxRemovals)
	if err != nil {
		return out, err
	}
	within, err := mirror.ParsePattern(cmp.Or(o.rule, "**"))
	if err != nil {
		return out, err
	}
	release, err := s.share(ctx)
	if err != nil {
		return out, err
	}
	defer release()
	run := retaining{site: s, rules: rules, required: s.requirement(rules), only: only, out: &out}
	decide := func() (runResult, error) {
		err := run.repositories(ctx, within)
		return runResult{record: map[string]int{"removed": out.Removed, "refused": len(out.Refused)}, failed: len(out.Refused)}, err
	}
	if out.DryRun {
		_, err = decide()
		return out, err
	}
	return out, s.record(ctx, jobRetain+cmp.Or(o.rule, "all"), decide)
}

// retaining is one run of retention.
type retaining struct {
	*site
	rules    []retention.Compiled
	required *requirement
	only     localRef // the tag that is explained; zero: all
	out      *retained
}

func (r retaining) repositories(ctx context.Context, within mirror.Pattern) error {
	for repo, err := range r.ledger().Repositories(ctx) {
		if err != nil {
			return err
		}
		if r.only.repo != "" && r.only.repo != repo || !within.Match(repo) {
			continue
		}
		if err := r.repository(ctx, repo); err != nil {
			return err
		}
	}
	return nil
}

func (s *site) explained(ctx context.Context, text string) (localRef, error) {
	if text == "" {
		return localRef{}, nil
	}
	ref, err := s.taggedReference(ctx, text)
	if err != nil {
		return ref, err
	}
	if _, err := s.ledger().Tag(ctx, ref.repo, ref.tag); err != nil {
		return ref, s.explainMissing(ctx, ref, time.Time{}, err)
	}
	return ref, nil
}

// retentionRules are always all of them: a tag stays when any rule keeps it.
func retentionRules(all []configs.Retention, maxRemovals string) ([]retention.Compiled, error) {
	var rules []retention.Compiled
	for _, r := range all {
		if maxRemovals != "" {
			share, err := configs.ParsePercent(maxRemovals)
			if err != nil {
				return nil, usageError{fmt.Errorf("--max-removals: %w", err)}
			}
			r.Rule.MaxRemovals = share
		}
		compiled, err := r.Rule.Compile(ruleLanguage())
		if err != nil {
			return nil, err
		}
		rules = append(rules, compiled)
	}
	return rules, nil
}

// ruleLanguage reads retention's rules and tags as those of mirrors are read.
func ruleLanguage() retention.Language {
	return retention.Language{
		Pattern: func(text string) (retention.Matcher, error) { return mirror.ParsePattern(text) },
		Range:   func(text string) (retention.Matcher, error) { return version.ParseRange(text) },
		Lines:   versionLines,
	}
}

func versionLines(tags []string, per string) map[string][]string {
	var by version.Per
	if err := by.UnmarshalText([]byte(per)); err != nil {
		panic(err) // retention knows no other words
	}
	versions := make([]version.Version, len(tags))
	for i, tag := range tags {
		versions[i] = version.Parse(tag)
	}
	lines := map[string][]string{}
	for line, ordered := range version.Lines(versions, by) {
		for _, v := range ordered {
			lines[line] = append(lines[line], v.Tag())
		}
	}
	return lines
}

func (r retaining) repository(ctx context.Context, repo string) error {
	tags, err := r.retentionTags(ctx, repo, r.required)
	if err != nil {
		return err
	}
	decisions, err := retention.Decide(repo, tags, r.rules, r.now())
	guard, refused := errors.AsType[*retention.GuardError](err)
	if refused {
		r.out.Refused = append(r.out.Refused, retainRefusal{repo, guard.Error()})
	} else if err != nil {
		return err
	}
	for _, d := range decisions {
		if r.only.tag != "" && r.only.tag != d.Tag {
			continue
		}
		shown := shownDecision(d, refused)
		if r.only.tag != "" {
			shown.Goes = r.goes(d, refused)
		}
		if shown.Remove && !r.out.DryRun {
			if err := r.remove(ctx, &shown); err != nil {
				return err
			}
		}
		r.out.Decisions = append(r.out.Decisions, shown)
	}
	return nil
}

func shownDecision(d retention.Decision, refused bool) retainDecision {
	shown := retainDecision{Repo: d.Repo, Tag: d.Tag, Digest: digest.Digest(d.Digest), Remove: d.Remove && !refused, Reasons: d.Reasons}
	if d.Remove && refused {
		shown.Reasons = append([]string{"max-removals keeps it, and it would go otherwise"}, d.Reasons...)
	}
	if !d.Until.IsZero() {
		shown.Until = new(d.Until.UTC())
	}
	return shown
}

// goes says when a tag goes, and for how long what it is at outlives it.
func (r retaining) goes(d retention.Decision, refused bool) string {
	switch {
	case d.Remove && refused:
		return "it would go with the next run of retention, which max-removals refuses"
	case !d.Remove && d.Until.IsZero():
		return "it does not go for as long as this holds, however old it gets"
	}
	text := "it goes with the next run of retention"
	if !d.Remove {
		text = fmt.Sprintf("it goes with the first run of retention after %s, if nothing changes until then", stamp(d.Until))
	}
	if longer, why := retention.UntaggedFor(d.Repo, r.rules); longer > 0 {
		text += fmt.Sprintf("; its digest can be pulled for longer (%s)", why)
	}
	return text
}

// errMeanwhile says that a tag is not what was decided on any more.
var errMeanwhile = errors.New("it has moved, or was protected or rolled back, since this was decided: it stays")

// remove takes a tag away if it is still what was decided on.
func (r retaining) remove(ctx context.Context, d *retainDecision) error {
	_, err := r.store.UntagUnless(ctx, d.Repo, d.Tag, ledger.Event{By: byRetention, Reason: strings.Join(d.Reasons, "; ")}, func(at digest.Digest) error {
		why, err := r.shield(ctx, d.Repo, d.Tag, at)
		if err == nil && (at != d.Digest || why != "") {
			err = errMeanwhile
		}
		return err
	})
	switch {
	case errors.Is(err, errMeanwhile):
		d.Remove, d.Reasons = false, []string{errMeanwhile.Error()}
	case err == nil:
		r.out.Removed++
	}
	return ignoreMeanwhile(ignoreMissing(err))
}

func ignoreMeanwhile(err error) error {
	if errors.Is(err, errMeanwhile) {
		return nil
	}
	return err
}

// retentionTags is a repository as retention sees it. Tags that attach
// signatures and the like name their subject.
func (s *site) retentionTags(ctx context.Context, repo string, required *requirement) (tags []retention.Tag, err error) {
	counted, err := s.ledger().PullsSince(ctx)
	if err != nil {
		return nil, err
	}
	var states []ledger.TagState
	for state, err := range s.ledger().Tags(ctx, repo) {
		if err != nil {
			return nil, err
		}
		states = append(states, state)
	}
	attached, ids := attachedDigests(states), required.of(ctx, repo)
	for _, state := range states {
		t, err := s.retentionTag(ctx, state, counted, len(attached) > 0)
		if err == nil && t.Subject == "" {
			t.Backups, err = required.backups(ctx, repo, state.Digest, ids, attached)
		}
		if err != nil {
			return nil, err
		}
		tags = append(tags, t)
	}
	return tags, nil
}

// retentionTag is all but in which backups a tag is. What lies below it is of
// interest only where something is attached.
func (s *site) retentionTag(ctx context.Context, state ledger.TagState, counted time.Time, attached bool) (t retention.Tag, err error) {
	t = retention.Tag{Name: state.Tag, Digest: state.Digest.String(), Since: state.Since}
	if subject, ok := mirror.AttachedTag(state.Tag); ok {
		t.Subject = subject.String()
	}
	if t.Pulled, err = s.pulled(ctx, state, counted); err != nil {
		return t, err
	}
	if attached {
		if t.Below, err = s.below(ctx, state.Repo, state.Digest); err != nil {
			return t, err
		}
	}
	t.Protections, err = s.shields(ctx, state.Repo, state.Tag, state.Digest)
	return t, err
}

// pulled is a time after which nobody pulled a tag: when it was pulled last, or
// when pulls began to be counted, or when it came. It is zero when pulls are not
// counted.
func (s *site) pulled(ctx context.Context, t ledger.TagState, counted time.Time) (time.Time, error) {
	if counted.IsZero() {
		return time.Time{}, nil
	}
	latest, err := s.ledger().LastPulled(ctx, t.Repo, t.Tag, t.Digest)
	for _, other := range []time.Time{counted, t.Since} {
		if other.After(latest) {
			latest = other
		}
	}
	return latest, err
}

// retired tells a sync that retention removed a tag with this digest and, by
// the rules as they are now, would do so again: copying it back would be for
// nothing. It was in the backups that rules required then, and counts as in
// those that they require now.
func (s *site) retired(ctx context.Context, repo, tag string, d digest.Digest) (bool, error) {
	events, err := s.ledger().History(ctx, repo, tag)
	if err != nil || len(events) == 0 {
		return false, ignoreMissing(err)
	}
	last := lastMove(events)
	if last.Event != ledger.Removed || last.By != byRetention || last.Previous != d {
		return false, nil
	}
	rules, err := retentionRules(s.cfg().Retention, "")
	if err != nil {
		return false, err
	}
	tags, err := s.retentionTags(ctx, repo, s.requirement(nil))
	if err != nil {
		return false, err
	}
	back := retention.Tag{Name: tag, Digest: d.String(), Since: sinceOf(events, d), Pulled: sinceOf(events, d), Backups: retention.Required(repo, rules)}
	if back.Protections, err = s.shields(ctx, repo, tag, d); err != nil {
		return false, err
	}
	tags = append(tags, back)
	decisions, err := retention.Decide(repo, tags, rules, s.now())
	if _, ok := errors.AsType[*retention.GuardError](err); err != nil && !ok {
		return false, err
	}
	i := slices.IndexFunc(decisions, func(decision retention.Decision) bool { return decision.Tag == tag })
	return i >= 0 && decisions[i].Remove, nil
}

// lastMove is the newest event that is more than a note: after it the tag is
// somewhere else. Without one it is zero.
func lastMove(events []ledger.Event) ledger.Event {
	for _, e := range slices.Backward(events) {
		if e.Digest != "" || e.Event == ledger.Removed {
			return e
		}
	}
	return ledger.Event{}
}

// sinceOf is when a digest that a tag has had was first seen there, the last time that it came.
func sinceOf(events []ledger.Event, d digest.Digest) (since time.Time) {
	for _, e := range events {
		if e.Digest == d {
			since = e.Time
		}
	}
	return since
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (r retained) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	removing := 0
	for _, d := range r.Decisions {
		verb := "keep"
		if d.Remove {
			verb = "remove"
			removing++
		}
		reasons := strings.Join(d.Reasons, "; ")
		if d.Until != nil {
			reasons += " (until " + stamp(*d.Until) + ")"
		}
		fmt.Fprintf(t, "%s\t%s:%s\t%s\n", verb, d.Repo, d.Tag, reasons)
		if d.Goes != "" {
			fmt.Fprintf(t, "\t\t%s\n", d.Goes)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, refused := range r.Refused {
		fmt.Fprintf(w, "refused %s: %s\n", refused.Repo, refused.Error)
	}
	did := "removed"
	if r.DryRun {
		did = "would remove"
	}
	_, err := fmt.Fprintf(w, "%s %d of %d tags\n", did, removing, len(r.Decisions))
	return err
}
