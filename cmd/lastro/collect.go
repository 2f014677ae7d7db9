package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"lastro/cmd/lastro/internal/web"
	"lastro/retention"
	"lastro/store/collect"
	"lastro/store/ledger"
)

func (c *cli) collectCommand() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "collect [--dry-run]",
		Short: "free what nothing needs any more",
		Long: `Collect frees what no tag, protection or other image needs, while clients push
and pull. It works in two phases. What nothing needs is condemned: it is served as
before, and whoever asks for it takes it back – a push, a mount, a HEAD, a pull, a
sync, or "lastro undo". After the time that collect.undo and collect.grace give it
is looked at once more and deleted.

What a tag left by moving stays for good, unless retention gives untagged. What
cannot be decided, because something cannot be read, is kept and told: the exit
code is 3 then. After a crash nothing is deleted for a whole grace.`,
		Example: "  lastro collect --dry-run\n  lastro collect\n  lastro undo sha256:…",
		Args:    takes(cobra.NoArgs),
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print what would be condemned and deleted, and do nothing")
	cmd.RunE = c.verb(func(ctx context.Context, s *site, _ []string) error {
		report, err := s.collect(ctx, dryRun)
		if err != nil {
			return err
		}
		if err := c.print(report); err != nil {
			return err
		}
		if n := report.KeptByDoubt; n > 0 {
			return outcome{exitPart, fmt.Sprintf("collect: %d kept because of a doubt", n)}
		}
		return nil
	})
	return cmd
}

// collected is the result of a collect, or of the plan of one.
type collected struct {
	collect.Report
	Mode   string `json:"mode"`
	DryRun bool   `json:"dry_run"`
}

// collect runs in its turn, as the daemon's own does; a rebuild waits.
func (s *site) collect(ctx context.Context, dryRun bool) (out collected, err error) {
	release, err := s.share(ctx)
	if err != nil {
		return out, err
	}
	defer release()
	o, err := s.collectOptions()
	if err != nil {
		return out, err
	}
	out.Mode, out.DryRun = s.cfg().Collect.Mode, dryRun
	if dryRun {
		out.Report, err = collect.Plan(ctx, s.store, o)
		return out, err
	}
	err = s.record(ctx, jobCollect, func() (runResult, error) {
		out.Report, err = collect.Run(ctx, s.store, o)
		s.witness.Collected(out.web())
		return runResult{record: out.summary(), failed: out.KeptByDoubt, bytes: out.FreedBytes}, err
	})
	return out, err
}

func (s *site) collectOptions() (collect.Options, error) {
	cfg := s.cfg().Collect
	rules, err := retentionRules(s.cfg().Retention, "")
	k := &keeper{site: s, rules: rules, required: s.requirement(rules), backed: map[string]backedRepository{}}
	return collect.Options{Grace: cfg.Grace, Undo: cfg.UndoTime(), Observe: cfg.Mode == collect.ModeObserve, Keep: k.keep, Policy: s.cfg().Digest, Now: s.now, Log: s.log}, err
}

// keeper answers for retention whether a manifest that no tag leads to stays.
type keeper struct {
	site     *site
	rules    []retention.Compiled
	required *requirement
	backed   map[string]backedRepository
}

func (k *keeper) keep(ctx context.Context, q collect.Question) (collect.Answer, error) {
	u, err := k.unlinked(ctx, q)
	if err != nil {
		return collect.Answer{}, err
	}
	d := retention.DecideUnlinked(q.Repo, u, k.rules, k.site.now())
	why := ""
	if len(d.Reasons) > 0 {
		why = d.Reasons[0]
	}
	return collect.Answer{Keep: !d.Remove, Until: d.Until, Why: why}, nil
}

