package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"lastro/mirror/sample"
	"lastro/store/storetest"
)

// bench is a folder with a configuration in which lastro is run as a person
// would run it.
type bench struct {
	dir      string
	upstream string // host:port
	from     string // the rule's repositories
	vault    string // yaml of the vault; "": a folder
	registry string // where the daemon serves
}

func newBench(t *testing.T, upstream string) *bench {
	t.Helper()
	return &bench{dir: t.TempDir(), upstream: upstream, registry: freeAddress(t)}
}

// clone is another bench with the same data and vault.
func (b *bench) clone(t *testing.T) *bench {
	t.Helper()
	c := newBench(t, b.upstream)
	for _, folder := range []string{"data", "vault"} {
		err := os.CopyFS(filepath.Join(c.dir, folder), os.DirFS(filepath.Join(b.dir, folder)))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	c.configure(t, b.from)
	return c
}

// configure writes the configuration, with one mirror rule for from.
func (b *bench) configure(t *testing.T, from string) {
	t.Helper()
	b.from = from
	vault := cmp.Or(b.vault, fmt.Sprintf("{name: main, to: 'file://%s'}", filepath.Join(b.dir, "vault")))
	text := fmt.Sprintf(`data: %s
registry: {listen: %q}
admin: {listen: %q}
upstreams:
  %q: {plain-http: true, credentials: none}
mirror:
  - {name: sample, from: '%s/%s', to: mirror}
retention:
  - {match: "**", keep: {last: 100}}
backup:
  - %s
`, b.data(), b.registry, freeAddress(t), b.upstream, b.upstream, from, vault)
	if err := os.WriteFile(b.config(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) data() string   { return filepath.Join(b.dir, "data") }
func (b *bench) config() string { return filepath.Join(b.dir, "lastro.yaml") }

func (b *bench) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "lastro", append([]string{"--config", b.config()}, args...)...)
	cmd.Dir = b.dir
	cmd.Env = append(os.Environ(), "HOME="+b.dir)
	return cmd
}

// run runs a verb and returns what it printed on standard output.
func (b *bench) run(t *testing.T, want int, args ...string) string {
	t.Helper()
	cmd := b.command(t, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if code := cmd.ProcessState.ExitCode(); code != want {
		t.Fatalf("lastro %s: exit code %d, want %d (%v)\n%s%s", strings.Join(args, " "), code, want, err, out.String(), errs.String())
	}
	return out.String()
}

// read runs a verb with --output json into v.
func (b *bench) read(t *testing.T, v any, args ...string) {
	t.Helper()
	text := b.run(t, exitDone, append([]string{"--output", "json"}, args...)...)
	if err := json.Unmarshal([]byte(text), v); err != nil {
		t.Fatalf("lastro %s printed what is no JSON document: %v\n%s", strings.Join(args, " "), err, text)
	}
}

// serve starts the daemon and returns when it serves.
func (b *bench) serve(t *testing.T) *child {
	t.Helper()
	c := start(t, b.command(t, "serve"))
	c.wait(t, `msg="lastro serves"`)
	return c
}

// pulls reads every expected image from the daemon, and compares.
func (b *bench) pulls(t *testing.T, all []sample.Expect) {
	t.Helper()
	for _, e := range all {
		got, err := sample.Pull(t.Context(), "http://"+b.registry, "mirror/"+e.Repo, e.Tag)
		if err == nil {
			err = e.Check(got)
		}
		if err != nil {
			t.Errorf("from the local registry: %v", err)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}

// fillRegistry starts a real registry with the sample images in it.
func fillRegistry(t *testing.T) (addr string, images *sample.Images) {
	t.Helper()
	addr = startRegistry(t)
	images = sample.Generate(sample.Options{NoReferrers: true})
	if err := images.PushTo(t.Context(), http.DefaultClient, "http://"+addr); err != nil {
		t.Fatal(err)
	}
	return addr, images
}

func TestADisasterLosesNothing(t *testing.T) {
	vaults := map[string]func(t *testing.T, b *bench) string{
		"a folder": func(t *testing.T, b *bench) string { return b.vault },
		"S3": func(t *testing.T, b *bench) string {
			return fmt.Sprintf("{name: main, to: 's3://backup/site', s3: {endpoint: %q, region: us-east-1, path-style: true, credentials: {access-key: access, secret-key: secretsecret}}}", startGateway(t, "backup"))
		},
	}
	for name, vault := range vaults {
		t.Run("with a vault in "+name, func(t *testing.T) {
			t.Parallel()
			upstream, images := fillRegistry(t)
			b := newBench(t, upstream)
			b.vault = vault(t, b)
			b.configure(t, "**")
			daemon := b.serve(t)
			b.run(t, exitDone, "sync")
			b.pulls(t, images.Expect())
			clientsSee(t, upstream, b.registry, images.Expect())

			moved := images.Build("apps/web", "latest")
			if err := images.PushTo(t.Context(), http.DefaultClient, "http://"+upstream); err != nil {
				t.Fatal(err)
			}
			b.run(t, exitDifference, "sync", "--dry-run")
			b.run(t, exitDone, "sync")
			b.run(t, exitDone, "sync", "--dry-run")
			before := b.histories(t, moved)
			b.run(t, exitDone, "backup")
			b.run(t, exitDone, "backup", "verify")

			// The disaster: the daemon dies and its data is gone.
			_ = daemon.end(syscall.SIGKILL)
			if err := os.RemoveAll(b.data()); err != nil {
				t.Fatal(err)
			}
			b.run(t, exitDone, "restore")
			b.serve(t)
			b.pulls(t, images.Expect())
			if after := b.histories(t, moved); !strings.HasPrefix(after, before) {
				t.Errorf("the history before the disaster was\n%s\nand is now\n%s", before, after)
			}
			clientsSee(t, upstream, b.registry, images.Expect())
			b.run(t, exitDone, "sync", "--dry-run")
		})
	}
}

// histories are the first two events of a tag that has moved once.
func (b *bench) histories(t *testing.T, e sample.Expect) string {
	t.Helper()
	var h tagHistory
	b.read(t, &h, "history", "mirror/"+e.Repo+":"+e.Tag)
	if len(h.Events) < 2 || h.Events[1].Digest != e.Digest {
		t.Fatalf("history of a tag that moved once: %+v", h)
	}
	text, err := json.Marshal(h.Events[:2])
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// clientsSee lets real clients say which digests they see, upstream and here.
func clientsSee(t *testing.T, upstream, local string, all []sample.Expect) {
	t.Helper()
	crane, regctl := tool(t, "crane"), tool(t, "regctl")
	home := t.TempDir()
	for _, host := range []string{upstream, local} {
		clientOutput(t, home, regctl, "registry", "set", "--tls=disabled", host)
	}
	for _, e := range all {
		if got := clientOutput(t, home, crane, "digest", "--insecure", local+"/mirror/"+e.Repo+":"+e.Tag); got != e.Digest.String() {
			t.Errorf("crane sees %s:%s as %s, want %s", e.Repo, e.Tag, got, e.Digest)
		}
		if got := clientOutput(t, home, regctl, "image", "digest", local+"/mirror/"+e.Repo+":"+e.Tag); got != e.Digest.String() {
			t.Errorf("regctl sees %s:%s as %s, want %s", e.Repo, e.Tag, got, e.Digest)
		}
	}
	clientOutput(t, home, crane, "validate", "--insecure", "--remote", local+"/mirror/library/tools:amd64")
}

func clientOutput(t *testing.T, home, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), "HOME="+home)
	out, err := cmd.Output()
	if err != nil {
		exit, _ := errors.AsType[*exec.ExitError](err)
		if exit == nil {
			exit = &exec.ExitError{}
		}
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, exit.Stderr)
	}
	return strings.TrimSpace(string(out))
}

func TestSkopeoCopiesWhatLastroServesAndReadsWhatItBacksUp(t *testing.T) {
	skopeo := storetest.Installed(t, "skopeo")
	upstream, images := fillRegistry(t)
	b := newBench(t, upstream)
	b.configure(t, "**")
	b.serve(t)
	b.run(t, exitDone, "sync")
	b.run(t, exitDone, "backup")
	// skopeo copies no index of indexes, and finds only OCI media types in a layout.
	for _, name := range []string{"library/base:3.20", "apps/web:1.4", "apps/web:latest"} {
		from := "docker://" + b.registry + "/mirror/" + name
		clientOutput(t, b.dir, skopeo, "copy", "--quiet", "--insecure-policy", "--src-tls-verify=false", "--all", "--preserve-digests", from, "dir:"+filepath.Join(t.TempDir(), "served"))
		from = "oci:" + filepath.Join(b.dir, "vault") + ":mirror/" + name
		to := filepath.Join(t.TempDir(), "saved")
		clientOutput(t, b.dir, skopeo, "copy", "--quiet", "--insecure-policy", "--all", "--preserve-digests", from, "dir:"+to)
		raw, err := os.ReadFile(filepath.Join(to, "manifest.json"))
		if err != nil {
			t.Fatal(err)
		}
		repo, tag, _ := strings.Cut(name, ":")
		for _, e := range images.Expect() {
			if e.Repo == repo && e.Tag == tag && !bytes.Equal(raw, e.Image[len(e.Image)-1].Raw) {
				t.Errorf("%s: what skopeo reads from the vault is not what was upstream", name)
			}
		}
	}
}
