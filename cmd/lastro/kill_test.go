package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lastro/mirror/sample"
	"lastro/store"
	"lastro/store/vault"
)

// killPoints is at about how many steps of a verb the short tests end the process.
const killPoints = 8

// TestAKillAtAnyStepLeavesOnlyWholeImages ends lastro with SIGKILL just before
// each change on disk or in a bucket: everything visible must be whole, and the
// next run must complete.
func TestAKillAtAnyStepLeavesOnlyWholeImages(t *testing.T) {
	upstream, err := sample.Start(sample.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = upstream.Close() })
	if _, err := upstream.Fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	const from = "{library/tools,apps/web,artifacts/model}"
	var want []sample.Expect
	for _, e := range upstream.Expect() {
		if strings.Contains(from, e.Repo) {
			want = append(want, e)
		}
	}
	fresh := func(t *testing.T) *bench {
		b := newBench(t, upstream.Addr())
		b.configure(t, from)
		return b
	}
	t.Run("of a sync", func(t *testing.T) {
		atEachStep(t, fresh, []string{"sync"}, func(t *testing.T, b *bench) {
			b.run(t, exitDone, "sync")
			holds(t, b, want)
		})
	})
	t.Run("of a backup", func(t *testing.T) {
		synced := func(t *testing.T) *bench {
			b := fresh(t)
			b.run(t, exitDone, "sync")
			return b
		}
		atEachStep(t, synced, []string{"backup"}, func(t *testing.T, b *bench) {
			b.run(t, exitDone, "backup")
			b.run(t, exitDone, "backup", "verify")
			if err := os.RemoveAll(b.data()); err != nil {
				t.Fatal(err)
			}
			b.run(t, exitDone, "restore")
			holds(t, b, want)
		})
	})
	t.Run("of a prune", func(t *testing.T) {
		forgotten := func(t *testing.T) *bench {
			b := fresh(t)
			b.run(t, exitDone, "sync")
			b.run(t, exitDone, "backup")
			var list vault.Listing
			b.read(t, &list, "backup", "list")
			if err := os.RemoveAll(b.data()); err != nil {
				t.Fatal(err)
			}
			b.run(t, exitDone, "restore", "mirror/library/*")
			b.run(t, exitDone, "backup")
			b.run(t, exitDone, "backup", "forget", "--allow-last", "--snapshot", list.Snapshots[0].ID)
			return b
		}
		atEachStep(t, forgotten, []string{"backup", "prune", "--grace", "0s", "--min-age", "0s", "--max-removals", "100%"}, func(t *testing.T, b *bench) {
			b.run(t, exitDone, "backup", "verify", "--all")
			kept := visibleIsWhole(t, b)
			if err := os.RemoveAll(b.data()); err != nil {
				t.Fatal(err)
			}
			b.run(t, exitDone, "restore")
			if diff := cmp.Diff(kept, visibleIsWhole(t, b)); diff != "" {
				t.Error(diff)
			}
		})
	})
	t.Run("of a restore", func(t *testing.T) {
		lost := func(t *testing.T) *bench {
			b := fresh(t)
			b.run(t, exitDone, "sync")
			b.run(t, exitDone, "backup")
			if err := os.RemoveAll(b.data()); err != nil {
				t.Fatal(err)
			}
			return b
		}
		atEachStep(t, lost, []string{"restore"}, func(t *testing.T, b *bench) {
			b.run(t, exitDone, "restore")
			holds(t, b, want)
		})
	})
}

// atEachStep runs a verb that is killed at a step, for many steps, each time on
// what prepare makes.
func atEachStep(t *testing.T, prepare func(*testing.T) *bench, verb []string, then func(*testing.T, *bench)) {
	t.Helper()
	first := prepare(t)
	steps := countSteps(t, first.clone(t), verb)
	if steps < killPoints {
		t.Fatalf("lastro %s has only %d steps: the fault point is not where the changes are", verb, steps)
	}
	stride := max(steps/killPoints, 1)
	if *long {
		stride = 1
	}
	// Runs differ by a few steps, because syncs that are due together are one.
	for at := 1; at <= steps-steps/20; at += stride {
		t.Run("before step "+strconv.Itoa(at)+" of "+strconv.Itoa(steps), func(t *testing.T) {
			t.Parallel()
			b := first.clone(t)
			cmd := b.command(t, verb...)
			cmd.Env = append(cmd.Env, "LASTRO_TEST_KILL_AT="+strconv.Itoa(at))
			out, err := cmd.CombinedOutput()
			if !wasKilled(err) {
				t.Fatalf("the process was not killed: %v\n%s", err, out)
			}
			visibleIsWhole(t, b)
			then(t, b)
		})
	}
}

func wasKilled(err error) bool {
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signal() == syscall.SIGKILL
}

func countSteps(t *testing.T, b *bench, verb []string) int {
	t.Helper()
	file := filepath.Join(b.dir, "steps")
	cmd := b.command(t, verb...)
	cmd.Env = append(cmd.Env, "LASTRO_TEST_STEPS="+file)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// visibleIsWhole reads and hashes the closure of every tag.
func visibleIsWhole(t *testing.T, b *bench) map[string]string {
	t.Helper()
	st, err := store.Open(b.data(), store.Options{Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	tags := map[string]string{}
	for repo, err := range st.Repositories(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		for tag, err := range st.Tags(t.Context(), repo) {
			if err != nil {
				t.Fatal(err)
			}
			tags[repo+":"+tag.Name] = tag.Digest.String()
			closureIsRight(t.Context(), t, st, repo, tag)
		}
	}
	return tags
}

func closureIsRight(ctx context.Context, t *testing.T, st *store.Store, repo string, tag store.Tag) {
	t.Helper()
	closure, err := st.Closure(ctx, repo, tag.Digest)
	if err != nil {
		t.Fatalf("%s:%s is visible and not whole: %v", repo, tag.Name, err)
	}
	for _, c := range closure {
		f, err := st.OpenContent(ctx, c.Digest)
		if err != nil {
			t.Fatalf("%s:%s: %v", repo, tag.Name, err)
		}
		v := c.Digest.Verifier()
		_, err = io.Copy(v, f)
		f.Close()
		if err != nil || !v.Verified() {
			t.Fatalf("%s:%s: %s on disk is not what its digest says (%v)", repo, tag.Name, c.Digest, err)
		}
	}
}

// holds compares the tags here with those that there should be.
func holds(t *testing.T, b *bench, want []sample.Expect) {
	t.Helper()
	got := visibleIsWhole(t, b)
	for _, e := range want {
		name := "mirror/" + e.Repo + ":" + e.Tag
		if got[name] != e.Digest.String() {
			t.Errorf("%s is %q, want %s", name, got[name], e.Digest)
		}
		delete(got, name)
	}
	for name := range got {
		t.Errorf("%s is here and not expected", name)
	}
}
