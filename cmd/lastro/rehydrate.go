package main

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/cmd/lastro/internal/web"
	"lastro/store/vault"
	"lastro/store/vault/layout"
	"lastro/store/vault/pull"
	"lastro/store/vault/restore"
)

const (
	jobRehydrate = "rehydrate "
	// told is how often the log says how far it is.
	told = 30 * time.Second
	// firstWait and longestWait are how long it waits for a vault that does not answer.
	firstWait, longestWait = time.Second, time.Minute
)

// rehydrateResult is what the ledger keeps of a rehydration.
type rehydrateResult struct {
	Snapshot string `json:"snapshot"`
	Done     bool   `json:"done"`
	Images   int    `json:"images"`
	Failed   int    `json:"failed"`
}

// rehydrated is what the ledger knows of the rehydration that is asked for; zero
// when there was none, or none of this snapshot.
func (s *site) rehydrated(ctx context.Context, f fromVault) (last rehydrateResult, err error) {
	if !f.rehydrate {
		return last, nil
	}
	job, err := s.job(ctx, jobRehydrate+f.name)
	if err != nil || len(job.Result) == 0 {
		return last, err
	}
	if err := json.Unmarshal(job.Result, &last); err != nil {
		return last, err
	}
	other := f.snapshot != "" && f.snapshot != "latest" && !strings.HasPrefix(last.Snapshot, strings.ToUpper(f.snapshot))
	if other || f.snapshot == "latest" || f.asOf != "" {
		return rehydrateResult{}, nil
	}
	return last, nil
}

// rehydration is how far one is.
type rehydration struct {
	images int // of the snapshot
	done   atomic.Int64
	bytes  atomic.Int64
	tell   func(web.Rehydrate)
}

func (p *rehydration) now() web.Rehydrate {
	return web.Rehydrate{Images: p.images, Restored: int(p.done.Load()), Bytes: p.bytes.Load()}
}

// Plan, Bytes and Done make it a mirror.Progress.
func (p *rehydration) Plan(int, int64) {}

// Bytes counts what comes from the vault.
func (p *rehydration) Bytes(n int64) {
	p.bytes.Add(n)
	p.tell(p.now())
}

// Done is of contents, which say less than images do.
func (p *rehydration) Done(string, error) {}

// rehydrate restores the snapshot, however often the vault does not answer, and
// makes the daemon one like any other.
func (d *daemon) rehydrate(ctx context.Context, v *vaultServed) error {
	v.progress.tell = d.admin.Rehydrated
	d.admin.Rehydrated(v.progress.now())
	d.log.Info("rehydrating", "vault", v.vault.Name, "snapshot", v.snapshot.Record.ID, "images", v.snapshot.Record.Images, "bytes", v.snapshot.Record.Bytes)
	for wait := firstWait; ; wait = min(2*wait, longestWait) {
		before := v.progress.done.Load()
		report, err := d.site.rehydrate(ctx, v)
		if err == nil {
			return d.turn(v, report)
		}
		if ctx.Err() != nil {
			return nil
		}
		if v.progress.done.Load() > before {
			wait = firstWait
		}
		d.log.Warn("rehydration goes on later", "vault", v.vault.Name, "in", wait, "err", err)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
	}
}

// turn leaves the vault: from here on what is here is served, and jobs run.
func (d *daemon) turn(v *vaultServed, report vault.Restored) error {
	for _, f := range report.Failed {
		d.log.Warn("image not rehydrated", "vault", v.vault.Name, "repo", f.Repo, "tag", f.Tag, "digest", f.Digest, "err", f.Error)
	}
	last := v.progress.now()
	last.Done, last.Restored, last.Failed = true, report.Images, len(report.Failed)
	d.admin.Rehydrated(last)
	d.site.elsewhere.vault.Store(nil)
	close(d.turned)
	d.log.Info("rehydrated: jobs run from now on", "vault", v.vault.Name, "snapshot", report.Snapshot, "images", report.Images, "failed", len(report.Failed), "bytes", v.progress.bytes.Load())
	return nil
}

// rehydrate restores images, those first that are asked for, and then all of the
// snapshot with its history.
func (s *site) rehydrate(ctx context.Context, v *vaultServed) (report vault.Restored, err error) {
	release, err := s.share(ctx)
	if err != nil {
		return report, err
	}
	defer release()
	name := jobRehydrate + v.vault.Name
	if err := s.noteSnapshot(ctx, name, v); err != nil {
		return report, err
	}
	defer s.store.Hold()()
	err = s.record(ctx, name, func() (runResult, error) {
		if err := s.ahead(ctx, v); err != nil {
			return runResult{}, err
		}
		report, err = v.vault.Restore(ctx, s.store, vault.RestoreOptions{Snapshot: v.snapshot.Record.ID, By: "rehydrate"}, &v.progress)
		if err != nil {
			return runResult{}, err
		}
		if err := s.noteRestored(ctx, v.vault.Name, report); err != nil {
			return runResult{}, err
		}
		saved := rehydrateResult{Snapshot: report.Snapshot, Done: true, Images: report.Images, Failed: len(report.Failed)}
		return runResult{record: saved, failed: len(report.Failed), bytes: v.progress.bytes.Load()}, nil
	})
	return report, err
}

