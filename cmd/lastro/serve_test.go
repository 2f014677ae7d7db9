package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"lastro/mirror/sample"
)

// sampleBench has a sample upstream in this process.
func sampleBench(t *testing.T) (*bench, *sample.Registry) {
	t.Helper()
	upstream, err := sample.Start(sample.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = upstream.Close() })
	if _, err := upstream.Fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	b := newBench(t, upstream.Addr())
	b.configure(t, "**")
	return b, upstream
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	return request(t, http.MethodGet, url)
}

func request(t *testing.T, method, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

func TestTheDaemonSyncsAndBacksUpByItself(t *testing.T) {
	b, upstream := sampleBench(t)
	daemon := start(t, b.command(t, "serve", "--log-level", "info"))
	admin := daemon.wait(t, `msg="lastro serves".* admin=(\S+)`)[1]
	daemon.wait(t, `msg="backup done"`)
	b.run(t, exitDone, "sync") // waits for the daemon's own to end
	b.pulls(t, upstream.Expect())

	if code, body := get(t, "http://"+admin+"/healthz"); code != http.StatusOK {
		t.Errorf("/healthz: %d %s", code, body)
	}
	if code, body := get(t, "http://"+admin+"/readyz"); code != http.StatusOK {
		t.Errorf("/readyz: %d %s", code, body)
	}
	_, metrics := get(t, "http://"+admin+"/metrics")
	for _, want := range []string{
		`lastro_job_runs_total{kind="sync",name="sample",result="ok"}`,
		`lastro_job_last_success_timestamp_seconds{kind="backup",name="main"}`,
		`lastro_vault_snapshots{vault="main"}`,
		"lastro_store_blobs ", "lastro_registry_requests_total{", "lastro_ready 1",
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("/metrics has no %s", want)
		}
	}
	checkMetrics(t, metrics)

	if err := daemon.end(syscall.SIGTERM); err != nil {
		t.Errorf("a daemon that was asked to end: %v\n%s", err, daemon.output())
	}
	if !strings.Contains(daemon.output(), "draining") {
		t.Errorf("the daemon did not say that it drains:\n%s", daemon.output())
	}
}

// checkMetrics lets Prometheus's own tool read the page, where it is installed.
func checkMetrics(t *testing.T, text string) {
	t.Helper()
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("LASTRO_REQUIRE_PEERS") != "" {
			t.Fatal("promtool is not installed and LASTRO_REQUIRE_PEERS is set")
		}
		t.Log("skipped: promtool is not installed")
		return
	}
	cmd := exec.CommandContext(t.Context(), promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "lastro_") {
			t.Errorf("promtool: %s", line)
		}
	}
	if err != nil && !strings.Contains(string(out), "registry_") {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}

// guessed is what a plan says of how long it would take.
var guessed = regexp.MustCompile(`about [^\n]*`)

func TestVerbsSayTheSameWithAndWithoutTheDaemon(t *testing.T) {
	b, _ := sampleBench(t)
	b.run(t, exitDone, "sync")
	b.run(t, exitDone, "backup")
	verbs := [][]string{
		{"list"},
		{"--output", "json", "list"},
		{"show", "mirror/library/base:3.20"},
		{"history", "mirror/apps/web:latest"},
		{"resolve", "mirror/apps/web:latest"},
		{"retain", "--dry-run"},
		{"backup", "list"},
		{"backup", "show", "latest"},
		{"restore", "--dry-run"},
	}
	var without []string
	for _, v := range verbs {
		without = append(without, b.run(t, exitDone, v...))
	}
	b.serve(t)
	b.run(t, exitDone, "sync") // the daemon's own sync, which is due at once, is over then
	for i, v := range verbs {
		if with := b.run(t, exitDone, v...); guessed.ReplaceAllString(with, "") != guessed.ReplaceAllString(without[i], "") && !strings.HasPrefix(v[0], "backup") {
			t.Errorf("lastro %s says without the daemon\n%s\nand with it\n%s", strings.Join(v, " "), without[i], with)
		}
	}
	b.run(t, exitUsage, "sync", "nothing")
	b.run(t, exitError, "show", "mirror/nothing")
}

func TestADataFolderHasOneDaemon(t *testing.T) {
	b, _ := sampleBench(t)
	b.serve(t)
	other := &bench{dir: b.dir, upstream: b.upstream, registry: freeAddress(t)}
	other.configure(t, "**")
	out, err := other.command(t, "serve").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "in use by process") {
		t.Errorf("a second daemon: %v\n%s", err, out)
	}
}

