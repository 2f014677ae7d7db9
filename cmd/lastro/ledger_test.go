package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestTheDaemonCopiesTheLedgerThatItHasOpen(t *testing.T) {
	b, _ := sampleBench(t)
	b.run(t, exitDone, "sync")
	before := b.run(t, exitDone, "history", "mirror/apps/web:latest")
	daemon := b.serve(t)
	copying := b.command(t, "ledger", "copy", "copy.db")
	copying.Dir = t.TempDir() // where the person is, not the daemon
	if out, err := copying.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := daemon.end(syscall.SIGTERM); err != nil {
		t.Fatalf("%v\n%s", err, daemon.output())
	}
	if err := os.Rename(filepath.Join(copying.Dir, "copy.db"), filepath.Join(b.data(), "ledger.db")); err != nil {
		t.Fatal(err)
	}
	if after := b.run(t, exitDone, "history", "mirror/apps/web:latest"); after != before {
		t.Errorf("got\n%s\nwant\n%s", after, before)
	}
	b.run(t, exitDone, "check")
}
