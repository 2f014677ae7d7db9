package ledger

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"lastro/mirror"
)

// older is a ledger that an older lastro made: the first whose ledger had format
// 1 (commit 91fe6ae), or the last (c9c5b5c). Both did what grow does.
func older(t *testing.T, name string) (path string) {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name+".db.gz"))
	must(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	must(t, err)
	path = ledgerPath(t)
	out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	must(t, err)
	_, err = io.Copy(out, z)
	must(t, err)
	must(t, out.Close())
	return path
}

// grow records what the older ledgers have recorded: the last has more.
func grow(t *testing.T, l *Ledger, isLast bool) {
	t.Helper()
	const a = "docker.io/library/a"
	ctx := t.Context()
	amd, arm := image("amd", layer("shared"), layer("x")), image("arm", layer("shared"), layer("y"))
	both := index("both", amd, arm)
	signature := about(both, image("signature", layer("s")))
	signature.Descriptor.ArtifactType, signature.Annotations = "application/signature", map[string]string{"by": "us"}
	must(t, l.RecordGraph(ctx, a, []mirror.Manifest{amd, both, signature}, []digest.Digest{dig("arm")}))
	must(t, l.RecordGraph(ctx, "b", []mirror.Manifest{amd, arm, both}, nil))
	for i, e := range []Event{
		{Repo: a, Tag: "1", Event: Seen, Digest: dig("amd"), By: "sync a", Reason: "rule a"},
		{Repo: a, Tag: "1", Event: Moved, Digest: dig("both"), By: "sync a"},
		{Repo: a, Tag: "old", Event: Seen, Digest: dig("amd"), By: "sync a"},
		{Repo: a, Tag: "old", Event: Removed, By: "retain", Reason: "not among the newest 10"},
		{Repo: a, Tag: "1", Event: "alarm", By: "sync a", Reason: "ä “note”"},
		{Repo: "b", Tag: "latest", Event: Adopted, Digest: dig("both"), By: "rebuild"},
		{Repo: "b", Event: "noted", By: "somebody"},
	} {
		e.Time = at(i)
		must(t, l.RecordEvent(ctx, e))
	}
	var many []Event
	for i := range 300 {
		many = append(many, Event{Time: at(0).AddDate(0, 0, -i), Repo: "many", Tag: fmt.Sprint(i % 7), Event: Moved, Digest: dig(fmt.Sprint(i % 3)), By: "restore"})
	}
	must(t, l.ImportEvents(ctx, many))
	must(t, l.RecordReferrersChecked(ctx, a, at(7), dig("both")))
	must(t, l.RecordHeld(ctx, "main", []digest.Digest{dig("shared"), dig("x")}))
	must(t, l.RecordJob(ctx, Job{Name: "sync a", Started: at(1), Ended: at(2), LastOK: at(2), Result: json.RawMessage(`{"images":2}`)}))
	must(t, l.RecordJob(ctx, Job{Name: "backup main", Started: at(3), Err: "no space left"}))
	if !isLast {
		return
	}
	must(t, l.RecordUpstream(ctx, a, at(8), []string{"1"}, []digest.Digest{dig("both"), dig("amd")}))
	must(t, l.RecordProtection(ctx, Protection{Name: "release", Repo: a, Digest: dig("both"), Tag: "1", Owner: "me", Reason: "shipped", Created: at(9), Expires: at(23)}))
	l.NotePull(a, "1", dig("both"), at(10))
	must(t, l.FlushPulls(ctx))
}

// facts is what a ledger says, without reviews: older ones had none.
func facts(t *testing.T, l *Ledger) map[string]string {
	t.Helper()
	all := dump(t, l)
	maps.DeleteFunc(all, func(k, _ string) bool { return strings.HasPrefix(k, "review/") || strings.HasPrefix(k, "due/") })
	return all
}

func TestALedgerOfAnOlderLastroHasAllItsFactsAndWhatIsNew(t *testing.T) {
	for _, c := range []struct {
		name    string
		isLast  bool
		unclean bool
	}{
		{"format-1-first", false, false},
		{"format-1-first-crashed", false, true},
		{"format-1-last", true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := func() time.Time { return at(20) }
			fresh := mustOpen(t, ledgerPath(t), Options{Now: now})
			grow(t, fresh, c.isLast)
			path := older(t, c.name)
			for _, unclean := range []bool{c.unclean, false} { // and again, when it is not old any more
				l := mustOpen(t, path, Options{Now: now})
				if l.Unclean() != unclean {
					t.Errorf("unclean is %v, want %v", l.Unclean(), unclean)
				}
				if diff := cmp.Diff(facts(t, fresh), facts(t, l)); diff != "" {
					t.Fatalf("-made now +opened now\n%s", diff)
				}
				checkWhole(t, l)
				if got, err := l.Check(t.Context()); err != nil || len(got.Problems) > 0 {
					t.Errorf("a check finds %v, %v", got.Problems, err)
				}
				must(t, l.Close())
			}
		})
	}
}

func TestACrashWhileAnOlderLedgerIsUpgradedLeavesItOldOrNew(t *testing.T) {
	now := func() time.Time { return at(20) }
	want := mustOpen(t, older(t, "format-1-first"), Options{Now: now})
	for stop := 1; ; stop++ {
		path, crashed, n := older(t, "format-1-first"), "", 0
		l, err := Open(path, Options{Now: now, committed: func() {
			if n++; n == stop {
				c, err := copyOf(path)
				must(t, err)
				crashed = c.write(t)
			}
		}})
		must(t, err)
		must(t, l.Close())
		if crashed == "" {
			if stop == 1 {
				t.Error("an upgrade wrote nothing")
			}
			return
		}
		again := mustOpen(t, crashed, Options{Now: now})
		if diff := cmp.Diff(facts(t, want), facts(t, again)); diff != "" {
			t.Errorf("after transaction %d: %s", stop, diff)
		}
		must(t, again.Close())
	}
}
