package sample

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestAnotherRegistryTakesEveryImage pushes to distribution's registry in a
// process of its own.
func TestAnotherRegistryTakesEveryImage(t *testing.T) {
	base := "http://" + startDistribution(t)
	im := Generate(Options{NoReferrers: true}) // it has no referrers API
	if err := im.PushTo(t.Context(), http.DefaultClient, base); err != nil {
		t.Fatal(err)
	}
	pullAll(t, base, im.Expect())
}

func startDistribution(t *testing.T) (addr string) {
	t.Helper()
	find := exec.CommandContext(t.Context(), "go", "tool", "-n", "-modfile=.ci/tools.mod", "registry")
	find.Dir = filepath.Join("..", "..")
	path, err := find.Output()
	if err != nil {
		t.Fatalf("build the peer: %v", err)
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "registry.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: info}\nstorage: {filesystem: {rootdirectory: %q}}\nhttp: {addr: 127.0.0.1:0}\nvalidation: {manifests: {urls: {allow: ['^https?://']}}}\n", filepath.Join(dir, "data"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), strings.TrimSpace(string(path)), "serve", config)
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	return listening(t, cmd, r)
}

// listening reads the address from the registry's log, and on until its end.
func listening(t *testing.T, cmd *exec.Cmd, log *os.File) string {
	t.Helper()
	said := regexp.MustCompile(`listening on (127\.0\.0\.1:\d+)`)
	address, drained := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(drained)
		defer close(address)
		for s := bufio.NewScanner(log); s.Scan(); {
			if m := said.FindStringSubmatch(s.Text()); m != nil {
				address <- m[1]
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-drained
		_ = cmd.Wait()
		log.Close()
	})
	addr, ok := <-address
	if !ok {
		t.Fatal("the registry ended before it listened")
	}
	return addr
}
