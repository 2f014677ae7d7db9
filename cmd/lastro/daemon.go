package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"lastro/cmd/lastro/internal/schedule"
	"lastro/configs"
	"lastro/mirror"
	"lastro/store/vault"
)

// jobs lists what the daemon does by itself, and when. Retention is one job a
// rule, because each has its own schedule.
func (d *daemon) jobs(cfg *configs.Config) []schedule.Job {
	jobs := []schedule.Job{d.purgeJob()}
	for _, m := range cfg.Mirror {
		if m.Every.Never() {
			continue
		}
		jobs = append(jobs, schedule.Job{Name: jobSync + m.Rule.Name, Next: m.Every.Next, Run: func(ctx context.Context) error {
			return d.scheduledSync(ctx, m.Rule)
		}})
	}
	for _, r := range cfg.Retention {
		if r.Every.Never() {
			continue
		}
		jobs = append(jobs, schedule.Job{Name: jobRetain + r.Match, Next: r.Every.Next, Run: func(ctx context.Context) error {
			return d.scheduledRetain(ctx, r.Match)
		}})
	}
	for _, b := range cfg.Backup {
		if b.Every.Never() {
			continue
		}
		jobs = append(jobs, schedule.Job{Name: jobBackup + b.Name, Next: b.Every.Next, Run: func(ctx context.Context) error {
			return d.scheduledBackup(ctx, b)
		}})
	}
	for _, b := range cfg.Backup {
		if b.Verify.Every.Never() {
			continue
		}
		jobs = append(jobs, schedule.Job{Name: jobVerify + b.Name, Next: b.Verify.Every.Next, Run: func(ctx context.Context) error {
			return d.scheduledVerify(ctx, b)
		}})
	}
	for _, b := range cfg.Backup {
		if b.Drill.Every.Never() || unread(b) != "" {
			continue
		}
		jobs = append(jobs, schedule.Job{Name: jobDrill + b.Name, Next: b.Drill.Every.Next, Run: func(ctx context.Context) error {
			return d.scheduledDrill(ctx, b)
		}})
	}
	if !cfg.Collect.Every.Never() {
		jobs = append(jobs, schedule.Job{Name: jobCollect, Next: cfg.Collect.Every.Next, Run: d.scheduledCollect})
	}
	if !cfg.Check.Every.Never() {
		jobs = append(jobs, schedule.Job{Name: jobCheck, Next: cfg.Check.Every.Next, Run: d.scheduledCheck})
	}
	return append(jobs, schedule.Job{Name: jobCheckLedger, Next: nightly(whoami(cfg.Data)), Run: d.scheduledLedgerCheck})
}

func (d *daemon) scheduledSync(ctx context.Context, rule mirror.Rule) error {
	report, err := d.site.sync(ctx, []mirror.Rule{rule}, syncOptions{}, nil)
	if err != nil {
		return err
	}
	for _, r := range report.Rules {
		for _, f := range r.Failed {
			d.log.Warn("image not mirrored", "job", jobSync+rule.Name, "repo", f.Repo, "tag", f.Tag, "err", f.Error)
		}
	}
	var failure error
	if n := report.Failed(); n > 0 {
		failure = fmt.Errorf("%d images failed", n)
	}
	if n, until := report.Deferred(); n > 0 {
		d.log.Info("images wait for an upstream that limits requests", "job", jobSync+rule.Name, "images", n, "until", until)
		return &schedule.AgainError{At: until, Err: cmp.Or(failure, fmt.Errorf("%d images wait for their upstream", n))}
	}
	return failure
}

func (d *daemon) scheduledRetain(ctx context.Context, rule string) error {
	out, err := d.site.retain(ctx, retainOptions{rule: rule})
	if err != nil {
		return err
	}
	for _, decision := range out.Decisions {
		if decision.Remove {
			d.log.Info("tag removed", "job", jobRetain+rule, "repo", decision.Repo, "tag", decision.Tag, "digest", decision.Digest, "reasons", decision.Reasons)
		}
	}
	for _, refused := range out.Refused {
		d.log.Warn("retention refused", "job", jobRetain+rule, "repo", refused.Repo, "err", refused.Error)
	}
	if n := len(out.Refused); n > 0 {
		return fmt.Errorf("refused in %d repositories", n)
	}
	return nil
}