// noteSnapshot remembers which snapshot it is, so that a restart goes on with it.
func (s *site) noteSnapshot(ctx context.Context, name string, v *vaultServed) error {
	job, err := s.job(ctx, name)
	if err != nil {
		return err
	}
	if job.Result, err = json.Marshal(rehydrateResult{Snapshot: v.snapshot.Record.ID}); err != nil {
		return err
	}
	return s.ledger().RecordJob(ctx, job)
}

// aheadOf is one rehydration's way through the images.
type aheadOf struct {
	*vaultServed
	ahead  *restore.Ahead
	log    func()
	left   []ocispec.Descriptor // repositories that are not done, the wanted first
	newest map[string]map[string]time.Time
	tried  map[pull.Name]bool // that clients asked for
}

// ahead restores what clients ask for as soon as they do, most wanted first, and
// else the repositories with the newest tags.
func (s *site) ahead(ctx context.Context, v *vaultServed) error {
	a := &aheadOf{vaultServed: v, tried: map[pull.Name]bool{}}
	a.ahead = restore.NewAhead(v.vault.Catalog, s.store, v.snapshot.Record, "rehydrate", &v.progress)
	a.log = everyNow(s.now, func() {
		s.log.Info("rehydrating", "vault", v.vault.Name, "done", v.progress.done.Load(), "images", v.progress.images, "bytes", v.progress.bytes.Load())
	})
	a.left = slices.DeleteFunc(slices.Clone(v.snapshot.Root.Manifests), func(d ocispec.Descriptor) bool { return !v.snapshot.Has(repositoryOf(d)) })
	if err := a.wanted(ctx); err != nil {
		return err
	}
	var err error
	if a.newest, err = a.ahead.Newest(ctx); err != nil {
		return err
	}
	slices.SortStableFunc(a.left, func(x, y ocispec.Descriptor) int {
		return latestOf(a.newest[repositoryOf(y)]).Compare(latestOf(a.newest[repositoryOf(x)]))
	})
	for len(a.left) > 0 {
		if err := a.wanted(ctx); err != nil {
			return err
		}
		left, err := a.restore(ctx, a.left[0], nil, a.isWanted)
		if err != nil {
			return err
		}
		if !left {
			a.left = a.left[1:]
		}
	}
	return nil
}

func repositoryOf(d ocispec.Descriptor) string { return d.Annotations[layout.AnnotationRepository] }

func latestOf(tags map[string]time.Time) (latest time.Time) {
	for _, t := range tags {
		if t.After(latest) {
			latest = t
		}
	}
	return latest
}

// everyNow lets fn be called once in a while.
func everyNow(now func() time.Time, fn func()) func() {
	last := now()
	return func() {
		if now().Sub(last) >= told {
			last = now()
			fn()
		}
	}
}

func (a *aheadOf) restore(ctx context.Context, repo ocispec.Descriptor, tags []string, leave func() bool) (bool, error) {
	return a.ahead.Repository(ctx, repo, restore.Order{Tags: tags, Newest: a.newest[repositoryOf(repo)], Leave: leave, After: func(string, string) {
		a.progress.done.Store(int64(a.ahead.Images()))
		a.progress.tell(a.progress.now())
		a.log()
	}})
}

// asked are the tags that clients asked for and that were not restored for them
// yet, the most wanted first.
func (a *aheadOf) asked() []pull.Name {
	pulls := a.snapshot.Pulls()
	var names []pull.Name
	for n := range pulls {
		if !a.tried[n] && !strings.Contains(n.Tag, ":") {
			names = append(names, n)
		}
	}
	slices.SortFunc(names, func(x, y pull.Name) int {
		return cmp.Or(cmp.Compare(pulls[y], pulls[x]), strings.Compare(x.Repo, y.Repo), strings.Compare(x.Tag, y.Tag))
	})
	return names
}

func (a *aheadOf) isWanted() bool { return len(a.asked()) > 0 }

// wanted restores what clients asked for.
func (a *aheadOf) wanted(ctx context.Context) error {
	for {
		names := a.asked()
		if len(names) == 0 {
			return nil
		}
		n := names[0]
		if i := slices.IndexFunc(a.left, func(d ocispec.Descriptor) bool { return repositoryOf(d) == n.Repo }); i >= 0 {
			if _, err := a.restore(ctx, a.left[i], []string{n.Tag}, func() bool { return false }); err != nil {
				return err
			}
		}
		a.tried[n] = true
	}
}
