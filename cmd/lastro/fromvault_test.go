package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"

	"lastro/mirror/sample"
	"lastro/store/vault"
)

// lostBench has a backup, and has lost its data. Its upstream answers nothing any more.
func lostBench(t *testing.T, vault func(t *testing.T) string) (b *bench, upstream *sample.Registry, past tagHistory) {
	t.Helper()
	b, upstream = sampleBench(t)
	if vault != nil {
		b.vault = vault(t)
		b.configure(t, "**")
	}
	b.run(t, exitDone, "sync")
	b.run(t, exitDone, "backup")
	b.read(t, &past, "history", "mirror/apps/web:latest")
	if err := os.RemoveAll(b.data()); err != nil {
		t.Fatal(err)
	}
	return b, upstream, past
}

// encryptedFolder is a vault that a machine with its configuration may read.
func encryptedFolder(t *testing.T) string {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(t.TempDir(), "vault.age")
	if err := os.WriteFile(key, []byte(id.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("{name: main, to: 'file://%s', encrypt: [%s], identity: '${file:%s}'}", filepath.Join(t.TempDir(), "vault"), id.Recipient(), key)
}

// serveFrom starts the daemon with a vault.
func (b *bench) serveFrom(t *testing.T, args ...string) (daemon *child, admin string) {
	t.Helper()
	daemon = start(t, b.command(t, append([]string{"serve", "--log-level", "info", "--from-vault", "main"}, args...)...))
	return daemon, daemon.wait(t, `msg="lastro serves".* admin=(\S+)`)[1]
}

func TestAnEmptyMachineAnswersPullsOutOfAVault(t *testing.T) {
	vaults := map[string]func(t *testing.T) string{
		"a folder":            nil,
		"an encrypted folder": encryptedFolder,
		"S3": func(t *testing.T) string {
			return fmt.Sprintf("{name: main, to: 's3://backup/site', s3: {endpoint: %q, region: us-east-1, path-style: true, credentials: {access-key: access, secret-key: secretsecret}}}", startGateway(t, "backup"))
		},
	}
	for name, vault := range vaults {
		t.Run("a vault in "+name, func(t *testing.T) {
			t.Parallel()
			b, upstream, _ := lostBench(t, vault)
			expected := upstream.Expect()
			_ = upstream.Close()
			daemon, _ := b.serveFrom(t)
			daemon.wait(t, `msg="pulls are answered out of a vault" vault=main`)
			b.pulls(t, expected)
			if code, body := get(t, "http://"+b.registry+"/v2/mirror/apps/web/tags/list"); code != http.StatusOK || !strings.Contains(body, `"latest"`) {
				t.Errorf("tags: %d %s", code, body)
			}
			b.changesNothing(t)
			var st status
			b.read(t, &st, "status")
			if st.FromVault == nil || st.FromVault.Vault != "main" || st.FromVault.Rehydrate || st.FromVault.Images == 0 {
				t.Errorf("status: %+v", st.FromVault)
			}
			if st.Restorable != "yes" || len(st.Vaults) != 1 || st.Vaults[0].Newest == nil || !st.Vaults[0].Newest.Equal(st.FromVault.Time) {
				t.Errorf("restorable %s from %+v, while it is served from there", st.Restorable, st.Vaults)
			}
			if text := b.run(t, exitDone, "status"); !strings.Contains(text, "serving    pulls out of vault main, snapshot "+st.FromVault.Snapshot) {
				t.Errorf("status:\n%s", text)
			}
			if err := daemon.end(syscall.SIGTERM); err != nil {
				t.Errorf("it ended with %v:\n%s", err, daemon.output())
			}
			// Nothing that was pulled is visible by that.
			if text := b.run(t, exitDone, "list"); strings.Contains(text, "mirror") {
				t.Errorf("list:\n%s", text)
			}
		})
	}
}

// changesNothing says that neither clients nor people can change what is here.
func (b *bench) changesNothing(t *testing.T) {
	t.Helper()
	for _, asked := range []string{"POST /v2/mirror/apps/web/blobs/uploads/", "DELETE /v2/mirror/apps/web/manifests/latest"} {
		verb, path, _ := strings.Cut(asked, " ")
		if code, body := request(t, verb, "http://"+b.registry+path); code != http.StatusMethodNotAllowed || !strings.Contains(body, "out of vault main") {
			t.Errorf("%s: %d %s", asked, code, body)
		}
	}
	for _, verb := range []string{"sync", "backup", "restore", "collect", "check --repair"} {
		b.run(t, exitError, strings.Fields(verb)...)
	}
}

func TestAMachineThatIsRehydratedIsOneLikeAnyOther(t *testing.T) {
	for name, vault := range map[string]func(t *testing.T) string{"a folder": nil, "an encrypted folder": encryptedFolder} {
		t.Run("from "+name, func(t *testing.T) {
			t.Parallel()
			rehydrates(t, vault)
		})
	}
}

func rehydrates(t *testing.T, vault func(t *testing.T) string) {
	t.Helper()
	b, upstream, past := lostBench(t, vault)
	daemon, admin := b.serveFrom(t, "--rehydrate")
	b.pulls(t, upstream.Expect()) // while it goes on
	daemon.wait(t, `msg="rehydrated: jobs run from now on" vault=main .* failed=0`)
	daemon.wait(t, `msg="backup done"`)
	b.pulls(t, upstream.Expect())
	var now tagHistory
	b.read(t, &now, "history", "mirror/apps/web:latest")
	if diff := cmp.Diff(past.Events, now.Events[:min(len(past.Events), len(now.Events))]); diff != "" || len(past.Events) == 0 {
		t.Error(diff)
	}
	b.run(t, exitDone, "sync")
	b.run(t, exitDone, "sync", "--dry-run")
	_, metrics := get(t, "http://"+admin+"/metrics")
	checkMetrics(t, metrics)
	for _, want := range []string{"lastro_rehydrate_done 1", "lastro_rehydrate_failed_images 0", `lastro_job_runs_total{kind="rehydrate",name="main",result="ok"} 1`} {
		if !strings.Contains(metrics, "\n"+want) {
			t.Errorf("/metrics has no %s", want)
		}
	}
	var st status
	b.read(t, &st, "status")
	if st.FromVault != nil || st.Restorable != "yes" {
		t.Errorf("restorable %s, status: %+v", st.Restorable, st.FromVault)
	}
	if err := daemon.end(syscall.SIGTERM); err != nil {
		t.Errorf("it ended with %v:\n%s", err, daemon.output())
	}
	again, _ := b.serveFrom(t, "--rehydrate")
	again.wait(t, `msg="rehydrated already`)
	b.run(t, exitDone, "sync")
}

// TestADaemonThatHasLostItsDataDoesNotSaveThat has no upstream either, as on the day on
// which all is lost.
func TestADaemonThatHasLostItsDataDoesNotSaveThat(t *testing.T) {
	b, upstream, _ := lostBench(t, nil)
	_ = upstream.Close()
	var before, after vault.Listing
	b.read(t, &before, "backup", "list")
	daemon := start(t, b.command(t, "serve", "--log-level", "info"))
	daemon.wait(t, `backup main.*this registry is empty, and vault main has a backup of .*which a new one would hide`)
	b.read(t, &after, "backup", "list")
	if len(before.Snapshots) != 1 || len(after.Snapshots) != 1 {
		t.Errorf("%d snapshots became %d", len(before.Snapshots), len(after.Snapshots))
	}
	b.run(t, exitDone, "restore")
	b.run(t, exitDone, "backup")
}

func TestARehydrationThatIsKilledGoesOn(t *testing.T) {
	b, upstream, _ := lostBench(t, nil)
	for range 3 {
		daemon, _ := b.serveFrom(t, "--rehydrate")
		daemon.wait(t, `msg=rehydrating vault=main`)
		_ = daemon.end(syscall.SIGKILL)
	}
	daemon, _ := b.serveFrom(t, "--rehydrate")
	daemon.wait(t, `msg="rehydrated(: jobs run from now on"| already)`)
	b.pulls(t, upstream.Expect())
	b.run(t, exitDone, "check", "--read", "1/1")
}
