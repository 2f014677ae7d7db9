package push

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"lastro/mirror/sample"
	"lastro/store/storetest"
)

// command runs a client, in a folder of its own, and returns what it says.
func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "HOME="+cmd.Dir, "DOCKER_CONFIG="+cmd.Dir)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v: %s%s", filepath.Base(name), args, err, out, errs.String())
	}
	return string(out)
}

// filled is another registry, with images of every kind.
func filled(t *testing.T) *sample.Registry {
	t.Helper()
	r, err := sample.Start(sample.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	if _, err := r.Fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestRealClientsPush copies images of every kind with each client, from another
// registry to this one, and then reads them back.
func TestRealClientsPush(t *testing.T) {
	t.Parallel()
	upstream := filled(t)
	for _, c := range []struct {
		name      string
		referrers bool
		not       string // what the client itself cannot copy
		find      func(t testing.TB, name string) string
		args      func(from, to string) []string
	}{
		{"crane", false, "", tool, func(from, to string) []string { return []string{"copy", "--insecure", from, to} }},
		{"skopeo", false, "apps/all", storetest.Installed, func(from, to string) []string {
			return []string{"copy", "--insecure-policy", "--all", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false", "docker://" + from, "docker://" + to}
		}},
		{"regctl", true, "", tool, func(from, to string) []string {
			return []string{"--host", "reg=" + host(from) + ",tls=disabled", "--host", "reg=" + host(to) + ",tls=disabled", "image", "copy", "--referrers", "--digest-tags", from, to}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := c.find(t, c.name)
			address := registry(t, newClient(t, storetest.Folder(t), everybody()).store, everybody())
			for _, e := range upstream.Expect() {
				if e.Attached || e.Repo == c.not || e.Repo == "apps/web" && e.Tag != "latest" {
					continue
				}
				name := e.Repo + ":" + e.Tag
				command(t, client, c.args(upstream.Addr()+"/"+name, address+"/"+name)...)
				got, err := sample.Pull(t.Context(), "http://"+address, e.Repo, e.Tag)
				if !c.referrers {
					e.Referrers = nil
				}
				if err == nil {
					err = e.Check(got)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func host(image string) string {
	h, _, _ := strings.Cut(image, "/")
	return h
}

func TestAnArchiveIsPushed(t *testing.T) {
	t.Parallel()
	upstream := filled(t)
	crane, archive := tool(t, "crane"), filepath.Join(t.TempDir(), "image.tar")
	address := registry(t, newClient(t, storetest.Folder(t), everybody()).store, everybody())
	command(t, crane, "pull", "--insecure", upstream.Addr()+"/library/tools:amd64", archive)
	command(t, crane, "push", "--insecure", archive, address+"/local/tools:v1")
	if _, err := sample.Pull(t.Context(), "http://"+address, "local/tools", "v1"); err != nil {
		t.Error(err)
	}
}

func TestAnArtifactIsAttachedAndDiscovered(t *testing.T) {
	t.Parallel()
	oras := tool(t, "oras")
	c := newClient(t, storetest.Folder(t), everybody())
	c.push("local/app", "v1", "app")
	image := registry(t, c.store, everybody()) + "/local/app:v1"
	file := filepath.Join(t.TempDir(), "sbom.json")
	if err := os.WriteFile(file, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	command(t, oras, "attach", "--plain-http", "--disable-path-validation", "--artifact-type", "application/vnd.example.sbom", image, file)
	if said := command(t, oras, "discover", "--plain-http", "--format", "json", image); !strings.Contains(said, "application/vnd.example.sbom") {
		t.Errorf("discovered %s", said)
	}
	if tags := command(t, oras, "repo", "tags", "--plain-http", strings.TrimSuffix(image, ":v1")); strings.TrimSpace(tags) != "v1" {
		t.Errorf("the referrer has a fallback tag: %q", tags)
	}
}
