package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"lastro/cmd/lastro/internal/schedule"
	"lastro/cmd/lastro/internal/web"
	"lastro/configs"
	"lastro/mirror/sample"
	"lastro/store/layout"
)

// checkedBench has synced, backed up, and then lost the truth of a layer that many
// need; config is added to its configuration.
func checkedBench(t *testing.T, config string) (b *bench, upstream *sample.Registry, file string, d digest.Digest) {
	t.Helper()
	b, upstream = sampleBench(t)
	b.run(t, exitDone, "sync")
	text, err := os.ReadFile(b.config())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b.config(), append(text, config...), 0o600); err != nil {
		t.Fatal(err)
	}
	d = aLayer(t, b)
	file = filepath.Join(b.data(), "registry", layout.Data(d))
	flip(t, file)
	return b, upstream, file, d
}

// flip turns one bit in the middle of a file over.
func flip(t *testing.T, file string) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/2] ^= 4
	if err := errors.Join(os.Chmod(file, 0o600), os.WriteFile(file, raw, 0o600)); err != nil {
		t.Fatal(err)
	}
}

// aLayer is the largest content, which no manifest is.
func aLayer(t *testing.T, b *bench) (d digest.Digest) {
	t.Helper()
	most := int64(0)
	files, err := filepath.Glob(filepath.Join(b.data(), "registry", layout.Blobs, "sha256/*/*/data"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if info, err := os.Stat(name); err == nil && info.Size() > most {
			most, d = info.Size(), digest.NewDigestFromEncoded(digest.SHA256, filepath.Base(filepath.Dir(name)))
		}
	}
	return d
}

func TestTheDaemonFindsABitFlipByItselfAndHealsIt(t *testing.T) {
	b, upstream, file, d := checkedBench(t, "check: {part: 1/1}\n")
	daemon := start(t, b.command(t, "serve", "--log-level", "info"))
	admin := daemon.wait(t, `msg="lastro serves".* admin=(\S+)`)[1]
	daemon.wait(t, `msg="bad content was taken out of service" digest=`+regexp.QuoteMeta(d.String()))
	daemon.wait(t, `msg="problem healed" job=check kind=corrupt .*digest=`+regexp.QuoteMeta(d.String())+`.* from=upstream`)
	daemon.wait(t, `msg="check done" job=check part=1/1 .* problems=0 repaired=1`)
	b.run(t, exitDone, "sync")
	b.pulls(t, upstream.Expect())
	_, metrics := get(t, "http://"+admin+"/metrics")
	for _, want := range []string{
		`lastro_check_problems{kind="corrupt"} 0`, "lastro_check_repaired_total 1", "lastro_check_last_success_timestamp_seconds ",
		"lastro_check_oldest_unread_seconds ", "lastro_check_read_bytes_total ", `lastro_job_runs_total{kind="check",name="check",result="ok"} 1`,
	} {
		if !strings.Contains(metrics, "\n"+want) {
			t.Errorf("/metrics has no %s", want)
		}
	}
	if _, err := os.Stat(filepath.Join(b.data(), "registry/quarantine/sha256", d.Encoded())); err != nil {
		t.Errorf("the bad bytes: %v", err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
	var st status
	b.read(t, &st, "status")
	if st.LastCheck == nil || st.OldestUnread == nil || slices.ContainsFunc(st.Problems, func(p string) bool { return strings.Contains(p, d.String()) }) {
		t.Errorf("%+v", st)
	}
}

func TestWithoutRepairBadContentIsNotServedAndStatusSaysWhatToDo(t *testing.T) {
	b, _, _, d := checkedBench(t, "check: {part: 1/1, repair: false}\n")
	daemon := start(t, b.command(t, "serve", "--log-level", "info"))
	admin := daemon.wait(t, `msg="lastro serves".* admin=(\S+)`)[1]
	daemon.wait(t, `msg="problem found" job=check kind=corrupt .*next="lastro check --repair brings it`)
	daemon.wait(t, `msg="job failed" job=check .*1 problems are left: lastro status`)
	var st status
	b.read(t, &st, "status")
	i := slices.IndexFunc(st.Problems, func(p string) bool { return strings.HasPrefix(p, d.String()+" is corrupt") })
	if i < 0 || !strings.Contains(st.Problems[i], "hurts mirror/") || !strings.Contains(st.Problems[i], "(lastro check --repair") {
		t.Errorf("%q", st.Problems)
	}
	if _, metrics := get(t, "http://"+admin+"/metrics"); !strings.Contains(metrics, `lastro_check_problems{kind="corrupt"} 1`) {
		t.Error("/metrics does not tell")
	}
	if code, _ := get(t, "http://"+b.registry+"/v2/mirror/library/base/blobs/"+d.String()); code == http.StatusOK {
		t.Error("it is served")
	}
	b.run(t, exitDone, "check", "--repair")
}

// opened is the bench's site in this process, as a daemon finds it when it starts.
func (b *bench) opened(t *testing.T) *site {
	t.Helper()
	cfg, err := configs.Load(b.config())
	if err != nil {
		t.Fatal(err)
	}
	s, err := openSite(cfg, slog.New(slog.DiscardHandler), host{now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTheNextPartIsRememberedOverARestart(t *testing.T) {
	b, _, _, _ := checkedBench(t, "check: {part: 1/3}\n")
	var read []string
	run := func(ctx context.Context, busy func() bool, want error) {
		t.Helper()
		s := b.opened(t)
		defer s.Close()
		report, err := s.checkNext(ctx, busy)
		if !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
		read = append(read, report.Part)
	}
	never := func() bool { return false }
	run(t.Context(), never, nil)
	ctx, cancel := context.WithCancel(t.Context())
	run(ctx, func() bool { cancel(); return true }, context.Canceled)
	for range 3 {
		run(t.Context(), never, nil)
	}
	// The run that was cut short is done again.
	if d := cmp.Diff([]string{"1/3", "2/3", "2/3", "3/3", "1/3"}, read); d != "" {
		t.Error(d)
	}
}

func TestTheDaemonChecksUnlessItIsNeverTo(t *testing.T) {
	for every, want := range map[string]bool{"24h": true, "30 4 * * *": true, "never": false} {
		b, _ := sampleBench(t)
		text, err := os.ReadFile(b.config())
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(b.config(), append(text, "check: {every: '"+every+"'}\n"...), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, err := configs.Load(b.config())
		if err != nil {
			t.Fatal(err)
		}
		jobs := (&daemon{}).jobs(cfg)
		if got := slices.ContainsFunc(jobs, func(j schedule.Job) bool { return j.Name == jobCheck }); got != want {
			t.Errorf("every %s: it checks: %v", every, got)
		}
		if got := slices.Contains(webJobs(cfg), web.Job{Kind: "check", Name: "check"}); got != want {
			t.Errorf("every %s: it counts: %v", every, got)
		}
	}
}

func TestTheDaemonReadsItsVaultsBack(t *testing.T) {
	dir := t.TempDir()
	b, _, _, d := checkedBench(t, "  - {name: second, to: 'file://"+dir+"/vault', every: never, verify: {part: 1/1}, drill: {images: 100}}\ncheck: {every: never}\n")
	b.run(t, exitDone, "check", "--repair", "--read", "1/1")
	b.run(t, exitDone, "backup", "second")
	flip(t, filepath.Join(dir, "vault/blobs/sha256", d.Encoded()))
	daemon := start(t, b.command(t, "serve", "--log-level", "info"))
	admin := daemon.wait(t, `msg="lastro serves".* admin=(\S+)`)[1]
	daemon.wait(t, `msg="damage in the vault repaired" vault=second digest=`+regexp.QuoteMeta(d.String())+` kind=corrupt source="local store"`)
	daemon.wait(t, `msg="verify done" job="verify second" part=1 parts=1 .* problems=0 repaired=1`)
	var st status
	b.read(t, &st, "status")
	if st.OldestInVaults == nil || slices.ContainsFunc(st.Problems, func(p string) bool { return strings.HasPrefix(p, "vault second: the last verify") }) {
		t.Errorf("%+v", st)
	}
	_, metrics := get(t, "http://"+admin+"/metrics")
	for _, want := range []string{`lastro_vault_problems{vault="second"} 0`, `lastro_vault_repaired_total{source="local store",vault="second"} 1`, `lastro_vault_oldest_unread_seconds{vault="second"} `} {
		if !strings.Contains(metrics, "\n"+want) {
			t.Errorf("/metrics has no %s", want)
		}
	}
	daemon.wait(t, `msg="drill done" job="drill second" .* problems=0`)
	b.run(t, exitDone, "backup", "verify", "second", "--read", "1/1")
}

// TestTheDaemonLooksForWhatItSentToAVaultThatItCannotRead loses a content there.
func TestTheDaemonLooksForWhatItSentToAVaultThatItCannotRead(t *testing.T) {
	dir := t.TempDir()
	b, _, _, _ := checkedBench(t, "  - {name: second, to: 'file://"+dir+"/vault', every: never, encrypt: [age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj]}\ncheck: {every: never}\n")
	b.run(t, exitDone, "check", "--repair", "--read", "1/1")
	b.run(t, exitDone, "backup", "second")
	blobs, err := filepath.Glob(filepath.Join(dir, "vault/blobs/*/*"))
	if err != nil || len(blobs) == 0 {
		t.Fatal(blobs, err)
	}
	if err := os.Remove(blobs[0]); err != nil {
		t.Fatal(err)
	}
	daemon := start(t, b.command(t, "serve", "--log-level", "info"))
	admin := daemon.wait(t, `msg="lastro serves".* admin=(\S+)`)[1]
	daemon.wait(t, `msg="problem in a vault" job="verify second" .*kind=missing .*next="lastro backup second sends again what is here"`)
	daemon.wait(t, `msg="verify done" job="verify second" .* problems=1 repaired=0`)
	_, metrics := get(t, "http://"+admin+"/metrics")
	if !strings.Contains(metrics, "\n"+`lastro_vault_problems{vault="second"} 1`) || strings.Contains(metrics, `lastro_vault_oldest_unread_seconds{vault="second"}`) {
		t.Errorf("/metrics:\n%s", metrics)
	}
	var st status
	b.read(t, &st, "status")
	if !slices.ContainsFunc(st.Problems, func(p string) bool {
		return p == "vault second: the last verify found 1 problems (lastro backup second sends again what is here)"
	}) {
		t.Errorf("%q", st.Problems)
	}
	b.run(t, exitDone, "backup", "second")
	b.run(t, exitDone, "backup", "verify", "second", "--list")
}

// TestWhatNobodyCanRepairIsSaid has lost a manifest everywhere: there is no source.
func TestWhatNobodyCanRepairIsSaid(t *testing.T) {
	dir := t.TempDir()
	b, _, file, d := checkedBench(t, "  - {name: second, to: 'file://"+dir+"/vault', every: never, verify: {part: 1/1}, drill: {images: 100}}\ncheck: {every: never}\n")
	b.run(t, exitDone, "check", "--repair", "--read", "1/1")
	b.run(t, exitDone, "backup", "second")
	text, err := os.ReadFile(b.config())
	if err != nil {
		t.Fatal(err)
	}
	// From now on nothing is mirrored, so no upstream is asked.
	text = regexp.MustCompile(`(?m)^mirror:\n(  .*\n)*`).ReplaceAll(text, nil)
	if err := os.WriteFile(b.config(), text, 0o600); err != nil {
		t.Fatal(err)
	}
	flip(t, filepath.Join(dir, "vault/blobs/sha256", d.Encoded()))
	flip(t, file)
	daemon := start(t, b.command(t, "serve", "--log-level", "info"))
	daemon.wait(t, `msg="problem in a vault" job="verify second" .*digest=`+regexp.QuoteMeta(d.String())+` kind=corrupt .*unrepaired="local store: its bytes do not match .*; upstream: does not have it" next="bring what it hurts here again`)
	daemon.wait(t, `msg="verify done" job="verify second" part=1 parts=1 .* problems=1 repaired=0`)
	daemon.wait(t, `msg="problem in a drill" job="drill second" .*digest=sha256:`)
	daemon.wait(t, `msg="drill done" job="drill second" `)
	var st status
	b.read(t, &st, "status")
	if !slices.ContainsFunc(st.Problems, func(p string) bool {
		return strings.HasPrefix(p, "vault second: the last verify found 1 problems")
	}) {
		t.Errorf("%q", st.Problems)
	}
}
