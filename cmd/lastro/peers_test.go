package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// tool builds a peer that comes as a Go module and returns the path of its binary.
func tool(t *testing.T, name string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "tool", "-n", "-modfile=.ci/tools.mod", name)
	cmd.Dir = filepath.Join("..", "..")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("build the peer %s: %v", name, err)
	}
	return strings.TrimSpace(string(out))
}

// child is a process that the test started and ends.
type child struct {
	cmd *exec.Cmd

	mu    sync.Mutex
	lines []string
	found map[*regexp.Regexp]chan []string
	done  chan struct{}
}

// start runs a command whose output is read line by line. It is killed when
// the test ends, if it still runs.
func start(t *testing.T, cmd *exec.Cmd) *child {
	t.Helper()
	c := &child{cmd: cmd, found: map[*regexp.Regexp]chan []string{}, done: make(chan struct{})}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	go c.read(r)
	t.Cleanup(func() { c.end(syscall.SIGKILL) })
	return c
}

func (c *child) read(r *os.File) {
	defer close(c.done)
	defer r.Close()
	s := bufio.NewScanner(r)
	for s.Scan() {
		c.mu.Lock()
		c.lines = append(c.lines, s.Text())
		for re, ch := range c.found {
			if m := re.FindStringSubmatch(s.Text()); m != nil {
				ch <- m
				delete(c.found, re)
			}
		}
		c.mu.Unlock()
	}
}

// wait returns the groups of the first line that matches.
func (c *child) wait(t *testing.T, pattern string) []string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	ch := make(chan []string, 1)
	c.mu.Lock()
	for _, line := range c.lines {
		if m := re.FindStringSubmatch(line); m != nil {
			c.mu.Unlock()
			return m
		}
	}
	c.found[re] = ch
	c.mu.Unlock()
	select {
	case m := <-ch:
		return m
	case <-c.done:
		t.Fatalf("%s ended without saying %q:\n%s", c.cmd.Path, pattern, c.output())
	case <-time.After(time.Minute):
		t.Fatalf("%s has not said %q:\n%s", c.cmd.Path, pattern, c.output())
	}
	return nil
}

func (c *child) output() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.lines, "\n")
}

// end sends a signal and waits until the process is gone.
func (c *child) end(sig syscall.Signal) error {
	_ = c.cmd.Process.Signal(sig)
	<-c.done
	return c.cmd.Wait()
}

// startRegistry runs distribution's own registry on an empty folder.
func startRegistry(t *testing.T) (addr string) {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "registry.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: info}\nstorage: {filesystem: {rootdirectory: %q}, delete: {enabled: true}}\nhttp: {addr: 127.0.0.1:0}\nvalidation: {manifests: {urls: {allow: ['^https?://']}, indexes: {platforms: none}}}\n", filepath.Join(dir, "data"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(tool(t, "registry"), "serve", config)
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	return start(t, cmd).wait(t, `listening on (127\.0\.0\.1:\d+)`)[1]
}

// startGateway runs versitygw, an S3 server, on an empty folder with one bucket.
func startGateway(t *testing.T, bucket string) (endpoint string) {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"data", "versions", filepath.Join("data", bucket)} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	addr := freeAddress(t)
	cmd := exec.Command(tool(t, "versitygw"), "--port", addr, "posix", "--versioning-dir", filepath.Join(dir, "versions"), filepath.Join(dir, "data"))
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY=access", "ROOT_SECRET_KEY=secretsecret")
	start(t, cmd)
	untilAnswers(t, "http://"+addr+"/")
	return "http://" + addr
}

// freeAddress is a loopback address that nothing listens on just now.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// untilAnswers waits until something speaks HTTP there.
func untilAnswers(t *testing.T, url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err == nil {
			res.Body.Close()
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("nothing answers at %s: %v", url, err)
		}
	}
}
