package clients_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"lastro/cmd/lastro/internal/clients"
)

var update = flag.Bool("update", false, "write golden files")

// golden compares with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (rewrite with -update):\n%s", path, diff)
	}
}

// printed is everything of a client's files.
func printed(c clients.Config) string {
	var b strings.Builder
	for _, f := range c.Files {
		fmt.Fprintf(&b, "-- %s/%s --\n%s", c.Folder, f.Path, f.Content)
	}
	fmt.Fprintf(&b, "-- notes --\n%s\n", strings.Join(c.Notes, "\n"))
	return b.String()
}

func docker(s clients.Site) clients.Config {
	c, err := clients.Docker(s, nil)
	if err != nil {
		panic(err)
	}
	return c
}

var (
	makers = map[string]func(clients.Site) clients.Config{
		"docker": docker, "containerd": clients.Containerd, "podman": clients.Podman, "k3s": clients.K3s,
	}
	// hosts are in no order, and one of them is there twice.
	hosts = []clients.Host{{Name: "registry.example.com:5000", PlainHTTP: true}, {Name: "ghcr.io"}, {Name: "docker.io"}, {Name: "ghcr.io"}}
	sites = map[string]clients.Site{
		"closed":       {Address: "192.0.2.7:5000", Hosts: hosts, Default: "docker.io"},
		"fallback":     {Address: "192.0.2.7:5000", Hosts: hosts, Default: "docker.io", Fallback: true},
		"tls":          {Address: "mirror.example.com", TLS: true, CA: "-----BEGIN CERTIFICATE-----\n", Hosts: hosts, Default: "docker.io"},
		"tls-fallback": {Address: "mirror.example.com", TLS: true, CA: "-----BEGIN CERTIFICATE-----\n", Hosts: hosts, Default: "docker.io", Fallback: true},
		"no-hub":       {Address: "mirror.example.com", TLS: true, Hosts: []clients.Host{{Name: "ghcr.io"}}, Default: "docker.io"},
	}
)

func TestFilesAreGolden(t *testing.T) {
	for client, maker := range makers {
		for site, s := range sites {
			golden(t, client+"-"+site+".golden", printed(maker(s)))
		}
	}
}

// k3s's own types of its registries.yaml, as far as they are written.
type registries struct {
	Mirrors map[string]struct {
		Endpoints []string `yaml:"endpoint"`
	} `yaml:"mirrors"`
	Configs map[string]struct {
		TLS struct {
			CAFile string `yaml:"ca_file"`
		} `yaml:"tls"`
	} `yaml:"configs"`
}

