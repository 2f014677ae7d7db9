package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"lastro/cmd/lastro/internal/web"
	"lastro/configs"
	"lastro/mirror"
	"lastro/store"
	"lastro/store/ledger"
	"lastro/store/vault"
)

// The names under which the ledger records runs.
const (
	jobSync    = "sync "
	jobRetain  = "retain "
	jobCollect = "collect"
	jobBackup  = "backup "
	jobVerify  = "verify "
	jobPrune   = "prune "
	jobRestore = "restore "
	jobCheck   = "check"
)

// recording is how long the record of a run's end may take to write.
const recording = 5 * time.Second

// runResult is what a run leaves for the ledger and the metrics.
type runResult struct {
	record   any // nil: what the ledger has stays
	failed   int
	deferred int
	held     int
	bytes    int64
	requests int64
}

// record runs a job in its turn, and records its start and its end.
func (s *site) record(ctx context.Context, name string, fn func() (runResult, error)) error {
	return s.inTurn(ctx, []string{name}, func() error {
		began, err := s.begin(ctx, name)
		if err != nil {
			return err
		}
		result, failure := fn()
		return errors.Join(failure, s.end(ctx, began, result, failure))
	})
}

// inTurn runs fn when none of the jobs runs elsewhere. The jobs are taken in
// the order of the configuration, so two callers cannot wait for each other.
func (s *site) inTurn(ctx context.Context, jobs []string, fn func() error) error {
	for _, name := range jobs {
		done, err := s.turns.take(ctx, name)
		if err != nil {
			return err
		}
		defer done()
	}
	return fn()
}

// begin records that a run goes on.
func (s *site) begin(ctx context.Context, name string) (ledger.Job, error) {
	job, err := s.job(ctx, name)
	if err != nil {
		return job, err
	}
	job.Started = s.now()
	if err := s.ledger().RecordJob(ctx, job); err != nil {
		return job, err
	}
	s.witness.Began(webJob(name))
	return job, nil
}

// end records how a run ended, with a deadline of its own. A run that was cut
// short stays without an end, so that the daemon repeats it when it is back.
func (s *site) end(ctx context.Context, job ledger.Job, result runResult, failure error) error {
	final, cancel := context.WithTimeout(context.WithoutCancel(ctx), recording)
	defer cancel()
	ended := s.now()
	s.witness.Ended(web.Run{Job: webJob(job.Name), Started: job.Started, Ended: ended, Err: interruption(ctx, failure),
		Failed: result.failed, Deferred: result.deferred, Held: result.held, Bytes: result.bytes, Requests: result.requests})
	job.Err = ""
	switch {
	case failure == nil && result.failed+result.deferred == 0:
		job.Ended, job.LastOK = ended, ended
	case failure == nil:
		job.Ended = ended
	case ctx.Err() != nil:
		job.Err = "it was cut short: " + failure.Error()
	default:
		job.Ended, job.Err = ended, failure.Error()
	}
	if result.record != nil {
		var err error
		if job.Result, err = json.Marshal(result.record); err != nil {
			return err
		}
	}
	// A run reads much of the ledger that is not read again for long.
	defer s.ledger().Relax(final)
	return s.ledger().RecordJob(final, job)
}

// interruption tells the metrics that a run did not fail by itself.
func interruption(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Canceled
	}
	return err
}

// everyone is all the places that jobs share; rebuild takes them all.
const everyone = 1 << 20

// share waits while rebuild replaces the ledger's graph. Whatever changes the
// registry holds a share until it is done.
func (s *site) share(ctx context.Context) (release func(), err error) {
	if err := s.sharers.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	return func() { s.sharers.Release(1) }, nil
}

func (s *site) planSync(ctx context.Context, rules []mirror.Rule, o syncOptions) (mirror.Plan, error) {
	return s.engineFor(o, nil).Plan(ctx, rules)
}

// sync plans and applies the rules together, and records each rule's outcome.
func (s *site) sync(ctx context.Context, rules []mirror.Rule, o syncOptions, p mirror.Progress) (report mirror.Report, err error) {
	release, err := s.share(ctx)
	if err != nil {
		return report, err
	}
	defer release()
	var names []string
	for _, r := range rules {
		names = append(names, jobSync+r.Name)
	}
	err = s.inTurn(ctx, names, func() error {
		var began []ledger.Job
		for _, name := range names {
			job, err := s.begin(ctx, name)
			if err != nil {
				return err
			}
			began = append(began, job)
		}
		engine := s.engineFor(o, p)
		plan, err := engine.Plan(ctx, rules)
		if err == nil {
			report, err = engine.Apply(ctx, plan)
		}
		errs := []error{err}
		for i, job := range began {
			errs = append(errs, s.end(ctx, job, syncResultOf(rules[i], report), err))
		}
		return errors.Join(errs...)
	})
	return report, err
}

// syncResult is what the ledger keeps of a sync of one rule.
type syncResult struct {
	Images int `json:"images"`
	Behind int `json:"behind"` // images that could not be copied
	Copied int `json:"copied"`
}

// syncResultOf is one rule's part of a report. A report that has no part of
// the rule leaves nothing.
func syncResultOf(rule mirror.Rule, report mirror.Report) runResult {
	for _, r := range report.Rules {
		if r.Name != rule.Name {
			continue
		}
		res := syncResult{Images: r.Unchanged + len(r.Copied) + len(r.Held), Behind: len(r.Failed) + len(r.Deferred), Copied: len(r.Copied)}
		result := runResult{record: res, failed: len(r.Failed), deferred: len(r.Deferred), held: len(r.Held)}
		if len(report.Rules) == 1 { // rules that were synced together share what they fetched
			result.bytes, result.requests = report.TransferredBytes, report.UpstreamRequests
		}
		return result
	}
	return runResult{}
}

