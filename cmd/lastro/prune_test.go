package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lastro/cmd/lastro/internal/web"
	"lastro/configs"
	"lastro/store/vault"
)

// keptBench is a bench that has made so many snapshots, of which keep leaves one.
func keptBench(t *testing.T, snapshots int, keep string) *bench {
	t.Helper()
	b, _ := sampleBench(t)
	vaultDir := filepath.Join(t.TempDir(), "vault")
	text, err := os.ReadFile(b.config())
	if err != nil {
		t.Fatal(err)
	}
	add := "  - {name: old, to: 'file://" + vaultDir + "', every: 1h, keep: " + keep + ", verify: {every: never}, drill: {every: never}}\ncheck: {every: never}\n"
	if err := os.WriteFile(b.config(), append(text, add...), 0o600); err != nil {
		t.Fatal(err)
	}
	b.run(t, exitDone, "sync")
	s := b.opened(t)
	defer s.Close()
	v, err := s.vault(t.Context(), "old")
	if err != nil {
		t.Fatal(err)
	}
	for range snapshots { // not by the verb: the daemon is to find that it never ran
		if _, err := v.Backup(t.Context(), s.store, "test", nil); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func TestTheDaemonLetsOldSnapshotsGoAfterABackup(t *testing.T) {
	b := keptBench(t, 1, "{last: 1}")
	daemon := start(t, b.command(t, "serve", "--log-level", "info"))
	admin := daemon.wait(t, `msg="lastro serves".* admin=(\S+)`)[1]
	daemon.wait(t, `msg="backup done" job="backup old"`)
	daemon.wait(t, `msg="snapshot forgotten" job="prune old" snapshot=\S+ .*reasons="not last 1: it is number 2 by age"`)
	daemon.wait(t, `msg="prune done" job="prune old" forgotten=1 snapshots=1 condemned=0 removed=0`)
	var list vault.Listing
	b.read(t, &list, "backup", "list", "old")
	if n := len(list.Snapshots); n != 1 {
		t.Errorf("got %d snapshots, want the newest", n)
	}
	_, metrics := get(t, "http://"+admin+"/metrics")
	for _, want := range []string{`lastro_vault_condemned_blobs{vault="old"} `, `lastro_vault_freed_bytes_total{vault="old"} 0`, `lastro_vault_prune_kept{vault="old"} 0`, `lastro_job_last_success_timestamp_seconds{kind="prune",name="old"} `} {
		if !strings.Contains(metrics, "\n"+want) {
			t.Errorf("/metrics has no %s", want)
		}
	}
}

func TestWhatIsTooMuchToForgetIsSaidAndTheBackupStands(t *testing.T) {
	b := keptBench(t, 4, "{last: 1}")
	daemon := start(t, b.command(t, "serve", "--log-level", "info"))
	daemon.wait(t, `msg="backup done" job="backup old"`)
	daemon.wait(t, `msg="old snapshots did not go" job="prune old" err="refusing to forget .* lastro backup forget old --max-removals`)
	var st status
	b.read(t, &st, "status")
	if !slices.ContainsFunc(st.Problems, func(p string) bool {
		return strings.HasPrefix(p, "vault old: the last prune ended with: refusing to forget")
	}) {
		t.Errorf("got %q", st.Problems)
	}
	var list vault.Listing
	b.read(t, &list, "backup", "list", "old")
	if len(list.Snapshots) < 5 {
		t.Errorf("got %d snapshots, want all", len(list.Snapshots))
	}
}

func TestVaultsWithoutKeepAreNotPruned(t *testing.T) {
	b := keptBench(t, 0, "{}")
	cfg, err := configs.Load(b.config())
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(webJobs(cfg), web.Job{Kind: "prune", Name: "old"}) {
		t.Error("it counts a job that never runs")
	}
	s := b.opened(t)
	defer s.Close()
	d := &daemon{cli: &cli{}, site: s, log: s.log}
	i := slices.IndexFunc(cfg.Backup, func(b configs.Backup) bool { return b.Name == "old" })
	for range 2 {
		if err := d.scheduledBackup(t.Context(), cfg.Backup[i]); err != nil {
			t.Fatal(err)
		}
	}
	v, err := s.vault(t.Context(), "old")
	if err != nil {
		t.Fatal(err)
	}
	if list, err := v.List(t.Context()); err != nil || len(list.Snapshots) != 2 {
		t.Errorf("got %+v, %v; want both", list, err)
	}
	if job, err := s.job(t.Context(), jobPrune+"old"); err != nil || !job.Started.IsZero() {
		t.Errorf("got %+v, %v; want no run", job, err)
	}
}

// TestAPruneWaitsForABackupOfTheSameDaemon holds the backup's turn.
func TestAPruneWaitsForABackupOfTheSameDaemon(t *testing.T) {
	b := keptBench(t, 1, "{last: 1}")
	s := b.opened(t)
	defer s.Close()
	done, err := s.turns.take(t.Context(), jobBackup+"old")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := s.tidy(ctx, "old"); ctx.Err() == nil || err == nil {
		t.Errorf("got %v beside a backup, want it to wait", err)
	}
	done()
	if err := s.tidy(t.Context(), "old"); err != nil {
		t.Error(err)
	}
}
