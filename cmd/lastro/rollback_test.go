package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"lastro/mirror"
	"lastro/store/ledger"
)

const rolledTag = "mirror/apps/web:1.0"

func (b *bench) resolve(t *testing.T, ref string) string {
	t.Helper()
	var r struct{ Digest string }
	b.read(t, &r, "resolve", ref)
	return r.Digest
}

// movedBench has a tag that moved upstream after it was synced, and again since.
func movedBench(t *testing.T) (b *bench, first, second string, move func()) {
	t.Helper()
	b, upstream := sampleBench(t)
	move = func() {
		if _, err := upstream.Move(t.Context(), "apps/web", "1.0"); err != nil {
			t.Fatal(err)
		}
	}
	b.run(t, exitDone, "sync")
	first = b.resolve(t, rolledTag)
	move()
	b.run(t, exitDone, "sync")
	second = b.resolve(t, rolledTag)
	if first == second {
		t.Fatal("the tag did not move")
	}
	return b, first, second, move
}

func TestARolledBackTagStaysUntilItIsReleased(t *testing.T) {
	b, first, second, move := movedBench(t)
	var back rolledBack
	b.read(t, &back, "rollback", rolledTag, "--to", first, "--reason", "1.0 breaks logins")
	if back.Digest.String() != first || back.Previous.String() != second || back.By != userName() {
		t.Errorf("got %+v", back)
	}
	want := "rolled back by " + userName() + " on "
	plan := b.run(t, exitDone, "sync", "--dry-run")
	if !strings.Contains(plan, "held  "+rolledTag+"  "+want) || !strings.Contains(plan, "1.0 breaks logins; to let it go: lastro rollback --release "+rolledTag) {
		t.Errorf("the plan does not say why it is held:\n%s", plan)
	}
	move()
	b.run(t, exitDone, "sync")
	if got := b.resolve(t, rolledTag); got != first {
		t.Errorf("a sync moved it to %s", got)
	}
	for _, verb := range [][]string{{"retain", "--explain", rolledTag}, {"show", rolledTag}, {"rollback", "--list"}, {"history", rolledTag}} {
		if out := b.run(t, exitDone, verb...); !strings.Contains(out, "1.0 breaks logins") {
			t.Errorf("%s does not say so:\n%s", verb[0], out)
		}
	}
	if out := b.run(t, exitDone, "history", rolledTag); !strings.Contains(out, ledger.RolledBack) {
		t.Errorf("no event:\n%s", out)
	}

	b.run(t, exitDone, "rollback", "--release", rolledTag)
	b.run(t, exitError, "rollback", "--release", rolledTag)
	if got := b.resolve(t, rolledTag); got != first {
		t.Errorf("its release moved it to %s", got)
	}
	b.run(t, exitDone, "sync")
	if got := b.resolve(t, rolledTag); got == first || got == second {
		t.Errorf("it does not follow its upstream again: %s", got)
	}
	if out := b.run(t, exitDone, "rollback", "--list"); strings.Contains(out, rolledTag) {
		t.Errorf("it is still listed:\n%s", out)
	}
}

func TestRollbackToATimeGoesWhereTheTagWasThen(t *testing.T) {
	b, first, second, _ := movedBench(t)
	var h tagHistory
	b.read(t, &h, "history", rolledTag)
	between := h.Events[len(h.Events)-1].Time.Add(-1).Format(time.RFC3339Nano)
	b.serve(t) // in the daemon all is the same
	b.run(t, exitDone, "rollback", rolledTag, "--at", between)
	if got := b.resolve(t, rolledTag); got != first {
		t.Errorf("got %s, want %s", got, first)
	}
	if code := b.remove(t, "mirror/apps/web", "1.0"); code == http.StatusAccepted {
		t.Error("a client deleted it")
	}
	b.run(t, exitDone, "rollback", rolledTag, "--to", second)
	if got := b.resolve(t, rolledTag); got != second {
		t.Errorf("got %s, want %s", got, second)
	}
	b.run(t, exitError, "rollback", rolledTag, "--at", "2001-01-01")
}

func TestARollbackThatCannotBeDoneChangesNothing(t *testing.T) {
	b, first, second, _ := movedBench(t)
	for _, c := range []struct {
		name string
		code int
		args []string
	}{
		{"a digest that is not here", exitError, []string{"--to", digest.FromString("nothing").String()}},
		{"no target", exitUsage, nil},
		{"two targets", exitUsage, []string{"--to", first, "--at", "1d"}},
		{"what is no digest", exitUsage, []string{"--to", "1.0"}},
		{"what is no time", exitUsage, []string{"--at", "then"}},
	} {
		b.run(t, c.code, append([]string{"rollback", rolledTag}, c.args...)...)
		if got := b.resolve(t, rolledTag); got != second {
			t.Errorf("%s moved it to %s", c.name, got)
		}
	}
	b.run(t, exitUsage, "rollback", "--list", rolledTag)
	b.run(t, exitUsage, "rollback", "--release")

	s := b.open(t)
	raw, err := s.store.Closure(t.Context(), "mirror/apps/web", digest.Digest(first))
	if err != nil {
		t.Fatal(err)
	}
	for _, content := range raw {
		if !content.Manifest {
			remove(t, b.data(), content.Digest)
			break
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b.run(t, exitError, "rollback", rolledTag, "--to", first)
	if got := b.resolve(t, rolledTag); got != second {
		t.Errorf("it was put back to an image that is not whole: %s", got)
	}
	if out := b.run(t, exitDone, "rollback", "--list"); strings.Contains(out, rolledTag) {
		t.Errorf("it is held:\n%s", out)
	}
}

// remove takes the bytes of a digest away.
func remove(t *testing.T, data string, d digest.Digest) {
	t.Helper()
	hex := d.Encoded()
	if err := os.RemoveAll(filepath.Join(data, "registry/docker/registry/v2/blobs/sha256", hex[:2], hex)); err != nil {
		t.Fatal(err)
	}
}

func TestAFailedRollbackLeavesTheHoldThatWasThere(t *testing.T) {
	b, first, second, _ := movedBench(t)
	s := b.open(t)
	const repo, tag = "mirror/apps/web", "1.0"
	p, err := s.publication(t.Context(), repo, digest.Digest(first))
	if err != nil {
		t.Fatal(err)
	}
	p.Tag, p.Manifests = tag, []mirror.Manifest{} // so that it is refused
	h := ledger.TagHold{Repo: repo, Tag: tag, Digest: digest.Digest(first), By: "ann"}
	if _, err := s.putBack(t.Context(), p, h); err == nil {
		t.Fatal("an image without manifests was published")
	}
	if reason, err := s.heldBack(t.Context(), repo, tag); reason != "" || err != nil {
		t.Errorf("it is held: %q, %v", reason, err)
	}
	before := ledger.TagHold{Repo: repo, Tag: tag, Digest: digest.Digest(second), By: "bob", Since: time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)}
	if err := s.ledger().RecordTagHold(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	if _, err := s.putBack(t.Context(), p, h); err == nil {
		t.Fatal("an image without manifests was published")
	}
	got, ok, err := s.ledger().TagHold(t.Context(), repo, tag)
	if !ok || err != nil || got != before {
		t.Errorf("got %+v, %v, %v", got, ok, err)
	}
}
