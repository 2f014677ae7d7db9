package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"lastro/configs"
	"lastro/store/ledger"
	"lastro/store/vault"
)

// vaultStatus is what the last runs with one vault found. A time that is null never was.
type vaultStatus struct {
	Name         string     `json:"name"`
	Newest       *time.Time `json:"newest"`        // time of the newest snapshot that this registry has saved, or was restored from
	Verified     *time.Time `json:"verified"`      // when a verification last found no problem
	OldestUnread *time.Time `json:"oldest_unread"` // when what is longest unread in it was read, or sent there
	Drilled      *time.Time `json:"drilled"`       // when a drill last found no problem
	RTOSeconds   *int64     `json:"rto_seconds"`
	Unread       string     `json:"unread,omitempty"` // why it is not verified, drilled and pruned from here
	Found        *time.Time `json:"found,omitempty"`  // time of the newest snapshot in it, which was looked at because this registry is empty and has none of its own
	Part         bool       `json:"part,omitempty"`   // only what its include names is saved to it
	Doubts       []string   `json:"doubts"`           // what the last verification and the last drill found against restoring from it

	unsaved bool // nobody tried to save to it from here
}

func (s *site) vaultStatus(ctx context.Context, name string, st *status) error {
	b := s.backupOf(name)
	v := vaultStatus{Name: name, Doubts: []string{}, Unread: unread(b), Part: len(b.Include) > 0 && !slices.Contains(b.Include, "**")}
	for _, add := range []func(context.Context, *vaultStatus, *status) error{s.backupStatus, s.verifyStatus, s.drillStatus, s.pruneStatus} {
		if err := add(ctx, &v, st); err != nil {
			return err
		}
	}
	st.Vaults = append(st.Vaults, v)
	return nil
}

func (s *site) backupStatus(ctx context.Context, v *vaultStatus, st *status) error {
	job, err := s.job(ctx, jobBackup+v.Name)
	if err != nil {
		return err
	}
	var saved savedSnapshot
	if len(job.Result) > 0 {
		if err := json.Unmarshal(job.Result, &saved); err != nil {
			return fmt.Errorf("status: the record of backup %s: %w", v.Name, err)
		}
	}
	if v.Newest, err = s.newest(ctx, v.Name, saved.Newest, st); err != nil {
		return err
	}
	if v.Newest != nil {
		st.LastBackup = latest(st.LastBackup, *v.Newest)
	}
	switch {
	case job.Err != "":
		st.problem("vault %s: the last backup ended with: %s", v.Name, job.Err)
	case len(saved.Failed) > 0:
		st.problem("vault %s: %d images are not in the newest snapshot as they are here (lastro backup %s)", v.Name, len(saved.Failed), v.Name)
	}
	v.unsaved = job.Err == "" && v.Newest == nil
	return nil
}

// lookTime is how long a look at a vault may take for a status.
const lookTime = 5 * time.Second

// lookForOthers looks into the vaults where there is nothing to tell of: an empty
// registry is a new one, or the one that is to be restored.
func (s *site) lookForOthers(ctx context.Context, st *status) error {
	if st.best() != nil {
		return nil
	}
	if empty, err := s.isEmpty(ctx); err != nil || !empty {
		return err
	}
	for i := range st.Vaults {
		found, err := s.found(ctx, st.Vaults[i].Name)
		if err != nil {
			st.problem("%v", err)
		}
		st.Vaults[i].Found = found
	}
	return nil
}

func (st *status) unsavedProblems() {
	for _, v := range st.Vaults {
		switch {
		case v.unsaved && v.Found != nil:
			st.problem("vault %s: has a backup, and this registry is empty: restore it before a backup is made from here (lastro restore --dry-run --from %s)", v.Name, v.Name)
		case v.unsaved:
			st.problem("vault %s: nothing was saved from here yet (lastro backup %s; lastro backup list %s says what is there)", v.Name, v.Name, v.Name)
		}
	}
}