func (k *keeper) unlinked(ctx context.Context, q collect.Question) (u retention.Unlinked, err error) {
	u = retention.Unlinked{Digest: q.Digest.String(), How: retention.Moved, Left: q.Left}
	switch {
	case q.Left.IsZero():
		u.How, u.Left = retention.Untagged, q.Since
	case q.Gone:
		u.How = retention.Removed
	}
	counted, err := k.site.ledger().PullsSince(ctx)
	if err != nil {
		return u, err
	}
	if u.Pulled, err = k.site.pulled(ctx, ledger.TagState{Repo: q.Repo, Digest: q.Digest, Since: u.Left}, counted); err != nil {
		return u, err
	}
	u.Protections, err = k.site.shields(ctx, q.Repo, "", q.Digest)
	if err != nil {
		return u, err
	}
	r, err := k.repository(ctx, q.Repo)
	if err == nil {
		u.Backups, err = k.required.backups(ctx, q.Repo, q.Digest, r.ids, r.attached)
	}
	return u, err
}

// repository is read once.
func (k *keeper) repository(ctx context.Context, repo string) (r backedRepository, err error) {
	if r, known := k.backed[repo]; known {
		return r, nil
	}
	if r.ids = k.required.of(ctx, repo); len(r.ids) > 0 {
		var states []ledger.TagState
		for state, err := range k.site.ledger().Tags(ctx, repo) {
			if err != nil {
				return r, err
			}
			states = append(states, state)
		}
		r.attached = attachedDigests(states)
	}
	k.backed[repo] = r
	return r, nil
}

// Print says it in words.
func (c collected) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, i := range c.Items {
		if i.Part {
			continue // the last line counts it
		}
		until := ""
		if i.State != collect.StateDeleted && i.State != collect.StateToDelete {
			until = "until " + i.Due.Local().Format(time.DateTime)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", i.State, i.Held, until, i.Why)
	}
	err := t.Flush()
	for _, p := range c.Problems {
		fmt.Fprintf(w, "kept: %s\n", p)
	}
	verb := ""
	if c.DryRun {
		verb = "would be "
	}
	_, last := fmt.Fprintf(w, "%d digests %scondemned, %d %sdeleted, %s freed; %d wait condemned\n", c.Condemned, verb, c.Deleted, verb, humanize.IBytes(uint64(c.FreedBytes)), c.Waiting)
	if !c.PausedUntil.IsZero() {
		fmt.Fprintf(w, "nothing is deleted before %s, because lastro did not end cleanly\n", c.PausedUntil.Local().Format(time.DateTime))
	}
	if c.Mode == collect.ModeObserve {
		fmt.Fprintln(w, "nothing is deleted: collect.mode is observe")
	}
	return errors.Join(err, last)
}

// collectSummary is what the ledger keeps of a run.
type collectSummary struct {
	Condemned   int       `json:"condemned"`
	Deleted     int       `json:"deleted"`
	FreedBytes  int64     `json:"freed_bytes"`
	KeptByDoubt int       `json:"kept_by_doubt"`
	Waiting     int       `json:"waiting"`
	Problem     string    `json:"problem,omitempty"` // the first
	PausedUntil time.Time `json:"paused_until,omitzero"`
}

func (c collected) summary() collectSummary {
	sum := collectSummary{c.Condemned, c.Deleted, c.FreedBytes, c.KeptByDoubt, c.Waiting, "", c.PausedUntil}
	if len(c.Problems) > 0 {
		sum.Problem = c.Problems[0]
	}
	return sum
}

// backedRepository is what a required backup of a repository is looked up with.
type backedRepository struct {
	ids      map[string]string
	attached map[digest.Digest][]digest.Digest
}

func (c collected) web() web.Collect {
	return web.Collect{Waiting: c.Waiting, KeptByDoubt: c.KeptByDoubt, Deleted: c.Deleted, FreedBytes: c.FreedBytes, TakenBack: c.TakenBack}
}

// collectStatus tells what the last run could not decide.
func (s *site) collectStatus(ctx context.Context, st *status) error {
	job, err := s.job(ctx, jobCollect)
	if err != nil {
		return err
	}
	var last collectSummary
	if len(job.Result) > 0 {
		if err := json.Unmarshal(job.Result, &last); err != nil {
			return fmt.Errorf("status: the record of collect: %w", err)
		}
	}
	switch {
	case job.Err != "":
		st.Problems = append(st.Problems, "the last collect ended with: "+job.Err)
	case last.KeptByDoubt > 0:
		st.Problems = append(st.Problems, fmt.Sprintf("the last collect kept %d because of a doubt, the first: %s", last.KeptByDoubt, last.Problem))
	}
	return nil
}