func (d *daemon) scheduledCollect(ctx context.Context) error {
	out, err := d.site.collect(ctx, false)
	if err != nil {
		return err
	}
	if out.Condemned+out.Deleted > 0 {
		d.log.Info("collect done", "job", jobCollect, "condemned", out.Condemned, "deleted", out.Deleted, "bytes", out.FreedBytes, "waiting", out.Waiting)
	}
	if n := out.KeptByDoubt; n > 0 {
		return fmt.Errorf("%d kept because of a doubt, the first: %s", n, out.Problems[0])
	}
	return nil
}

// scheduledBackup lets old snapshots go afterwards, when this one is whole.
func (d *daemon) scheduledBackup(ctx context.Context, b configs.Backup) error {
	name := b.Name
	report, err := d.site.backup(ctx, name, false, nil)
	if _, empty := errors.AsType[*emptyError](err); empty {
		return &schedule.AgainError{At: d.now().Add(firstLook), Err: err}
	}
	if err != nil {
		return err
	}
	d.log.Info("backup done", "job", jobBackup+name, "snapshot", report.Snapshot, "images", report.Images, "new_blobs", report.NewBlobs, "bytes", report.NewBytes)
	if n := len(report.Failed); n > 0 {
		return fmt.Errorf("%d images are not in the snapshot as they are here", n)
	}
	d.tidy(ctx, b)
	return nil
}

// tidy does what keep says. That it fails, or is refused, does not make the backup
// fail: it is in the log, in the status and in the metrics.
func (d *daemon) tidy(ctx context.Context, b configs.Backup) {
	if b.Keep.KeepsAll() {
		return
	}
	if err := d.site.tidy(ctx, b.Name); err != nil {
		d.log.Error("old snapshots did not go", "job", jobPrune+b.Name, "err", err)
	}
}

// firstLook is how often what needs a snapshot looks for the first one, and a backup
// for the first image.
const firstLook = 10 * time.Minute

var errNoBackup = errors.New("there was no backup yet")

// afterFirst is an AgainError while a vault has no snapshot. Other errors are for the
// job itself to meet, and to record.
func (d *daemon) afterFirst(ctx context.Context, v *vault.Vault) error {
	h, err := v.Heads(ctx)
	if errors.Is(err, vault.ErrNoVault) || errors.Is(err, vault.ErrEmpty) || err == nil && len(h.Snapshots) == 0 {
		return &schedule.AgainError{At: d.now().Add(firstLook), Err: errNoBackup}
	}
	return nil
}

// scheduledVerify reads the part of a vault that is longest unread. Of one that it
// cannot read it looks for what it sent there.
func (d *daemon) scheduledVerify(ctx context.Context, b configs.Backup) error {
	v, err := d.site.vault(ctx, b.Name)
	if err != nil {
		return err
	}
	if err := d.afterFirst(ctx, v); err != nil {
		return err
	}
	o := vault.VerifyOptions{All: true, Parts: b.Verify.Part, Repair: d.site.repairs(b.Name)}
	if unread(b) != "" {
		o = vault.VerifyOptions{List: true}
	}
	all, err := d.site.verifyAll(ctx, v, o, nil)
	if err != nil {
		return err
	}
	for _, s := range all.Snapshots {
		for _, p := range s.Problems {
			if p.Repaired {
				continue // and said when it was
			}
			d.log.Error("problem in a vault", "job", jobVerify+b.Name, "snapshot", s.Snapshot, "digest", p.Digest, "kind", p.Kind, "images", p.Images, "err", p.Error, "unrepaired", p.Unrepaired, "next", p.Next)
		}
	}
	problems, found := counts(all)
	d.log.Info("verify done", "job", jobVerify+b.Name, "part", all.Part, "parts", all.Parts, "snapshots", len(all.Snapshots), "requests", all.Requests, "problems", problems, "repaired", found-problems)
	if problems > 0 {
		return fmt.Errorf("%d problems are left: %s", problems, mending(b.Name, unread(b) != ""))
	}
	return nil
}