// found is when the newest snapshot in a vault was made; nil: there is none.
func (s *site) found(ctx context.Context, name string) (*time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	v, err := s.vault(ctx, name)
	if err != nil {
		return nil, err
	}
	list, err := v.List(ctx)
	if errors.Is(err, vault.ErrNoVault) || err == nil && len(list.Snapshots) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return known(list.Snapshots[len(list.Snapshots)-1].Time), nil
}

// newest is when the newest snapshot was made that this registry knows of: it has saved
// it, was restored from it, or is served out of it.
func (s *site) newest(ctx context.Context, name string, saved time.Time, st *status) (*time.Time, error) {
	job, err := s.job(ctx, jobRestore+name)
	if err != nil {
		return nil, err
	}
	var from restoredFrom
	if len(job.Result) > 0 {
		if err := json.Unmarshal(job.Result, &from); err != nil {
			return nil, fmt.Errorf("status: the record of restore %s: %w", name, err)
		}
	}
	newest := latest(known(saved), from.Time)
	if st.FromVault != nil && st.FromVault.Vault == name {
		newest = latest(newest, st.FromVault.Time)
	}
	return newest, nil
}

func (s *site) verifyStatus(ctx context.Context, v *vaultStatus, st *status) error {
	job, err := s.job(ctx, jobVerify+v.Name)
	if err != nil {
		return err
	}
	v.Verified, v.OldestUnread = known(job.LastOK), known(readBackOf(job).Oldest)
	st.LastVerify = latest(st.LastVerify, job.LastOK)
	if v.OldestUnread != nil && (st.OldestInVaults == nil || v.OldestUnread.Before(*st.OldestInVaults)) {
		st.OldestInVaults = v.OldestUnread
	}
	v.doubt(st, "verify", job, readBackOf(job).Problems)
	return nil
}

func (s *site) drillStatus(ctx context.Context, v *vaultStatus, st *status) error {
	job, err := s.job(ctx, jobDrill+v.Name)
	if err != nil {
		return err
	}
	v.Drilled = known(job.LastOK)
	st.LastDrill = latest(st.LastDrill, job.LastOK)
	if last := drilledOf(job); last.RTOSeconds > 0 {
		v.RTOSeconds = new(last.RTOSeconds)
		st.RTOSeconds = new(max(last.RTOSeconds, *cmp.Or(st.RTOSeconds, new(int64))))
	}
	v.doubt(st, "drill", job, len(drilledOf(job).Problems))
	return nil
}

func (s *site) pruneStatus(ctx context.Context, v *vaultStatus, st *status) error {
	job, err := s.job(ctx, jobPrune+v.Name)
	if err == nil && job.Err != "" {
		st.problem("vault %s: the last prune ended with: %s", v.Name, job.Err)
	}
	return err
}

// doubt notes what a job found. A run that was cut short found nothing, and what the
// one before it found stays; an error before the newest backup does not count either,
// which the vault took.
func (v *vaultStatus) doubt(st *status, what string, job ledger.Job, problems int) {
	found := fmt.Sprintf("the last %s ended with: %s", what, job.Err)
	if problems > 0 {
		found = fmt.Sprintf("the last %s found %d problems (%s)", what, problems, mending(v.Name, v.Unread != ""))
	}
	short := job.Ended.Before(job.Started)
	late := v.Newest == nil || job.Ended.After(*v.Newest)
	if problems > 0 || job.Err != "" && !short && late {
		v.Doubts = append(v.Doubts, found)
	}
	if problems > 0 || job.Err != "" {
		st.problem("vault %s: %s", v.Name, found)
	}
}

// mending is what to run against problems in a vault.
func mending(name string, unread bool) string {
	if unread {
		return "lastro backup " + name + " sends again what is here"
	}
	return "lastro backup verify --all --repair " + name
}

// unread says why jobs that read a vault do not run here; "": they do.
func unread(b configs.Backup) string {
	if len(b.Encrypt) == 0 || b.Identity != "" {
		return ""
	}
	return "it is encrypted, and this machine has no identity to read it: what was sent there is only looked for by name and length; verify, drill and prune it where there is one"
}

