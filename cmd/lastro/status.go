package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"lastro/mirror"
	"lastro/store/ledger"
)

func (c *cli) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "is the mirror complete, as of when, and can it be restored",
		Long: `Status says how complete the mirror is, as of when, whether one could restore now,
and what is wrong. It asks no upstream and no vault: it says what the last runs found.
Only where the registry is empty and has saved nothing it looks into the vaults, for
five seconds each at most, and says what a restore would bring back.`,
		Args: takes(cobra.NoArgs),
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
	RPOSeconds *int64       `json:"rpo_seconds"` // age of the backup that one would restore from: what a loss now would cost
	RTOSeconds *int64       `json:"rto_seconds"` // how long a restore of everything would take, by the last drill
	Problems   []string     `json:"problems"`

	OldestUnread   *time.Time `json:"oldest_unread"`           // when what checks have left unread for longest was read
	OldestInVaults *time.Time `json:"oldest_unread_in_vaults"` // the same of what verifications of vaults have left

	Vaults     []vaultStatus `json:"vaults"`
	Restorable string        `json:"restorable"` // yes; no: nothing was saved from here yet, and an empty registry knows of no vault to be restored from; in doubt: what was found last speaks against each vault

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
	st := status{Rules: []ruleStatus{}, Vaults: []vaultStatus{}, Problems: []string{}, FromVault: s.elsewhere.status(), now: s.now()}
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
	if err := s.lookForOthers(ctx, &st); err != nil {
		return st, err
	}
	st.unsavedProblems()
	st.Restorable = st.restorable()
	if best := st.best(); best != nil {
		st.RPOSeconds = new(int64(st.now.Sub(*best.Newest) / time.Second))
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

// job is the record of a job; one that never ran is the zero record.
func (s *site) job(ctx context.Context, name string) (ledger.Job, error) {
	job, err := s.ledger().Job(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return ledger.Job{Name: name}, nil
	}
	return job, err
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
	fmt.Fprintf(w, "restorable %s\n", st.restore())
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
