package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"lastro/mirror"
	"lastro/store/ledger"
)

func (c *cli) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "is the mirror complete, as of when, and can it be restored",
		Args:  takes(cobra.NoArgs),
		RunE: c.verb(func(ctx context.Context, s *site, _ []string) error {
			st, err := s.status(ctx)
			if err != nil {
				return err
			}
			return c.print(st)
		}),
	}
}

// status is what the ledger knows of the last runs. A time that is null never was.
type status struct {
	Rules      []ruleStatus `json:"rules"`
	LastBackup *time.Time   `json:"last_backup"`
	LastVerify *time.Time   `json:"last_verify"`
	LastDrill  *time.Time   `json:"last_drill"`
	LastCheck  *time.Time   `json:"last_check"`  // the daemon's own of the local registry
	RPOSeconds *int64       `json:"rpo_seconds"` // age of the newest backup: what a loss now would cost
	RTOSeconds *int64       `json:"rto_seconds"` // how long a restore of everything would take, by the last drill
	Problems   []string     `json:"problems"`

	OldestUnread   *time.Time `json:"oldest_unread"`           // when what checks have left unread for longest was read
	OldestInVaults *time.Time `json:"oldest_unread_in_vaults"` // the same of what verifications of vaults have left

	FromVault *servedStatus `json:"from_vault"` // what a daemon with --from-vault answers out of; null: it serves its own

	now time.Time
}

type ruleStatus struct {
	Name     string     `json:"name"`
	Images   int        `json:"images"`
	Complete bool       `json:"complete"` // the last sync of the rule left nothing behind
	Checked  *time.Time `json:"checked"`  // when the rule was last complete by what the upstream said; null: never
	Behind   int        `json:"behind"`   // images that the last sync could not copy
}

func (s *site) status(ctx context.Context) (status, error) {
	st := status{Rules: []ruleStatus{}, Problems: []string{}, FromVault: s.elsewhere.status(), now: s.now()}
	for _, m := range s.cfg().Mirror {
		if m.Every.Never() {
			continue // it is as complete as it is asked to be
		}
		r, err := s.ruleStatus(ctx, m.Rule, &st)
		if err != nil {
			return st, err
		}
		st.Rules = append(st.Rules, r)
	}
	for _, b := range s.cfg().Backup {
		if err := s.vaultStatus(ctx, b.Name, &st); err != nil {
			return st, err
		}
	}
	if err := s.collectStatus(ctx, &st); err != nil {
		return st, err
	}
	if !s.cfg().Check.Every.Never() {
		if err := s.checkStatus(ctx, &st); err != nil {
			return st, err
		}
	}
	if err := s.ledgerStatus(ctx, &st); err != nil {
		return st, err
	}
	if len(s.cfg().Backup) == 0 {
		st.Problems = append(st.Problems, "no backup is configured: a loss of the data folder loses everything")
	}
	return st, nil
}

func (s *site) ruleStatus(ctx context.Context, rule mirror.Rule, st *status) (ruleStatus, error) {
	r := ruleStatus{Name: rule.Name}
	job, err := s.job(ctx, jobSync+rule.Name)
	if err != nil {
		return r, err
	}
	var res syncResult
	if len(job.Result) > 0 {
		if err := json.Unmarshal(job.Result, &res); err != nil {
			return r, fmt.Errorf("status: the record of sync %s: %w", rule.Name, err)
		}
	}
	r.Images, r.Behind = res.Images, res.Behind
	if !job.LastOK.IsZero() {
		r.Checked = new(job.LastOK.UTC())
	}
	r.Complete = r.Checked != nil && r.Behind == 0 && job.Err == ""
	switch {
	case job.Err != "":
		st.Problems = append(st.Problems, fmt.Sprintf("rule %s: the last sync ended with: %s", rule.Name, job.Err))
	case r.Behind > 0:
		st.Problems = append(st.Problems, fmt.Sprintf("rule %s: %d images or repositories are behind (lastro sync %s)", rule.Name, r.Behind, rule.Name))
	case r.Checked == nil:
		st.Problems = append(st.Problems, fmt.Sprintf("rule %s: was never synced (lastro sync %s)", rule.Name, rule.Name))
	}
	return r, nil
}

