package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lastro/store"
	"lastro/store/collect"
)

// taken is what collecting took.
type taken struct {
	Wall, CPU time.Duration
	Peak      int64 // of memory, in the whole process
	Deleted   int   // contents
}

const grace, undo = 24 * time.Hour, 72 * time.Hour

// collectHere is ours, as a process of its own: opening the folder, which a daemon
// has done long ago, does not count, but for the memory.
func collectHere(dir string, runs int, profile string) (err error) {
	var ahead time.Duration
	now := func() time.Time { return time.Now().Add(ahead) }
	s, err := store.Open(dir, store.Options{Now: now})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if profile != "" {
		f, err := os.Create(profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	var t taken
	began, cpu := time.Now(), used()
	for range runs {
		r, err := collect.Run(context.Background(), s, collect.Options{Grace: grace, Undo: undo, Now: now})
		if err != nil || r.KeptByDoubt > 0 {
			return errors.Join(err, fmt.Errorf("%d kept by doubt: %q", r.KeptByDoubt, r.Problems))
		}
		t.Deleted += r.Deleted
		ahead += undo + time.Hour
	}
	t.Wall, t.CPU = time.Since(began), used()-cpu
	t.Peak = peak(os.Getpid())
	return json.NewEncoder(os.Stdout).Encode(t)
}

// used is the processor time of this process.
func used() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u) // it does not fail
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// ours has this program collect in a process of its own.
func (b *bench) ours(data string, runs int) (t taken, err error) {
	self, err := os.Executable()
	if err != nil {
		return t, err
	}
	c := exec.Command(self, "-collect", data, "-runs", strconv.Itoa(runs))
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err != nil {
		return t, err
	}
	return t, json.Unmarshal(out, &t)
}

// theirs is distribution's.
func (b *bench) theirs(root string) (t taken, err error) {
	config := filepath.Join(b.dir, "registry.yaml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}, delete: {enabled: true}}\nhttp: {addr: \"127.0.0.1:0\"}\n", root)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return t, err
	}
	c := exec.Command(b.registry, "garbage-collect", "--delete-untagged", "--quiet", config)
	c.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	began := time.Now()
	if err := c.Start(); err != nil {
		return t, err
	}
	ended, most := make(chan struct{}), make(chan int64)
	go func() { most <- peakUntil(c.Process.Pid, ended) }()
	err = c.Wait()
	t.Wall = time.Since(began)
	close(ended)
	t.Peak = <-most
	if err != nil {
		return t, fmt.Errorf("registry garbage-collect: %w: %.500s", err, out.String())
	}
	t.CPU = c.ProcessState.UserTime() + c.ProcessState.SystemTime()
	return t, nil
}

// peak is the most memory that a process had; what the kernel says when it has ended
// counts that of who started it.
func peak(pid int) (kib int64) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	_, _ = fmt.Sscan(rest, &kib) // 0 when it has ended
	return kib << 10
}

func peakUntil(pid int, ended chan struct{}) (most int64) {
	for {
		most = max(most, peak(pid))
		select {
		case <-ended:
			return most
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// contents counts the files of content in a registry's folder.
func contents(root string) (n int, err error) {
	err = filepath.WalkDir(filepath.Join(root, "docker/registry/v2/blobs"), func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Name() == "data" {
			n++
		}
		return err
	})
	return n, err
}

func copyFolder(from, to string) error {
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

func build(to string, what ...string) error {
	c := exec.Command("go", append([]string{"build", "-o", to}, what...)...)
	c.Stderr = os.Stderr
	return c.Run()
}
