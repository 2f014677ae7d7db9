package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cost is what a run took.
type cost struct {
	Wall     float64 `json:"wall_seconds"`
	CPU      float64 `json:"cpu_seconds"`
	Memory   int64   `json:"peak_bytes"` // of the largest process
	Upstream float64 `json:"upstream_cpu_seconds"`

	wrong []string // tags that are not as upstream
}

func (c *cost) add(u usage) {
	c.CPU += u.CPU.Seconds()
	c.Memory = max(c.Memory, u.Memory)
}

// usage is what one process took so far.
type usage struct {
	CPU    time.Duration
	Memory int64 // the most that it had
}

// runAll runs commands one after the other, and adds up what they took.
func runAll(ctx context.Context, commands [][]string) (cost, error) {
	var sum cost
	began := time.Now()
	for _, args := range commands {
		took, err := runOne(ctx, args)
		if err != nil {
			return cost{}, fmt.Errorf("%s: %w", strings.Join(args, " "), err)
		}
		sum.add(took)
	}
	sum.Wall = time.Since(began).Seconds()
	return sum, nil
}

// runOne has this program, started anew, run a command: what the kernel says
// of a process' memory begins with that of the one that started it.
func runOne(ctx context.Context, args []string) (took usage, err error) {
	self, err := os.Executable()
	if err != nil {
		return usage{}, err
	}
	c := exec.CommandContext(ctx, self, append([]string{"-run", "--"}, args...)...)
	var said bytes.Buffer
	c.Stderr = &said
	out, err := c.Output()
	if err != nil {
		return usage{}, fmt.Errorf("%w: %s", err, tail(said.String()))
	}
	return took, json.Unmarshal(out, &took)
}

// launch runs a command, and prints what it took. The command ends with this
// process, however that ends.
func launch(args []string) error {
	runtime.LockOSThread() // whose end would be taken for the process'
	c := exec.Command(args[0], args[1:]...)
	c.Stdout, c.Stderr = os.Stderr, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.Run(); err != nil {
		return err
	}
	kernel := c.ProcessState.SysUsage().(*syscall.Rusage)
	return json.NewEncoder(os.Stdout).Encode(usage{c.ProcessState.UserTime() + c.ProcessState.SystemTime(), kernel.Maxrss << 10})
}

// tail is the end of what a program said.
func tail(text string) string {
	const most = 2000
	return text[max(0, len(text)-most):]
}

// tick is the kernel's unit of processor time in /proc.
const tick = 10 * time.Millisecond

// usageOf is what a running process took.
func usageOf(pid int) (u usage, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return usage{}, err
	}
	if u.CPU, err = parseStat(string(stat)); err != nil {
		return usage{}, err
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return usage{}, err
	}
	u.Memory, err = parseStatus(string(status))
	return u, err
}

// parseStat adds user and system time. The name before them, in parentheses,
// may hold anything.
func parseStat(stat string) (time.Duration, error) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	const user, system = 11, 12 // fields 14 and 15 of proc(5)
	if len(fields) <= system {
		return 0, fmt.Errorf("stat of a process has %d fields", len(fields))
	}
	u, err := strconv.ParseInt(fields[user], 10, 64)
	if err != nil {
		return 0, err
	}
	s, err := strconv.ParseInt(fields[system], 10, 64)
	return time.Duration(u+s) * tick, err
}

// parseStatus finds the most memory that a process had.
func parseStatus(status string) (int64, error) {
	_, rest, _ := strings.Cut(status, "VmHWM:")
	var kib int64
	_, err := fmt.Sscan(rest, &kib)
	return kib << 10, err
}
