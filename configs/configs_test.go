package configs

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	update = flag.Bool("update", false, "write golden files")
	long   = flag.Bool("long", false, "test with more and larger input")
)

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

// variables are an environment.
type variables map[string]string

func (v variables) get(name string) (string, bool) {
	value, ok := v[name]
	return value, ok
}

func loadText(text string, env variables) (*Config, error) {
	return load("lastro.yaml", []byte(text), env.get)
}

func mustLoad(t *testing.T, text string, env variables) *Config {
	t.Helper()
	cfg, err := loadText(text, env)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func shown(t *testing.T, cfg *Config) string {
	t.Helper()
	var b strings.Builder
	if err := cfg.Show(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// write makes a file in a folder of the test's own.
func write(t *testing.T, name, content string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
