package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"lastro/configs"
	"lastro/retention"
	"lastro/store/vault"
	"lastro/store/vault/prune"
)

// mostForgotten is the share of the snapshots that keep lets go at once.
const mostForgotten = "20%"

// forgetOptions say which snapshots go.
type forgetOptions struct {
	snapshots   []string // "": by keep
	maxRemovals string
	others      bool // by keep the snapshots of other daemons as well
	allowLast   bool
	dryRun      bool
}

func (c *cli) backupForgetCommand() *cobra.Command {
	var o forgetOptions
	cmd := &cobra.Command{
		Use:   "forget [NAME] [--snapshot ID…] [--dry-run]",
		Short: "let snapshots of a vault go",
		Long: `Forget lets the snapshots of a vault go that no line of its keep (in the
configuration) keeps, and says for each which line keeps it or why it goes; or, with
--snapshot, those that you name. What only they needed stays in the bucket until
"backup prune" removes it. The daemon does both by itself after each backup of a
vault that has a keep.

When more than 20% of the snapshots would go (one always may), none goes;
--max-removals lets one run go on. By keep only the snapshots that this daemon has
made go, and not those from before its data folder was lost: with --others those of
other daemons as well, each daemon's counted by themselves. The last snapshot of a vault never goes, and the last of a daemon only
by its id and with --allow-last.`,
		Example: "  lastro backup forget --dry-run\n  lastro backup forget main --snapshot 01KE3V --snapshot 01KE51",
		Args:    takes(cobra.MaximumNArgs(1)),
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.snapshots, "snapshot", nil, "forget this snapshot (an `id`, or the start of one); may be given several times")
	f.StringVar(&o.maxRemovals, "max-removals", mostForgotten, "let this run forget up to this `share` of the snapshots by keep, such as 50%")
	f.BoolVar(&o.others, "others", false, "apply keep to snapshots of other daemons as well")
	f.BoolVar(&o.allowLast, "allow-last", false, "forget the last snapshot of a daemon that is no more")
	f.BoolVar(&o.dryRun, "dry-run", false, "print what would go, and forget nothing")
	cmd.MarkFlagsMutuallyExclusive("snapshot", "others")
	cmd.RunE = c.verb(func(ctx context.Context, s *site, args []string) error {
		names, err := vaultNames(s.cfg().Backup, args)
		if err == nil && len(names) > 1 {
			_, err = s.oneVault(ctx, args)
		}
		if err != nil {
			return err
		}
		out, err := s.forget(ctx, names[0], o)
		if err != nil && len(out.Decisions) == 0 {
			return err // nothing was decided
		}
		return errors.Join(c.print(out), err)
	})
	return cmd
}

// forgotten is the result of a forget.
type forgotten struct {
	Vault     string           `json:"vault"`
	Decisions []forgetDecision `json:"decisions"` // the oldest first
	Forgotten int              `json:"forgotten"`
	Left      int              `json:"left"` // snapshots in the vault afterwards
	DryRun    bool             `json:"dry_run"`
}

// forgetDecision is what becomes of a snapshot.
type forgetDecision struct {
	retention.SnapshotDecision
	Store string `json:"store,omitempty"` // what the store is called that it is of
}

// forget decides, and lets go what was decided on.
func (s *site) forget(ctx context.Context, name string, o forgetOptions) (forgotten, error) {
	out := forgotten{Vault: name, Decisions: []forgetDecision{}, DryRun: o.dryRun}
	v, err := s.vault(ctx, name)
	if err != nil {
		return out, err
	}
	all, err := v.Candidates(ctx)
	if err != nil {
		return out, err
	}
	out.Left = len(all)
	if out.Decisions, err = s.decideSnapshots(ctx, name, all, o); err != nil || o.dryRun {
		return out, err
	}
	var ids []string
	for _, d := range out.Decisions {
		if d.Remove {
			ids = append(ids, d.ID)
		}
	}
	done, err := v.Forget(ctx, vault.ForgetOptions{IDs: ids, AllowLastOfStore: o.allowLast})
	if err != nil {
		return out, err
	}
	for _, d := range out.Decisions {
		if slices.Contains(done.Forgotten, d.ID) {
			s.log.Info("snapshot forgotten", "job", jobPrune+name, "snapshot", d.ID, "time", d.Time, "reasons", d.Reason())
		}
	}
	out.Forgotten, out.Left = len(done.Forgotten), done.Left
	s.witness.Left(name, done.Left)
	return out, nil
}