// reads refuses to begin what cannot be done here, which then is no fault of the vault.
func (s *site) reads(v *vault.Vault) error {
	if unread(s.backupOf(v.Name)) != "" {
		return fmt.Errorf("vault %s at %s: %w", v.Name, v.Bucket, vault.ErrNoIdentity)
	}
	return nil
}

func (st *status) problem(format string, args ...any) {
	st.Problems = append(st.Problems, fmt.Sprintf(format, args...))
}

func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return new(t.UTC())
}

func latest(old *time.Time, t time.Time) *time.Time {
	if old != nil && old.After(t) {
		return old
	}
	return cmp.Or(known(t), old)
}

// best is the vault to restore from: one that nothing speaks against, and of several
// one with all repositories, and of these that with the newest backup. Nil: none is known.
func (st status) best() (best *vaultStatus) {
	for i := range st.Vaults {
		if v := &st.Vaults[i]; v.Newest != nil && (best == nil || v.better(best)) {
			best = v
		}
	}
	return best
}

func (v *vaultStatus) better(than *vaultStatus) bool {
	if sound := len(v.Doubts) == 0; sound != (len(than.Doubts) == 0) {
		return sound
	}
	if v.Part != than.Part {
		return than.Part
	}
	return v.Newest.After(*than.Newest)
}

// waiting is the vault that an empty registry is to be restored from: one that can be
// read from here, of several one with all repositories, and of these that with the
// newest snapshot. Nil: none is known.
func (st status) waiting() (best *vaultStatus) {
	for i := range st.Vaults {
		if v := &st.Vaults[i]; v.Found != nil && (best == nil || v.waitsBefore(best)) {
			best = v
		}
	}
	return best
}

func (v *vaultStatus) waitsBefore(other *vaultStatus) bool {
	if read := v.Unread == ""; read != (other.Unread == "") {
		return read
	}
	if v.Part != other.Part {
		return other.Part
	}
	return v.Found.After(*other.Found)
}

func (st status) restorable() string {
	best, waiting := st.best(), st.waiting()
	switch {
	case best == nil && waiting != nil && waiting.Unread == "":
		return "yes"
	case best == nil:
		return "no"
	case len(best.Doubts) > 0:
		return "in doubt"
	}
	return "yes"
}

// restore is the line about it.
func (st status) restore() string {
	best, waiting := st.best(), st.waiting()
	switch {
	case best != nil:
		return fmt.Sprintf("%s: from vault %s, the backup of %s (%s), %s", st.Restorable, best.Name, stamp(*best.Newest), st.ago(*best.Newest), strings.Join(st.proofs(best), ", "))
	case waiting == nil:
		return "no: nothing was saved from here yet"
	case waiting.Unread != "":
		return fmt.Sprintf("no: this registry is empty, and vault %s has a backup of %s (%s) that this machine cannot read: set backup[].identity", waiting.Name, stamp(*waiting.Found), st.ago(*waiting.Found))
	}
	return fmt.Sprintf("%s: this registry is empty, and vault %s has a backup of %s (%s): lastro restore --dry-run --from %s, or lastro serve --from-vault %s",
		st.Restorable, waiting.Name, stamp(*waiting.Found), st.ago(*waiting.Found), waiting.Name, waiting.Name)
}

func (st status) ago(t time.Time) string { return humanize.RelTime(t, st.now, "ago", "from now") }

// proofs are what is known of a vault.
func (st status) proofs(v *vaultStatus) []string {
	if len(v.Doubts) > 0 {
		return v.Doubts
	}
	var list []string
	if v.Part {
		list = append(list, "only what its include names")
	}
	switch {
	case v.Unread != "":
		list = append(list, "not read from here: "+v.Unread)
	case v.Verified != nil:
		list = append(list, "last verified "+st.ago(*v.Verified))
	default:
		list = append(list, "never verified")
	}
	if v.OldestUnread != nil {
		list = append(list, "all of it since "+stamp(*v.OldestUnread))
	}
	if v.Drilled != nil {
		list = append(list, "drilled "+st.ago(*v.Drilled))
	}
	if v.RTOSeconds != nil {
		list = append(list, fmt.Sprintf("in about %s", time.Duration(*v.RTOSeconds)*time.Second))
	}
	return list
}
