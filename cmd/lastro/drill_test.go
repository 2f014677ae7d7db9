package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestADrillThatWasKilledLeavesNothingForLong(t *testing.T) {
	b, _ := sampleBench(t)
	left := filepath.Join(b.data(), "drill/registry/half")
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	b.serve(t)
	if _, err := os.Stat(filepath.Dir(filepath.Dir(left))); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is there still: %v", err)
	}
}

// TestADaemonWaitsForTheFirstBackup has a vault without a snapshot, and none at all.
func TestADaemonWaitsForTheFirstBackup(t *testing.T) {
	for _, init := range []bool{true, false} {
		t.Run(fmt.Sprintf("a vault is there %t", init), func(t *testing.T) { waitsForTheFirstBackup(t, init) })
	}
}

func waitsForTheFirstBackup(t *testing.T, init bool) {
	b, _ := sampleBench(t)
	if init {
		b.run(t, exitDone, "backup", "init")
	}
	text, err := os.ReadFile(b.config())
	if err != nil {
		t.Fatal(err)
	}
	text = append(bytes.TrimRight(bytes.Replace(text, []byte("{name: main,"), []byte("{name: main, every: never,"), 1), "\n"), '\n')
	if err := os.WriteFile(b.config(), text, 0o600); err != nil {
		t.Fatal(err)
	}
	daemon := start(t, b.command(t, "serve", "--log-level", "info"))
	for _, job := range []string{"drill main", "verify main"} {
		daemon.wait(t, `msg="job goes on later" job="`+job+`" .* because="there was no backup yet"`)
	}
	if out := b.run(t, exitDone, "status"); strings.Contains(out, "last verify") || strings.Contains(out, "last drill") {
		t.Errorf("it is no failure:\n%s", out)
	}
	b.run(t, exitError, "backup", "drill")
}