func (s *site) decideSnapshots(ctx context.Context, name string, all []vault.Candidate, o forgetOptions) ([]forgetDecision, error) {
	if len(o.snapshots) > 0 {
		return namedSnapshots(all, o.snapshots)
	}
	keep := s.keepOf(name)
	if keep.KeepsAll() {
		return nil, usageError{fmt.Errorf("nothing says which snapshots of vault %s stay: set keep for it in the configuration (example: keep: {last: 3, daily: 7, weekly: 5, monthly: 12}), or name those that go with --snapshot", name)}
	}
	share, err := configs.ParsePercent(o.maxRemovals)
	if err != nil {
		return nil, usageError{fmt.Errorf("--max-removals: %w", err)}
	}
	own, err := s.ledger().ID(ctx)
	if err != nil {
		return nil, err
	}
	decisions := byKeep(all, keep, s.now(), func(store string) bool { return o.others || store == own })
	return decisions, guardSnapshots(name, decisions, share, o.dryRun)
}

func (s *site) keepOf(name string) (keep retention.Generations) {
	for _, b := range s.cfg().Backup {
		if b.Name == name {
			keep = b.Keep
		}
	}
	return keep
}

// namedSnapshots go because a person named them.
func namedSnapshots(all []vault.Candidate, ids []string) ([]forgetDecision, error) {
	named := map[string]bool{}
	for _, id := range ids {
		c, err := prune.Pick(all, id)
		if err != nil {
			return nil, err
		}
		named[c.ID] = true
	}
	var decisions []forgetDecision
	for _, c := range all {
		if named[c.ID] {
			decisions = append(decisions, forgetDecision{retention.SnapshotDecision{ID: c.ID, Time: c.Time, Remove: true, Reasons: []string{"it was named"}}, c.Store})
		}
	}
	return decisions, nil
}

// byKeep decides on the snapshots of each store by themselves: what one saves is not
// replaced by what another does.
func byKeep(all []vault.Candidate, keep retention.Generations, now time.Time, meant func(store string) bool) []forgetDecision {
	of := map[string][]retention.Snapshot{}
	decisions := []forgetDecision{}
	for _, c := range all {
		if !meant(c.Store) {
			decisions = append(decisions, forgetDecision{retention.SnapshotDecision{ID: c.ID, Time: c.Time, Reasons: []string{"another daemon has made it, or this one before it lost its data folder: keep decides on it with --others only"}}, c.Store})
			continue
		}
		of[c.Store] = append(of[c.Store], retention.Snapshot{ID: c.ID, Time: c.Time, Stored: c.Stored})
	}
	for store, snapshots := range of {
		for _, d := range retention.DecideSnapshots(snapshots, keep, now) {
			decisions = append(decisions, forgetDecision{d, store})
		}
	}
	slices.SortFunc(decisions, func(a, b forgetDecision) int { return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.ID, b.ID)) })
	return decisions
}

func guardSnapshots(name string, decisions []forgetDecision, share float64, dryRun bool) error {
	remove := 0
	for _, d := range decisions {
		if d.Remove {
			remove++
		}
	}
	err := retention.GuardSnapshots(name, remove, len(decisions), share)
	if err == nil {
		return nil
	}
	// What is refused does not go: nobody should read that it does.
	for i := range decisions {
		if decisions[i].Remove && !dryRun {
			decisions[i].Remove = false
		}
	}
	return outcome{exitPart, err.Error()}
}

// Print says of each snapshot what becomes of it.
func (f forgotten) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	would := 0
	for _, d := range f.Decisions {
		what := "stays"
		if d.Remove {
			would++
			what = "goes"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", what, d.ID, stamp(d.Time), d.Reason())
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if f.DryRun {
		_, err := fmt.Fprintf(w, "vault %s: %d of %d snapshots would be forgotten\n", f.Vault, would, f.Left)
		return err
	}
	_, err := fmt.Fprintf(w, "vault %s: %d snapshots forgotten, %d left\n", f.Vault, f.Forgotten, f.Left)
	return err
}
