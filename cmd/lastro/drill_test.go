package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
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

func TestADaemonWithNothingToDrillWithSaysSo(t *testing.T) {
	b, _ := sampleBench(t)
	b.run(t, exitDone, "backup", "init")
	text, err := os.ReadFile(b.config())
	if err != nil {
		t.Fatal(err)
	}
	text = append(bytes.TrimRight(bytes.Replace(text, []byte("{name: main,"), []byte("{name: main, every: never,"), 1), "\n"), '\n')
	if err := os.WriteFile(b.config(), text, 0o600); err != nil {
		t.Fatal(err)
	}
	daemon := start(t, b.command(t, "serve", "--log-level", "info"))
	daemon.wait(t, `msg="nothing to drill with: there was no backup yet" job="drill main"`)
	b.run(t, exitError, "backup", "drill")
}