func (s *site) vaultStatus(ctx context.Context, name string, st *status) error {
	backup, err := s.job(ctx, jobBackup+name)
	if err != nil {
		return err
	}
	verify, err := s.job(ctx, jobVerify+name)
	if err != nil {
		return err
	}
	var saved savedSnapshot
	if len(backup.Result) > 0 {
		if err := json.Unmarshal(backup.Result, &saved); err != nil {
			return fmt.Errorf("status: the record of backup %s: %w", name, err)
		}
	}
	st.LastBackup = latest(st.LastBackup, saved.Newest)
	st.LastVerify = latest(st.LastVerify, verify.LastOK)
	if st.LastBackup != nil {
		st.RPOSeconds = new(int64(st.now.Sub(*st.LastBackup) / time.Second))
	}
	switch {
	case backup.Err != "":
		st.Problems = append(st.Problems, fmt.Sprintf("vault %s: the last backup ended with: %s", name, backup.Err))
	case len(saved.Failed) > 0:
		st.Problems = append(st.Problems, fmt.Sprintf("vault %s: %d images are not in the newest snapshot as they are here (lastro backup %s)", name, len(saved.Failed), name))
	case saved.Newest.IsZero():
		st.Problems = append(st.Problems, fmt.Sprintf("vault %s: there was no backup yet (lastro backup %s)", name, name))
	}
	if known := readBackOf(verify).Oldest; !known.IsZero() && (st.OldestInVaults == nil || known.Before(*st.OldestInVaults)) {
		st.OldestInVaults = new(known.UTC())
	}
	prune, err := s.job(ctx, jobPrune+name)
	if err != nil {
		return err
	}
	if prune.Err != "" {
		st.Problems = append(st.Problems, fmt.Sprintf("vault %s: the last prune ended with: %s", name, prune.Err))
	}
	if verify.Err != "" {
		st.Problems = append(st.Problems, fmt.Sprintf("vault %s: the last verify ended with: %s", name, verify.Err))
	}
	return s.drillStatus(ctx, name, st)
}

func (s *site) drillStatus(ctx context.Context, name string, st *status) error {
	job, err := s.job(ctx, jobDrill+name)
	if err != nil {
		return err
	}
	st.LastDrill = latest(st.LastDrill, job.LastOK)
	if last := drilledOf(job); last.RTOSeconds > 0 {
		st.RTOSeconds = new(max(last.RTOSeconds, *cmp.Or(st.RTOSeconds, new(int64))))
	}
	if job.Err != "" {
		st.Problems = append(st.Problems, fmt.Sprintf("vault %s: the last drill ended with: %s", name, job.Err))
	}
	return nil
}

// job is the record of a job; one that never ran is the zero record.
func (s *site) job(ctx context.Context, name string) (ledger.Job, error) {
	job, err := s.ledger().Job(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return ledger.Job{Name: name}, nil
	}
	return job, err
}

func latest(old *time.Time, t time.Time) *time.Time {
	if t.IsZero() || old != nil && old.After(t) {
		return old
	}
	return new(t.UTC())
}

// Print answers the three questions first, one line each.
func (st status) Print(w io.Writer) error {
	complete, images := 0, 0
	var oldest time.Time
	for _, r := range st.Rules {
		images += r.Images
		if r.Complete {
			complete++
		}
		if r.Checked != nil && (oldest.IsZero() || r.Checked.Before(oldest)) {
			oldest = *r.Checked
		}
	}
	if st.FromVault != nil {
		fmt.Fprintf(w, "serving    %s\n", st.FromVault)
	}
	fmt.Fprintf(w, "complete   %d of %d rules, %d images\n", complete, len(st.Rules), images)
	fmt.Fprintf(w, "as of      %s\n", stamp(oldest))
	fmt.Fprintf(w, "restorable %s\n", st.restorable())
	if st.LastCheck != nil {
		fmt.Fprintf(w, "checked    %s, and all of it read since %s\n", stamp(*st.LastCheck), stamp(*st.OldestUnread))
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "RULE\tIMAGES\tCOMPLETE\tBEHIND\tCHECKED\n")
	for _, r := range st.Rules {
		checked := time.Time{}
		if r.Checked != nil {
			checked = *r.Checked
		}
		fmt.Fprintf(t, "%s\t%d\t%t\t%d\t%s\n", r.Name, r.Images, r.Complete, r.Behind, stamp(checked))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, p := range st.Problems {
		fmt.Fprintf(w, "problem: %s\n", p)
	}
	return nil
}

func (st status) restorable() string {
	if st.LastBackup == nil {
		return "no: there is no backup"
	}
	verified := "never verified"
	if st.LastVerify != nil {
		verified = "last verified " + humanize.RelTime(*st.LastVerify, st.now, "ago", "from now")
	}
	if st.OldestInVaults != nil {
		verified += ", all of it since " + stamp(*st.OldestInVaults)
	}
	if st.LastDrill != nil {
		verified += ", drilled " + humanize.RelTime(*st.LastDrill, st.now, "ago", "from now")
	}
	if st.RTOSeconds != nil {
		verified += fmt.Sprintf(", in about %s", time.Duration(*st.RTOSeconds)*time.Second)
	}
	return fmt.Sprintf("yes: from the backup of %s (%s), %s", stamp(*st.LastBackup), humanize.RelTime(*st.LastBackup, st.now, "ago", "from now"), verified)
}
