package main

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestNightlyIsOnceADayAtATimeOfEachDaemonsOwn(t *testing.T) {
	seen := map[time.Duration]bool{}
	for _, who := range []string{"a", "b", "c", "d"} {
		next, at := nightly(who), time.Date(2026, 3, 1, 12, 0, 0, 0, time.Local)
		for range 400 {
			due := next(at)
			since := due.Sub(time.Date(due.Year(), due.Month(), due.Day(), 3, 0, 0, 0, time.Local))
			if since < 0 || since >= time.Hour || due.Sub(at) <= 0 || due.Sub(at) > 26*time.Hour {
				t.Fatalf("after %s comes %s", at, due)
			}
			seen[since], at = true, due
		}
	}
	if len(seen) != 4 {
		t.Errorf("four daemons have %d times", len(seen))
	}
}

// damageLedger writes over what an event says, where the file is whole but
// cannot be right.
func damageLedger(t *testing.T, b *bench) {
	t.Helper()
	path := filepath.Join(b.data(), "ledger.db")
	all, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	broken := bytes.ReplaceAll(all, []byte(`"event":"seen"`), []byte(`"event":!seen"`))
	if bytes.Equal(all, broken) {
		t.Fatal("there is no event in the file")
	}
	if err := os.WriteFile(path, broken, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestADamagedLedgerIsSaidWhereverSomebodyLooks(t *testing.T) {
	b, _ := sampleBench(t)
	b.run(t, exitDone, "sync")
	if out := b.run(t, exitDone, "ledger", "check"); !strings.Contains(out, ", 0 problems") {
		t.Errorf("a ledger that is right: %s", out)
	}
	damageLedger(t, b)
	daemon := start(t, b.command(t, "serve", "--log-level", "info"))
	admin := daemon.wait(t, `msg="lastro serves".* admin=(\S+)`)[1]
	if out := b.run(t, exitDifference, "ledger", "check"); !strings.Contains(out, "problem: event ") || strings.Contains(out, " 0 problems") {
		t.Errorf("the verb says: %s", out)
	}
	daemon.wait(t, `msg="the ledger has problems" job="check ledger" problems=[1-9].* next="stop lastro`)
	if out := b.run(t, exitDone, "status"); !strings.Contains(out, "problem: ledger: the check of ") || !strings.Contains(out, "lastro rebuild") {
		t.Errorf("status says: %s", out)
	}
	_, metrics := get(t, "http://"+admin+"/metrics")
	if line := `lastro_job_last_failed_items{kind="check",name="ledger"} `; !strings.Contains(metrics, line) || strings.Contains(metrics, line+"0\n") {
		t.Errorf("/metrics has no problems under %s", line)
	}
	if code, _ := get(t, "http://"+admin+"/healthz"); code != http.StatusOK {
		t.Errorf("/healthz: %d", code)
	}
	if err := daemon.end(syscall.SIGTERM); err != nil {
		t.Errorf("%v\n%s", err, daemon.output())
	}
	if _, err := os.Stat(filepath.Join(b.data(), "ledger.db.check")); !os.IsNotExist(err) {
		t.Errorf("the copy that was checked is left: %v", err)
	}
}

func TestTheDaemonChecksItsLedgerByItself(t *testing.T) {
	b, _ := sampleBench(t)
	daemon := start(t, b.command(t, "serve", "--log-level", "info"))
	daemon.wait(t, `msg="ledger checked" job="check ledger" bytes=[1-9]\d* problems=0`)
	if err := daemon.end(syscall.SIGTERM); err != nil {
		t.Errorf("%v\n%s", err, daemon.output())
	}
}
