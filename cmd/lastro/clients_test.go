package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"lastro/mirror/sample"
	"lastro/store/storetest"
)

// guest is a machine with a container client. Its mirror serves two upstreams
// on demand: docker.io, which is a registry on this machine, and that registry
// under its own address. What wants to leave the machine is stopped and noted.
type guest struct {
	*bench
	images  *sample.Images
	folder  string // of the client's files
	leaving *border
}

// newGuest has an empty mirror that runs, and the files that client-config
// wrote for the client.
func newGuest(t *testing.T, client string) *guest {
	t.Helper()
	upstream, images := fillRegistry(t)
	g := &guest{newBench(t, upstream), images, "", newBorder(t)}
	g.folder = filepath.Join(g.dir, ".config", "containers")
	text := fmt.Sprintf(`data: %s
registry: {listen: %q, push: ["local/**"]}
admin: {listen: %q}
upstreams:
  docker.io: {endpoint: "http://%s", credentials: none}
  %q: {plain-http: true, credentials: none}
mirror:
  - {from: docker.io/library/*, on-demand: true, every: 720h}
  - {from: '%s/**', to: other, on-demand: true, every: 720h}
`, g.data(), g.registry, freeAddress(t), upstream, upstream, upstream)
	if err := os.WriteFile(g.config(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	g.serve(t)
	g.configure(t, client)
	return g
}

// configure lets client-config write the client's files anew.
func (g *guest) configure(t *testing.T, client string, flags ...string) {
	t.Helper()
	g.run(t, exitDone, append([]string{"client-config", client, "--dir", g.folder, "--force"}, flags...)...)
}

// program is a command of the guest that cannot leave the machine.
func (g *guest) program(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = g.dir
	cmd.Env = append(os.Environ(), "HOME="+g.dir, "XDG_RUNTIME_DIR="+g.dir, "NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1")
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"} {
		cmd.Env = append(cmd.Env, name+"="+g.leaving.url)
	}
	return cmd
}

// says is everything that a command prints.
func says(cmd *exec.Cmd) (string, error) {
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// border is a proxy that lets nobody through and knows where they wanted to go.
type border struct {
	url string

	mu    sync.Mutex
	hosts []string
}

func newBorder(t *testing.T) *border {
	t.Helper()
	b := &border{}
	server := httptest.NewServer(b)
	t.Cleanup(server.Close)
	b.url = server.URL
	return b
}

func (b *border) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	b.hosts = append(b.hosts, r.Host)
	b.mu.Unlock()
	w.WriteHeader(http.StatusForbidden)
}

// wanted are the hosts that somebody wanted to go to since the last call.
func (b *border) wanted() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	hosts := b.hosts
	b.hosts = nil
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

// puller pulls an image for a platform into an empty client, and returns what
// the client says of it: its digest is in there.
type puller func(image, platform string) (string, error)

// containerClients are the clients that have a file of their own, by their name
// for client-config.
var containerClients = map[string]func(t *testing.T, g *guest) puller{
	"podman":     podman,
	"containerd": containerd,
	"docker":     docker,
}

func podman(t *testing.T, g *guest) puller {
	path := storetest.Installed(t, "podman")
	policy := filepath.Join(g.dir, "policy.json")
	if err := os.WriteFile(policy, []byte(`{"default": [{"type": "insecureAcceptAnything"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	store := []string{"--root", filepath.Join(g.dir, "podman"), "--runroot", shortFolder(t), "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "none"}
	run := func(args ...string) (string, error) {
		return says(g.program(t, path, append(slices.Clone(store), args...)...))
	}
	return func(image, platform string) (string, error) {
		if out, err := run("pull", "--quiet", "--signature-policy", policy, "--platform", platform, image); err != nil {
			return out, err
		}
		out, err := run("image", "inspect", "--format", "{{.Os}}/{{.Architecture}} {{.RepoDigests}}", image)
		if err == nil && !strings.HasPrefix(out, platform+" ") {
			err = fmt.Errorf("an image for another platform than %s", platform)
		}
		return out, errors.Join(err, g.program(t, path, append(slices.Clone(store), "rmi", "--force", image)...).Run())
	}
}

func containerd(t *testing.T, g *guest) puller {
	path, ctr := storetest.Installed(t, "containerd"), storetest.Installed(t, "ctr")
	dir := shortFolder(t)
	socket := filepath.Join(dir, "c.sock")
	config := filepath.Join(g.dir, "containerd.toml")
	text := fmt.Sprintf("version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = %q\n", socket)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	daemon := start(t, g.program(t, path, "--config", config, "--root", filepath.Join(g.dir, "root"), "--state", filepath.Join(dir, "state")))
	t.Cleanup(func() { _ = daemon.end(syscall.SIGTERM) })
	daemon.wait(t, "containerd successfully booted")
	run := func(args ...string) (string, error) {
		return says(g.program(t, ctr, append([]string{"--address", socket}, args...)...))
	}
	return func(image, platform string) (string, error) {
		out, err := run("images", "pull", "--snapshotter", "native", "--hosts-dir", filepath.Join(g.folder, "certs.d"), "--platform", platform, image)
		if err != nil {
			return out, err
		}
		out, err = run("images", "list", "name=="+image)
		_, gone := run("images", "remove", "--sync", image)
		return out, errors.Join(err, gone)
	}
}

func docker(t *testing.T, g *guest) puller {
	engine, path := storetest.Installed(t, "dockerd"), storetest.Installed(t, "docker")
	dir, data := shortFolder(t), filepath.Join(g.dir, "docker")
	socket := filepath.Join(dir, "d.sock")
	daemon := start(t, g.program(t, engine, "--config-file", filepath.Join(g.folder, "daemon.json"), "--bridge=none", "--iptables=false", "--ip-masq=false", "--ip-forward=false", "--storage-driver=vfs",
		"--data-root", data, "--exec-root", filepath.Join(dir, "exec"), "--pidfile", filepath.Join(dir, "pid"), "--host", "unix://"+socket))
	t.Cleanup(func() {
		_ = daemon.end(syscall.SIGTERM)
		_ = syscall.Unmount(data, syscall.MNT_DETACH) // the engine makes it a mount of its own, and leaves that behind
	})
	daemon.wait(t, "API listen on")
	run := func(args ...string) (string, error) {
		return says(g.program(t, path, append([]string{"--host", "unix://" + socket}, args...)...))
	}
	return func(image, platform string) (string, error) {
		out, err := run("pull", "--platform", platform, image)
		if err != nil {
			return out, err
		}
		is, err := run("image", "inspect", "--format", "{{.Os}}/{{.Architecture}}", image)
		if err == nil && strings.TrimSpace(is) != platform {
			err = fmt.Errorf("an image for %s", is)
		}
		_, gone := run("image", "rm", "--force", image)
		return out, errors.Join(err, gone)
	}
}

// shortFolder is one with a short name, for sockets and other things that want it.
func shortFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "l")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestClientsUseTheFilesMadeForThem(t *testing.T) {
	for name, client := range containerClients {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGuest(t, name)
			v := visit{g, name, client(t, g)}
			t.Run("pull by tag and digest, for platforms, from two upstreams", v.pulls)
			t.Run("ask the upstream for what the mirror lacks only if they may", v.misses)
			t.Run("trust the mirror by its certificate", v.trusts)
		})
	}
}

// visit is a client that uses its files.
type visit struct {
	*guest
	client string
	pull   puller
}

func (v visit) pulls(t *testing.T) {
	base, tools := digestOf(v.images, "library/base", "3.20"), digestOf(v.images, "library/tools", "1")
	other := v.upstream // by its own name, which is mirrored elsewhere
	if v.client == "docker" {
		other = v.registry + "/" + strings.Replace(v.upstream, ":", "-", 1) // as client-config says
	}
	for _, p := range []struct{ image, platform, digest string }{
		{"docker.io/library/base:3.20", "linux/amd64", base},
		{"docker.io/library/base:3.20", "linux/arm64", base},
		{"docker.io/library/base@" + base, "linux/amd64", base},
		{"docker.io/library/tools:1", "linux/amd64", tools},
		{other + "/library/tools:1", "linux/amd64", tools},
		{v.registry + "/docker.io/library/base:3.20", "linux/amd64", base},
	} {
		if out, err := v.pull(p.image, p.platform); err != nil || !strings.Contains(out, p.digest) {
			t.Errorf("pull %s for %s: %v, want %s\n%s", p.image, p.platform, err, p.digest, out)
		}
	}
	if hosts := v.leaving.wanted(); len(hosts) > 0 {
		t.Errorf("while all is at the mirror, the client wanted to go to %q", hosts)
	}
}

func (v visit) misses(t *testing.T) {
	v.miss(t, v.client == "docker") // which cannot be kept from it
	if v.client != "docker" {
		v.configure(t, v.client, "--fallback")
		v.miss(t, true)
	}
}

// miss pulls what does not exist, and says whether the client should ask Docker Hub.
func (v visit) miss(t *testing.T, leaving bool) {
	t.Helper()
	if out, err := v.pull("docker.io/library/missing:1", "linux/amd64"); err == nil {
		t.Fatalf("an image that does not exist was pulled:\n%s", out)
	}
	hosts := v.leaving.wanted()
	if got := slices.ContainsFunc(hosts, func(host string) bool { return strings.HasSuffix(host, "docker.io:443") }); got != leaving {
		t.Errorf("the client wanted to go to %q; to Docker Hub: %t, want %t", hosts, got, leaving)
	}
}

func (v visit) trusts(t *testing.T) {
	if v.client == "docker" {
		t.Skip("skipped: Docker trusts whatever is on a loopback address")
	}
	front := httptest.NewUnstartedServer(httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: v.registry}))
	front.Config.ErrorLog = log.New(io.Discard, "", 0)
	front.StartTLS()
	defer front.Close()
	ca := filepath.Join(v.dir, "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	address := front.Listener.Addr().String()
	v.configure(t, v.client, "--tls", "--address", address)
	if out, err := v.pull("docker.io/library/base:3.20", "linux/amd64"); err == nil || !strings.Contains(out, "x509") {
		t.Errorf("pull from a stranger: %v\n%s", err, out)
	}
	v.configure(t, v.client, "--tls", "--address", address, "--ca", ca)
	for _, image := range []string{"docker.io/library/base:3.20", address + "/docker.io/library/base:3.20"} {
		if out, err := v.pull(image, "linux/amd64"); err != nil {
			t.Errorf("pull %s: %v\n%s", image, err, out)
		}
	}
}

func TestClientsThatHaveNoFilePullThroughThePrefix(t *testing.T) {
	t.Parallel()
	crane, regctl, oras := tool(t, "crane"), tool(t, "regctl"), tool(t, "oras")
	g := newGuest(t, "podman")
	run := func(name string, args ...string) string { return g.mustSay(t, name, args...) }
	run(regctl, "registry", "set", "--tls=disabled", g.registry)
	for _, image := range []string{"docker.io/library/base:3.20", "docker.io/library/tools:1", "other/apps/all:1", "other/artifacts/model:v1"} {
		repo, tag, _ := strings.Cut(image[strings.IndexByte(image, '/')+1:], ":")
		want := digestOf(g.images, repo, tag)
		here, _, _ := strings.Cut(g.registry+"/"+image, ":"+tag)
		for client, got := range map[string]string{
			"crane by tag":     run(crane, "digest", "--insecure", here+":"+tag),
			"crane by digest":  run(crane, "digest", "--insecure", here+"@"+want),
			"regctl by tag":    run(regctl, "image", "digest", here+":"+tag),
			"regctl by digest": run(regctl, "image", "digest", here+"@"+want),
			"oras by tag":      run(oras, "resolve", "--plain-http", here+":"+tag),
			"oras by digest":   run(oras, "resolve", "--plain-http", here+"@"+want),
		} {
			if got != want {
				t.Errorf("%s: %s is %s, want %s", client, image, got, want)
			}
		}
		run(regctl, "image", "copy", here+":"+tag, "ocidir://"+filepath.Join(t.TempDir(), "copy"))
		run(oras, "copy", "--from-plain-http", "--to-oci-layout", here+"@"+want, filepath.Join(t.TempDir(), "copy")+":x")
	}
	run(crane, "validate", "--insecure", "--remote", g.registry+"/docker.io/library/tools:amd64")
}

// mustSay is what a program that succeeds prints on standard output.
func (g *guest) mustSay(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := g.program(t, name, args...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", filepath.Base(name), strings.Join(args, " "), err, out, errs.String())
	}
	return strings.TrimSpace(string(out))
}

func TestSkopeoCopiesThroughPodmansFile(t *testing.T) {
	t.Parallel()
	skopeo := storetest.Installed(t, "skopeo")
	g := newGuest(t, "podman")
	for _, image := range []string{"docker.io/library/base:3.20", g.upstream + "/library/tools:1", g.upstream + "/apps/web:1.4"} {
		to := filepath.Join(t.TempDir(), "copy")
		g.mustSay(t, skopeo, "copy", "--quiet", "--insecure-policy", "--all", "--preserve-digests", "docker://"+image, "dir:"+to)
		raw, err := os.ReadFile(filepath.Join(to, "manifest.json"))
		if err != nil {
			t.Fatal(err)
		}
		repo, tag, _ := strings.Cut(image[strings.IndexByte(image, '/')+1:], ":")
		if got, want := digest.FromBytes(raw).String(), digestOf(g.images, repo, tag); got != want {
			t.Errorf("%s: skopeo copied %s, want %s", image, got, want)
		}
	}
	if hosts := g.leaving.wanted(); len(hosts) > 0 {
		t.Errorf("skopeo wanted to go to %q", hosts)
	}
}

func TestOrasAttachesAndDiscovers(t *testing.T) {
	t.Parallel()
	oras := tool(t, "oras")
	g := newGuest(t, "podman")
	discover := func(image string) (types []string) {
		var found struct {
			Referrers []struct {
				ArtifactType string `json:"artifactType"`
			} `json:"referrers"`
		}
		text := g.mustSay(t, oras, "discover", "--plain-http", "--format", "json", "--depth", "1", g.registry+"/"+image)
		if err := json.Unmarshal([]byte(text), &found); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		for _, r := range found.Referrers {
			types = append(types, r.ArtifactType)
		}
		slices.Sort(types)
		return types
	}

	// The upstream has no list of referrers: they came as tags.
	g.run(t, exitDone, "sync", "docker.io/library/*")
	base := g.expect("library/base", "3.20")
	var want []string
	for _, c := range base.Referrers {
		if subject, artifactType := subjectOf(t, c); subject == base.Digest.String() {
			want = append(want, artifactType)
		}
	}
	slices.Sort(want)
	if got := discover("docker.io/library/base:3.20"); len(want) == 0 || !slices.Equal(got, want) {
		t.Errorf("oras discovers %q of what was mirrored, want %q", got, want)
	}

	file := filepath.Join(g.dir, "notes.txt")
	if err := os.WriteFile(file, []byte("notes"), 0o600); err != nil {
		t.Fatal(err)
	}
	g.mustSay(t, oras, "push", "--plain-http", g.registry+"/local/app:1", "notes.txt:text/plain")
	g.mustSay(t, oras, "attach", "--plain-http", "--artifact-type", "application/vnd.example.review", g.registry+"/local/app:1", "notes.txt:text/plain")
	g.mustSay(t, oras, "attach", "--plain-http", "--artifact-type", "application/vnd.example.sbom", g.registry+"/local/app:1", "notes.txt:text/plain")
	if got, want := discover("local/app:1"), []string{"application/vnd.example.review", "application/vnd.example.sbom"}; !slices.Equal(got, want) {
		t.Errorf("oras discovers %q of what was pushed, want %q", got, want)
	}
	tags := g.mustSay(t, oras, "repo", "tags", "--plain-http", g.registry+"/local/app")
	if tags != "1" {
		t.Errorf("after pushes with a subject the tags are %q: oras believes that there is no list of referrers", tags)
	}
	if out, err := says(g.program(t, oras, "push", "--plain-http", g.registry+"/docker.io/library/app:1", "notes.txt:text/plain")); err == nil || !strings.Contains(strings.ToLower(out), "denied") {
		t.Errorf("a push to a mirror: %v\n%s", err, out)
	}
}

func (g *guest) expect(repo, tag string) sample.Expect {
	for _, e := range g.images.Expect() {
		if e.Repo == repo && e.Tag == tag {
			return e
		}
	}
	return sample.Expect{}
}

// subjectOf is what a manifest refers to, and as what.
func subjectOf(t *testing.T, c sample.Content) (subject, artifactType string) {
	t.Helper()
	var m struct {
		ArtifactType string                     `json:"artifactType"`
		Config       struct{ MediaType string } `json:"config"`
		Subject      struct{ Digest string }    `json:"subject"`
	}
	if !c.Manifest {
		return "", ""
	}
	if err := json.Unmarshal(c.Raw, &m); err != nil {
		t.Fatal(err)
	}
	return m.Subject.Digest, cmp.Or(m.ArtifactType, m.Config.MediaType)
}

func TestHelmPullsAChart(t *testing.T) {
	t.Parallel()
	helm := heavy(t, "helm")
	g := newGuest(t, "podman")
	g.mustSay(t, helm, "pull", "oci://"+g.registry+"/other/charts/web", "--version", "0.1.0", "--plain-http", "--destination", g.dir)
	got, err := os.ReadFile(filepath.Join(g.dir, "web-0.1.0.tgz"))
	if err != nil {
		t.Fatal(err)
	}
	chart := g.expect("charts/web", "0.1.0").Image
	if !slices.ContainsFunc(chart, func(c sample.Content) bool { return bytes.Equal(c.Raw, got) }) {
		t.Error("helm pulled another chart")
	}
}

func TestAHostThatIsNotConfiguredIsNeverDialled(t *testing.T) {
	t.Parallel()
	g := newGuest(t, "podman")
	var dialled atomic.Bool
	stranger := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { dialled.Store(true) }))
	defer stranger.Close()
	host := stranger.Listener.Addr().String()
	d := digestOf(g.images, "library/base", "3.20")
	for _, path := range []string{
		"library/base/manifests/3.20?ns=" + url.QueryEscape(host),
		"library/base/manifests/" + d + "?ns=" + url.QueryEscape(host),
		"library/base/blobs/" + d + "?ns=" + url.QueryEscape(host),
		"library/base/tags/list?ns=" + url.QueryEscape(host),
		"library/base/referrers/" + d + "?ns=" + url.QueryEscape(host),
		"library/base/manifests/3.20?ns=" + url.QueryEscape("http://"+host+"/"),
		"library/base/manifests/3.20?ns=docker.io%2Fx",
		"library/base/manifests/3.20?ns=docker.io&ns=" + url.QueryEscape(host),
		strings.Replace(host, ":", "-", 1) + "/library/base/manifests/3.20",
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			if code := g.status(t, method, path); code != http.StatusNotFound && !(strings.Contains(path, "&ns=") && code == http.StatusOK) {
				t.Errorf("%s %s: %d, want 404", method, path, code)
			}
		}
	}
	if dialled.Load() {
		t.Error("a host that the client named was dialled")
	}
	if code := g.status(t, http.MethodGet, "library/base/manifests/3.20?ns=docker.io"); code != http.StatusOK {
		t.Errorf("a host that is configured: %d, want 200", code)
	}
}

func (g *guest) status(t *testing.T, method, path string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+g.registry+"/v2/"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	return res.StatusCode
}