func TestRegistriesYAMLSaysWhatK3sReads(t *testing.T) {
	var got registries
	if err := yaml.UnmarshalWithOptions([]byte(clients.K3s(sites["tls-fallback"]).Files[0].Content), &got, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	if got.Mirrors["docker.io"].Endpoints[0] != "https://mirror.example.com" || got.Configs["mirror.example.com"].TLS.CAFile != "/etc/rancher/k3s/lastro-ca.crt" {
		t.Errorf("registries.yaml: %+v", got)
	}
	if own := clients.K3s(sites["closed"]).Files[0].Content; !strings.Contains(own, `"192.0.2.7:5000":`) {
		t.Errorf("k3s is not told that the mirror has no TLS:\n%s", own)
	}
	if diff := cmp.Diff([]string{"https://mirror.example.com", "http://registry.example.com:5000"}, got.Mirrors["registry.example.com:5000"].Endpoints); diff != "" {
		t.Errorf("an upstream without TLS is an endpoint, because the default one has TLS:\n%s", diff)
	}
}

func TestNoFileWithoutFallbackNamesTheUpstreamAsAPlaceToAsk(t *testing.T) {
	for client, maker := range makers {
		for _, f := range maker(sites["closed"]).Files {
			if strings.Contains(f.Content, "registry-1.docker.io") || strings.Contains(f.Content, "http://registry.example.com") || strings.Contains(f.Content, "https://") {
				t.Errorf("%s: %s:\n%s", client, f.Path, f.Content)
			}
		}
	}
}

func TestDockersSettingsAreKept(t *testing.T) {
	for _, test := range []struct{ name, existing, want, refused string }{
		{
			name:     "other settings stay as they are, numbers and all",
			existing: `{"max-concurrent-downloads": 10, "default-ulimits": {"nofile": {"Hard": 1e5}}, "log-opts": {"tag": "<&>"}}`,
			want:     `{"max-concurrent-downloads": 10, "default-ulimits": {"nofile": {"Hard": 1e5}}, "log-opts": {"tag": "<&>"}, "insecure-registries": ["192.0.2.7:5000"], "registry-mirrors": ["http://192.0.2.7:5000"]}`,
		},
		{
			name:     "other mirrors stay, and come first",
			existing: `{"registry-mirrors": ["https://other.example.com"], "insecure-registries": ["10.0.0.0/8"]}`,
			want:     `{"registry-mirrors": ["https://other.example.com", "http://192.0.2.7:5000"], "insecure-registries": ["10.0.0.0/8", "192.0.2.7:5000"]}`,
		},
		{
			name:     "what is there already is not added again",
			existing: `{"registry-mirrors": ["http://192.0.2.7:5000"], "insecure-registries": ["192.0.2.7:5000"]}`,
			want:     `{"registry-mirrors": ["http://192.0.2.7:5000"], "insecure-registries": ["192.0.2.7:5000"]}`,
		},
		{name: "what is no JSON is refused", existing: "{,}", refused: "invalid character"},
		{name: "an empty file is refused", existing: "", refused: "unexpected end"},
		{name: "null is refused", existing: "null", refused: "no JSON object"},
		{name: "a list that is none is refused", existing: `{"registry-mirrors": "x"}`, refused: "registry-mirrors"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := clients.Docker(sites["closed"], []byte(test.existing))
			if test.refused != "" {
				if err == nil || !strings.Contains(err.Error(), test.refused) {
					t.Errorf("got error %v, want one with %q", err, test.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(decoded(t, test.want), decoded(t, c.Files[0].Content)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// decoded keeps numbers as they are written.
func decoded(t *testing.T, text string) (v map[string]any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
	return v
}

var (
	never  = func(string) bool { return false }
	always = func(string) bool { return true }
)

func TestWrittenFilesAreWhatWasMade(t *testing.T) {
	dir := t.TempDir()
	c := clients.Containerd(sites["tls"])
	written, err := c.Write(dir, never)
	if err != nil || len(written) != len(c.Files) {
		t.Fatalf("wrote %q (%v), want %d files", written, err, len(c.Files))
	}
	for _, f := range c.Files {
		path := filepath.Join(dir, f.Path)
		got, err := os.ReadFile(path)
		if err != nil || string(got) != f.Content {
			t.Errorf("%s: %v: %s", f.Path, err, got)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o644 {
			t.Errorf("%s: mode %v (%v), want 0644", f.Path, info.Mode(), err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "certs.d", "*", ".*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	if written, err := c.Write(dir, never); err != nil || len(written) > 0 {
		t.Errorf("wrote %q (%v) again", written, err)
	}
}

func TestOtherContentStopsEverything(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "certs.d", "ghcr.io", "hosts.toml")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("# mine\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := clients.Containerd(sites["closed"])
	if _, err := c.Write(dir, never); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("got error %v, want that %s exists", err, path)
	}
	if all, _ := filepath.Glob(filepath.Join(dir, "certs.d", "*")); len(all) != 1 {
		t.Errorf("written although one file was refused: %q", all)
	}
	if written, err := c.Write(dir, always); err != nil || len(written) != 4 {
		t.Errorf("with leave to replace it wrote %q (%v), want four files", written, err)
	}
}

func TestWhatCannotBeReadIsNotReplaced(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "registries.yaml", "a folder")
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := clients.K3s(sites["closed"]).Write(dir, always); err == nil {
		t.Error("a folder was replaced by a file")
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}
