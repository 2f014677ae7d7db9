package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// registry is a process of distribution's registry.
type registry struct {
	addr string
	cmd  *exec.Cmd
	done chan error
}

// startRegistry serves a folder. The settings are those of distribution's own
// container image, without its logs. The caller stops it.
func startRegistry(ctx context.Context, binary, folder string) (*registry, error) {
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	config := folder + ".yml"
	text := fmt.Sprintf(`version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage:
  cache: {blobdescriptor: inmemory}
  filesystem: {rootdirectory: %q}
http: {addr: %q}
validation: {manifests: {urls: {allow: ['^https?://']}, indexes: {platforms: none}}}
`, folder, addr)
	if err := os.MkdirAll(filepath.Dir(folder), 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	r := &registry{addr: addr, cmd: exec.CommandContext(ctx, binary, "serve", config), done: make(chan error, 1)}
	r.cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	var said bytes.Buffer
	r.cmd.Stdout, r.cmd.Stderr = &said, &said
	if err := r.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { r.done <- r.cmd.Wait() }()
	if err := r.ready(ctx); err != nil {
		r.stop()
		return nil, fmt.Errorf("%w: %s", err, tail(said.String()))
	}
	return r, nil
}

// ready waits until the registry answers.
func (r *registry) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.addr+"/v2/", nil)
		if err != nil {
			return err
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			return resp.Body.Close()
		}
		select {
		case err := <-r.done:
			r.done <- err
			return fmt.Errorf("the registry ended: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("the registry does not answer: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// used is what it took so far; zero for no registry.
func (r *registry) used() (usage, error) {
	if r == nil {
		return usage{}, nil
	}
	return usageOf(r.cmd.Process.Pid)
}

// stop ends the process and waits for it.
func (r *registry) stop() {
	_ = r.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-r.done:
	case <-time.After(5 * time.Second):
		_ = r.cmd.Process.Kill()
		<-r.done
	}
}

// freeAddress is a loopback address that nothing listens on just now.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
