package main

import (
	"context"
	crand "crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"lastro/cmd/lastro/internal/web"
	"lastro/configs"
	"lastro/mirror"
	"lastro/store"
	"lastro/store/ledger"
	"lastro/store/serve"
	"lastro/store/vault"
)

const jobDrill = "drill "

// scratch is a registry below the data folder that is thrown away.
type scratch struct {
	*store.Store
	http.Handler
	dir string
}

func (s *site) scratchDir() string { return filepath.Join(s.cfg().Data, "drill") }

// cleanScratch removes what a drill left that was killed.
func (s *site) cleanScratch() error {
	if err := os.RemoveAll(s.scratchDir()); err != nil {
		return fmt.Errorf("drill: remove what an earlier one left: %w", err)
	}
	return nil
}

// openScratch makes one where nothing is. What an earlier one left is removed.
func (s *site) openScratch() (*scratch, error) {
	if err := s.cleanScratch(); err != nil {
		return nil, err
	}
	dir := s.scratchDir()
	st, err := store.Open(dir, store.Options{Now: s.now})
	if err != nil {
		return nil, fmt.Errorf("drill: %w", err)
	}
	handler, err := serve.New(st, serve.Options{Now: s.now})
	if err != nil {
		return nil, errors.Join(err, st.Close(), os.RemoveAll(dir))
	}
	return &scratch{st, handler, dir}, nil
}

// Close removes it.
func (s *scratch) Close() error { return errors.Join(s.Store.Close(), os.RemoveAll(s.dir)) }

// drill proves that a restore works. One goes on at a time.
func (s *site) drill(ctx context.Context, v *vault.Vault, o vault.DrillOptions, p mirror.Progress) (report vault.Drilled, err error) {
	if err := s.reads(v); err != nil {
		return report, err
	}
	if err := named(ctx, v, o.Snapshot); err != nil {
		return report, fmt.Errorf("drill: vault %s: %w", v.Name, err)
	}
	if err := s.drills.Acquire(ctx, 1); err != nil {
		return report, err
	}
	defer s.drills.Release(1)
	seed := [32]byte{}
	_, _ = crand.Read(seed[:]) // it never fails
	o.Rand = rand.New(rand.NewChaCha8(seed))
	err = s.record(ctx, jobDrill+v.Name, func() (runResult, error) {
		empty, err := s.openScratch()
		if err != nil {
			return runResult{}, err
		}
		report, err = v.Drill(ctx, empty, o, p)
		if err = errors.Join(err, empty.Close()); err != nil {
			return runResult{}, err
		}
		s.witness.Drilled(drilledWeb(report))
		result := runResult{record: report, failed: len(report.Problems), bytes: report.Restored.Bytes}
		if n := len(report.Problems); n > 0 {
			return result, problemsError(n)
		}
		return result, nil
	})
	if _, ok := errors.AsType[problemsError](err); ok {
		err = nil // they are the result, and printed as such
	}
	return report, err
}

// drillOf is what the configuration says of drills with a vault.
func (s *site) drillOf(name string) configs.Drill { return s.backupOf(name).Drill }

// backupOf is what the configuration says of a vault.
func (s *site) backupOf(name string) (found configs.Backup) {
	for _, b := range s.cfg().Backup {
		if b.Name == name {
			found = b
		}
	}
	return found
}

// drilledOf is what a job's record says of the last drill. What does not read is
// forgotten.
func drilledOf(job ledger.Job) (r vault.Drilled) {
	if json.Unmarshal(job.Result, &r) != nil {
		return vault.Drilled{}
	}
	return r
}

func drilledWeb(r vault.Drilled) web.Drill {
	d := web.Drill{Name: r.Vault, Problems: len(r.Problems), RTO: time.Duration(r.RTOSeconds) * time.Second}
	if r.OK {
		d.Good = r.Time
	}
	return d
}

// scheduledDrill is a drill by itself.
func (d *daemon) scheduledDrill(ctx context.Context, b configs.Backup) error {
	v, err := d.site.vault(ctx, b.Name)
	if err != nil {
		return err
	}
	if err := d.afterFirst(ctx, v); err != nil {
		return err
	}
	report, err := d.site.drill(ctx, v, vault.DrillOptions{Images: b.Drill.Images}, nil)
	if err != nil {
		return err
	}
	for _, p := range report.Problems {
		d.log.Error("problem in a drill", "job", jobDrill+b.Name, "snapshot", report.Snapshot, "image", p.Image, "digest", p.Digest, "err", p.Error)
	}
	d.log.Info("drill done", "job", jobDrill+b.Name, "snapshot", report.Snapshot, "repository", report.Repository, "images", len(report.Images),
		"tags", report.Tags, "bytes", report.Bytes, "rto_seconds", report.RTOSeconds, "problems", len(report.Problems))
	if n := len(report.Problems); n > 0 {
		return fmt.Errorf("%d problems: a restore would not bring everything back: run lastro backup verify --all %s", n, b.Name)
	}
	return nil
}
