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
	decide := func() (runResult, error) {
		err := s.retainRepositories(ctx, within, rules, only, &out)
		return runResult{record: map[string]int{"removed": out.Removed, "refused": len(out.Refused)}, failed: len(out.Refused)}, err
	}
	if out.DryRun {
		_, err = decide()
		return out, err
	}
	return out, s.record(ctx, jobRetain+cmp.Or(o.rule, "all"), decide)
}

func (s *site) retainRepositories(ctx context.Context, within mirror.Pattern, rules []retention.Compiled, only localRef, out *retained) error {
	for repo, err := range s.ledger().Repositories(ctx) {
		if err != nil {
			return err
		}
		if only.repo != "" && only.repo != repo || !within.Match(repo) {
			continue
		}
		if err := s.retainRepository(ctx, repo, rules, only, out); err != nil {
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

func (s *site) retainRepository(ctx context.Context, repo string, rules []retention.Compiled, only localRef, out *retained) error {
	tags, err := s.retentionTags(ctx, repo)
	if err != nil {
		return err
	}
	decisions, err := retention.Decide(repo, tags, rules, s.now())
	if guard, ok := errors.AsType[*retention.GuardError](err); ok {
		out.Refused = append(out.Refused, retainRefusal{repo, guard.Error()})
	} else if err != nil {
		return err
	}
	refused := err != nil
	for _, d := range decisions {
		if only.tag != "" && only.tag != d.Tag {
			continue
		}
		if err := s.retainTag(ctx, repo, d, refused, out); err != nil {
			return err
		}
	}
	return nil
}

func (s *site) retainTag(ctx context.Context, repo string, d retention.Decision, refused bool, out *retained) error {
	shown := retainDecision{Repo: repo, Tag: d.Tag, Digest: digest.Digest(d.Digest), Remove: d.Remove && !refused, Reasons: d.Reasons}
	if !d.Until.IsZero() {
		shown.Until = new(d.Until.UTC())
	}
	out.Decisions = append(out.Decisions, shown)
	if !shown.Remove || out.DryRun {
		return nil
	}
	out.Removed++
	return s.store.Untag(ctx, repo, d.Tag, ledger.Event{By: byRetention, Reason: strings.Join(d.Reasons, "; ")})
}

// retentionTags is a repository as retention sees it. Tags that attach
// signatures and the like name their subject.
func (s *site) retentionTags(ctx context.Context, repo string) ([]retention.Tag, error) {
	counted, err := s.ledger().PullsSince(ctx)
	if err != nil {
		return nil, err
	}
	var tags []retention.Tag
	for state, err := range s.ledger().Tags(ctx, repo) {
		if err != nil {
			return nil, err
		}
		t := retention.Tag{Name: state.Tag, Digest: state.Digest.String(), Since: state.Since}
		if t.Pulled, err = s.pulled(ctx, state, counted); err != nil {
			return nil, err
		}
		if subject, ok := mirror.AttachedTag(state.Tag); ok {
			t.Subject = subject.String()
		}
		tags = append(tags, t)
	}
	return tags, nil
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
// nothing.
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
	tags, err := s.retentionTags(ctx, repo)
	if err != nil {
		return false, err
	}
	tags = append(tags, retention.Tag{Name: tag, Digest: d.String(), Since: sinceOf(events, d), Pulled: sinceOf(events, d)})
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
