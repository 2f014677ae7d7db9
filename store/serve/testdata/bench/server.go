package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// server is a process that serves.
type server struct {
	command *exec.Cmd
	address string
}

type servers map[string]*server

// start starts the three contenders over the same folder.
func (b *bench) start() (s servers, err error) {
	data, registry := filepath.Join(b.dir, "data"), filepath.Join(b.dir, "registry")
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	err = errors.Join(b.buildLastro(), build(registry, "-modfile=.ci/tools.mod", "github.com/distribution/distribution/v3/cmd/registry"))
	if err != nil {
		return nil, err
	}
	ports, err := freeAddresses(4)
	if err != nil {
		return nil, err
	}
	ours, theirs := filepath.Join(b.dir, "lastro.yaml"), filepath.Join(b.dir, "registry.yaml")
	err = errors.Join(
		b.configure(ours, data, ports),
		os.WriteFile(theirs, fmt.Appendf(nil, "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s/registry}}\nhttp: {addr: %q}\n", data, ports[2]), 0o600),
	)
	if err != nil {
		return nil, err
	}
	s = servers{}
	return s, errors.Join(
		s.add("lastro", ports[0], b.lastro, "-c", ours, "--log-level", "warn", "serve"),
		s.add("distribution", ports[2], registry, "serve", theirs),
		s.add("files", ports[3], self, "-files", filepath.Join(data, "registry"), "-listen", ports[3]),
	)
}

func (b *bench) buildLastro() error {
	if b.lastro != "" {
		return nil
	}
	b.lastro = filepath.Join(b.dir, "lastro")
	return build(b.lastro, "./cmd/lastro")
}

// configure writes lastro's configuration.
func (b *bench) configure(file, data string, ports []string) error {
	return os.WriteFile(file, fmt.Appendf(nil, "data: %s\nregistry: {listen: %q}\nadmin: {listen: %q}\n", data, ports[0], ports[1]), 0o600)
}

func build(to string, what ...string) error {
	c := exec.Command("go", append([]string{"build", "-trimpath", "-o", to}, what...)...)
	c.Stderr = os.Stderr
	return c.Run()
}

// freeAddresses are addresses that nobody listened on a moment ago.
func freeAddresses(n int) (free []string, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		free = append(free, l.Addr().String())
	}
	return free, nil
}

// add starts a process and waits until it answers.
func (s servers) add(name, address string, args ...string) error {
	c := exec.Command(args[0], args[1:]...)
	c.Stderr = os.Stderr
	c.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		return err
	}
	s[name] = &server{c, address}
	for range 1000 {
		if r, err := http.Get("http://" + address + "/v2/"); err == nil {
			return r.Body.Close()
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("%s does not answer at %s", name, address)
}

func (s servers) stop() {
	for _, one := range s {
		_ = one.command.Process.Signal(syscall.SIGTERM)
		_ = one.command.Wait()
	}
	clear(s)
}

// tick is the kernel's unit of processor time in /proc.
const tick = 10 * time.Millisecond

// usage is the processor time that the process took so far.
func (s *server) usage() (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.command.Process.Pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	user, err := strconv.Atoi(fields[11])
	if err != nil {
		return 0, err
	}
	system, err := strconv.Atoi(fields[12])
	return time.Duration(user+system) * tick, err
}

// forgetPeak lets the process' most memory begin anew.
func (s *server) forgetPeak() error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", s.command.Process.Pid), []byte("5"), 0)
}

func (s *server) peak() (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.command.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	var kib int64
	_, err = fmt.Sscan(rest, &kib)
	return kib << 10, err
}