func TestHangupReadsTheConfigurationAgain(t *testing.T) {
	b, _ := sampleBench(t)
	daemon := b.serve(t)
	good, err := os.ReadFile(b.config())
	if err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(b.config(), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := daemon.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	write("mirror: [{fro: x}]\n")
	daemon.wait(t, `configuration not reloaded: nothing has changed.*mirror\[0\]`)
	write(strings.Replace(string(good), "name: sample", "name: renamed", 1))
	daemon.wait(t, `configuration reloaded`)
	b.run(t, exitDone, "sync", "renamed")
	b.run(t, exitUsage, "sync", "sample")
	write(strings.Replace(string(good), b.registry, freeAddress(t), 1))
	daemon.wait(t, `registry.listen cannot change`)
}

func TestTheRegistryTakesNoPushes(t *testing.T) {
	b, _ := sampleBench(t)
	b.serve(t)
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+b.registry+"/v2/mirror/apps/web/blobs/uploads/", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var body struct {
			Errors []struct{ Code string }
		}
		err = json.NewDecoder(res.Body).Decode(&body)
		res.Body.Close()
		if res.StatusCode != http.StatusMethodNotAllowed || err != nil || len(body.Errors) != 1 || body.Errors[0].Code != "UNSUPPORTED" {
			t.Errorf("%s: %s, %+v (%v)", method, res.Status, body, err)
		}
	}
}

func TestNothingOfTheDataIsOpenToOthers(t *testing.T) {
	b, _ := sampleBench(t)
	b.run(t, exitDone, "sync")
	b.run(t, exitDone, "backup")
	for _, folder := range []string{b.data(), filepath.Join(b.dir, "vault")} {
		err := filepath.WalkDir(folder, func(name string, d os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err == nil && info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s has the mode %s", name, info.Mode())
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestASecondSyncAsksForNothingButTagsAndHeads(t *testing.T) {
	b, upstream := sampleBench(t)
	b.run(t, exitDone, "sync")
	upstream.ForgetRequests()
	b.run(t, exitDone, "sync")
	got := upstream.Requests()
	tags, repos := 0, map[string]bool{}
	for _, e := range upstream.Expect() {
		repos[e.Repo] = true
		tags++
	}
	if n := got.Count(http.MethodHead, sample.KindManifest); n != tags {
		t.Errorf("%d HEADs of manifests, want one for each of %d tags", n, tags)
	}
	if n := got.Count(http.MethodGet, sample.KindTags); n != len(repos) {
		t.Errorf("%d lists of tags, want one for each of %d repositories", n, len(repos))
	}
	for _, kind := range []sample.Kind{sample.KindManifest, sample.KindBlob, sample.KindReferrers} {
		if n := got.Count(http.MethodGet, kind); n != 0 {
			t.Errorf("%d GETs of kind %s, want none", n, kind)
		}
	}
}

// TestAnotherConfigurationIsNotWhatTheDaemonGoesBy names a copy of the daemon's file with
// another vault in it, a copy that says the same, and the file itself after a change.
func TestAnotherConfigurationIsNotWhatTheDaemonGoesBy(t *testing.T) {
	b, _ := sampleBench(t)
	daemon := start(t, b.command(t, "serve", "--log-level", "info"))
	daemon.wait(t, `msg="lastro serves"`)
	text, err := os.ReadFile(b.config())
	if err != nil {
		t.Fatal(err)
	}
	changed := append(slices.Clone(text), "check: {every: never}\n"...)
	same, other := filepath.Join(b.dir, "same.yaml"), filepath.Join(b.dir, "other.yaml")
	if err := errors.Join(os.WriteFile(same, text, 0o600), os.WriteFile(other, changed, 0o600)); err != nil {
		t.Fatal(err)
	}
	says := func(want int, file string) string {
		cmd := b.command(t, "--config", file, "list")
		var errs bytes.Buffer
		cmd.Stderr = &errs
		_ = cmd.Run() // its exit code is looked at
		if code := cmd.ProcessState.ExitCode(); code != want {
			t.Errorf("with %s: exit code %d, want %d: %s", file, code, want, errs.String())
		}
		return errs.String()
	}
	if got := says(exitUsage, other); !strings.Contains(got, "runs with "+b.config()+", and "+other+" says something else") {
		t.Errorf("said: %s", got)
	}
	if got := says(exitDone, same); got != "" {
		t.Errorf("said: %s", got)
	}
	if err := os.WriteFile(b.config(), changed, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := says(exitDone, b.config()); !strings.Contains(got, "send it SIGHUP") {
		t.Errorf("said: %s", got)
	}
	if err := os.Symlink(b.config(), filepath.Join(b.dir, "link.yaml")); err != nil {
		t.Fatal(err)
	}
	says(exitDone, filepath.Join(b.dir, "link.yaml"))
}
