package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"lastro/cmd/lastro/internal/schedule"
	"lastro/cmd/lastro/internal/web"
	"lastro/configs"
	"lastro/store/ledger"
	"lastro/store/serve/push"
)

// adminServer shows the site on the admin address.
func (d *daemon) adminServer(ctx context.Context) (*web.Server, error) {
	server := web.New(web.Options{
		Now: d.now, Log: d.log, Version: thisVersion().Version, Data: d.site.cfg().Data,
		Checks: map[string]func(context.Context) error{"ledger": d.site.checkLedger, "registry": d.site.checkRegistry},
		Status: func(ctx context.Context) (any, error) { return d.site.status(ctx) },
		Stock:  d.stock, Upstreams: d.site.upstreamsNow, Front: d.front.now,
	})
	if err := server.Register(push.Metrics()); err != nil {
		return nil, fmt.Errorf("serve: metrics of the registry: %w", err)
	}
	return server, d.announce(ctx, server, d.site.cfg())
}

// announce tells the admin server what the configuration has, and what the
// ledger remembers of it.
func (d *daemon) announce(ctx context.Context, server *web.Server, cfg *configs.Config) error {
	server.Jobs(webJobs(cfg))
	var vaults []web.Vault
	jobs, err := d.site.ledger().Jobs(ctx)
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	for _, job := range jobs {
		server.Succeeded(webJob(job.Name), job.LastOK)
	}
	for _, b := range cfg.Backup {
		job, err := d.site.job(ctx, jobBackup+b.Name)
		if err != nil {
			return fmt.Errorf("serve: %w", err)
		}
		var saved savedSnapshot
		if len(job.Result) > 0 && json.Unmarshal(job.Result, &saved) == nil {
			vaults = append(vaults, saved.web(b.Name))
		}
		if err := d.announcePrune(ctx, server, b.Name, vaults, job); err != nil {
			return err
		}
		if job, err = d.site.job(ctx, jobVerify+b.Name); err != nil {
			return fmt.Errorf("serve: %w", err)
		}
		if known := readBackOf(job); !known.Oldest.IsZero() {
			server.ReadBack(known.web(b.Name))
		}
		if job, err = d.site.job(ctx, jobDrill+b.Name); err != nil {
			return fmt.Errorf("serve: %w", err)
		}
		if last := drilledOf(job); last.Vault != "" {
			shown := drilledWeb(last)
			shown.Good = job.LastOK
			server.Drilled(shown)
		}
	}
	server.Vaults(vaults)
	return d.announceCheck(ctx, server, cfg)
}

// announcePrune tells what the last prune left. It knows how many snapshots there are
// if there was no backup since.
func (d *daemon) announcePrune(ctx context.Context, server *web.Server, name string, vaults []web.Vault, backup ledger.Job) error {
	job, err := d.site.job(ctx, jobPrune+name)
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	var last tidied
	if len(job.Result) == 0 || json.Unmarshal(job.Result, &last) != nil {
		return nil
	}
	if n := len(vaults); last.Snapshots > 0 && n > 0 && vaults[n-1].Name == name && job.Started.After(backup.Started) {
		vaults[n-1].Snapshots = last.Snapshots
	}
	gauges := webPrune(last.Pruned)
	gauges.Vault, gauges.Removed, gauges.FreedBytes = name, 0, 0
	server.Pruned(gauges)
	return nil
}

// announceCheck tells what the last check has found. Where none is to run, what was
// found once says nothing any more.
func (d *daemon) announceCheck(ctx context.Context, server *web.Server, cfg *configs.Config) error {
	if cfg.Check.Every.Never() {
		server.Checked(web.Check{}, 0, 0)
		return nil
	}
	job, err := d.site.job(ctx, jobCheck)
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	server.Checked(rotationOf(job).web(job.LastOK), 0, 0)
	return nil
}

func webJobs(cfg *configs.Config) []web.Job {
	jobs := []web.Job{webJob(jobCheckLedger), webJob(jobPurge), webJob(jobCollect)}
	for _, m := range cfg.Mirror {
		jobs = append(jobs, webJob(jobSync+m.Rule.Name))
	}
	for _, r := range cfg.Retention {
		jobs = append(jobs, webJob(jobRetain+r.Match))
	}
	for _, b := range cfg.Backup {
		jobs = append(jobs, webJob(jobBackup+b.Name), webJob(jobVerify+b.Name), webJob(jobDrill+b.Name), webJob(jobRehydrate+b.Name))
		if !b.Keep.KeepsAll() {
			jobs = append(jobs, webJob(jobPrune+b.Name))
		}
	}
	if !cfg.Check.Every.Never() {
		jobs = append(jobs, webJob(jobCheck))
	}
	return jobs
}

// webJob is a job's name in the two parts that metrics count it under.
func webJob(name string) web.Job {
	kind, of, _ := strings.Cut(name, " ")
	return web.Job{Kind: kind, Name: cmp.Or(of, kind)}
}

// stock counts for the metrics.
func (d *daemon) stock(ctx context.Context) (web.Stock, error) {
	n, err := d.site.store.Stock(ctx)
	return web.Stock{Repositories: n.Repositories, Tags: n.Tags, Images: n.Manifests, Blobs: n.Blobs, Bytes: n.Bytes}, err
}

func (s *site) checkLedger(ctx context.Context) error {
	_, err := s.ledger().LastSeq(ctx)
	return err
}

func (s *site) checkRegistry(ctx context.Context) error {
	for _, err := range s.store.Repositories(ctx) {
		return err
	}
	return nil
}

func (d *daemon) newScheduler() *schedule.Scheduler {
	return schedule.New(schedule.Options{Now: d.now, Records: records{d.site}, Log: d.log, Drain: drain}, d.jobs(d.site.cfg()))
}

// records lets the scheduler remember by the ledger. Whoever runs a job, the
// scheduler or a person, it is the site that records the run.
type records struct{ site *site }

// Last is when the job ran last. A run that was cut short is to be done again
// at once, so it is not told.
func (r records) Last(ctx context.Context, name string) (time.Time, error) {
	job, err := r.site.job(ctx, name)
	if err != nil || job.Ended.Before(job.Started) {
		return time.Time{}, err
	}
	return job.Started, nil
}

// Record has nothing to do: see records.
func (records) Record(context.Context, schedule.Record) error { return nil }

// witness hears of the runs of jobs, for the metrics. *web.Server is one.
type witness interface {
	Began(web.Job)
	Ended(web.Run)
	Snapshot(web.Vault)
	ReadBack(web.ReadBack)
	Drilled(web.Drill)
	Pruned(web.Prune)
	Left(vault string, snapshots int)
	Checked(last web.Check, bytes int64, repaired int)
	Collected(web.Collect)
}

// unseen is the witness of a site that no daemon shows.
type unseen struct{}

func (unseen) Began(web.Job)                 {}
func (unseen) Ended(web.Run)                 {}
func (unseen) Snapshot(web.Vault)            {}
func (unseen) ReadBack(web.ReadBack)         {}
func (unseen) Drilled(web.Drill)             {}
func (unseen) Pruned(web.Prune)              {}
func (unseen) Left(string, int)              {}
func (unseen) Checked(web.Check, int64, int) {}
func (unseen) Collected(web.Collect)         {}

// joinClose closes the site after whatever ended.
func joinClose(err error, s *site) error { return errors.Join(err, s.Close()) }