// savedSnapshot is what the ledger keeps of a backup.
type savedSnapshot struct {
	vault.Report
	Snapshots int       `json:"snapshots"` // in the vault afterwards
	Newest    time.Time `json:"newest"`
}

func (s savedSnapshot) web(name string) web.Vault {
	return web.Vault{Name: name, Snapshots: s.Snapshots, Newest: s.Newest, Locked: s.LockedUntil}
}

// backup refuses to save an empty registry over one that was not, unless told to.
func (s *site) backup(ctx context.Context, name string, empty bool, p mirror.Progress) (report vault.Report, err error) {
	release, err := s.share(ctx)
	if err != nil {
		return report, err
	}
	defer release()
	err = s.record(ctx, jobBackup+name, func() (runResult, error) {
		v, err := s.vault(ctx, name)
		if err != nil {
			return runResult{}, err
		}
		if !empty {
			if err := s.refuseEmpty(ctx, v); err != nil {
				return runResult{}, err
			}
		}
		// What it reads is not freed meanwhile.
		defer s.store.Hold()()
		if report, err = v.Backup(ctx, s.store, "lastro", p); err != nil {
			return runResult{}, err
		}
		all, err := v.List(ctx)
		saved := savedSnapshot{Report: report, Snapshots: len(all.Snapshots), Newest: s.now()}
		s.witness.Snapshot(saved.web(name))
		return runResult{record: saved, failed: len(report.Failed), bytes: report.NewBytes}, err
	})
	return report, err
}

// emptyError refuses a backup of an empty registry that would hide one with images.
type emptyError struct {
	vault  string
	newest time.Time
	images int
}

func (e *emptyError) Error() string {
	return fmt.Sprintf("backup: this registry is empty, and vault %s has a backup of %s with %d images, which a new one would hide: if the registry was lost, run lastro restore first; if it is to be empty, run lastro backup --allow-empty %s",
		e.vault, stamp(e.newest), e.images, e.vault)
}

// refuseEmpty looks at the newest snapshot of this registry, or of any.
func (s *site) refuseEmpty(ctx context.Context, v *vault.Vault) error {
	if empty, err := s.isEmpty(ctx); err != nil || !empty {
		return err
	}
	own, err := s.ledger().ID(ctx)
	if err != nil {
		return err
	}
	list, err := v.List(ctx)
	if errors.Is(err, vault.ErrNoVault) {
		return nil
	}
	if err != nil {
		return err
	}
	var newest vault.Listed
	for _, l := range list.Snapshots {
		if l.Store == own || newest.Store != own {
			newest = l
		}
	}
	if newest.Images > 0 {
		return &emptyError{v.Name, newest.Time, newest.Images}
	}
	return nil
}

// isEmpty reports whether the registry has no repository.
func (s *site) isEmpty(ctx context.Context) (bool, error) {
	for _, err := range s.ledger().Repositories(ctx) {
		return false, err
	}
	return true, nil
}

// problemsError is how many problems a verification found.
type problemsError int

func (n problemsError) Error() string { return fmt.Sprintf("%d problems", int(n)) }

func (s *site) restore(ctx context.Context, v *vault.Vault, o vault.RestoreOptions, p mirror.Progress) (vault.Restored, error) {
	release, err := s.share(ctx)
	if err != nil {
		return vault.Restored{}, err
	}
	defer release()
	defer s.store.Hold()()
	report, err := v.Restore(ctx, s.store, o, p)
	return report, errors.Join(err, s.noteRestored(ctx, v.Name, report))
}

// restoredFrom is what the ledger keeps of the last restore from a vault.
type restoredFrom struct {
	Snapshot string    `json:"snapshot"`
	Time     time.Time `json:"time"` // of the snapshot
}

// noteRestored remembers that a snapshot is there that has what is here.
func (s *site) noteRestored(ctx context.Context, name string, r vault.Restored) error {
	if r.Time.IsZero() {
		return nil
	}
	result, err := json.Marshal(restoredFrom{r.Snapshot, r.Time})
	if err != nil {
		return err
	}
	now := s.now()
	return s.ledger().RecordJob(ctx, ledger.Job{Name: jobRestore + name, Started: now, Ended: now, LastOK: now, Result: result})
}

// rebuild waits until nothing changes the registry.
func (s *site) rebuild(ctx context.Context) (store.Rebuilt, error) {
	if err := s.sharers.Acquire(ctx, everyone); err != nil {
		return store.Rebuilt{}, err
	}
	defer s.sharers.Release(everyone)
	return s.store.Rebuild(ctx)
}

// oneVault opens the vault that a person named, or the only one there is.
func (s *site) oneVault(ctx context.Context, args []string) (*vault.Vault, error) {
	names, err := vaultNames(s.cfg().Backup, args)
	if err != nil {
		return nil, err
	}
	if len(names) > 1 {
		return nil, usageError{fmt.Errorf("the configuration has several vaults: name one of %s", strings.Join(names, ", "))}
	}
	return s.vault(ctx, names[0])
}

func vaultNames(all []configs.Backup, args []string) ([]string, error) {
	var names []string
	for _, b := range all {
		if len(args) == 0 || args[0] == b.Name {
			names = append(names, b.Name)
		}
	}
	switch {
	case len(all) == 0:
		return nil, usageError{errors.New("the configuration has no vault: add one under backup: (to: file:///path or s3://bucket/prefix)")}
	case len(names) == 0:
		return nil, usageError{fmt.Errorf("no vault is named %q in the configuration", args[0])}
	}
	return names, nil
}
