package vault_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lastro/store/ledger"
	"lastro/store/vault"
)

// TestTheChainGoesOnOverDisasters loses a machine again and again. Each time the
// snapshot before brings all back, the next backup sends only what is new, and the
// history has everything since the first day.
func TestTheChainGoesOnOverDisasters(t *testing.T) {
	c := &clock{}
	dir := filepath.Join(t.TempDir(), "vault")
	v := openVault(t, dir, c, nil)
	st := openStore(t, t.TempDir(), c, nil)
	sample(t, st)
	backup(t, v, st)
	var parent string
	saved := map[string]state{}
	for round := range 4 {
		publish(t, st, "docker.io/library/a", "1", plain(fmt.Sprint("round ", round)))
		publish(t, st, "new/"+fmt.Sprint(round), "1", plain(fmt.Sprint("new in round ", round)))
		if err := st.Untag(t.Context(), "new/"+fmt.Sprint(round), "1", ledger.Event{By: "test", Reason: "too old"}); err != nil {
			t.Fatal(err)
		}
		report := backup(t, v, st)
		// Two images of three contents, the indexes of their repositories, the root and the events.
		if len(report.Failed) > 0 || report.NewBlobs != 2*3+2+1+1 {
			t.Errorf("round %d: the backup sent %d contents: %+v", round, report.NewBlobs, report)
		}
		if again := backup(t, v, st); again.NewBlobs != 0 || again.Requests > 8 {
			t.Errorf("round %d: the backup with nothing new sent %d contents in %d requests", round, again.NewBlobs, again.Requests)
		}
		shown, err := v.Show(t.Context(), report.Snapshot)
		if err != nil || round > 0 && shown.Parent != parent {
			t.Errorf("round %d: got parent %s, %v, want %s", round, shown.Parent, err, parent)
		}
		want := stateOf(t, st)
		saved[report.Snapshot] = want
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}

		st = openStore(t, t.TempDir(), c, nil) // all is lost
		r := restore(t, v, st, vault.RestoreOptions{By: "test"})
		if len(r.Failed) > 0 {
			t.Errorf("round %d: %+v", round, r.Failed)
		}
		if diff := cmp.Diff(want, stateOf(t, st)); diff != "" {
			t.Errorf("round %d: %s", round, diff)
		}
		parent = r.Snapshot
	}
	wantMoves(t, st)
	wantSound(t, v, "")
	for id, want := range saved {
		back := newStore(t, c)
		restore(t, v, back, vault.RestoreOptions{Snapshot: id})
		if diff := cmp.Diff(want, stateOf(t, back)); diff != "" {
			t.Errorf("snapshot %s: %s", id, diff)
		}
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
}

// wantMoves wants every move of a tag in its history, with the restores in between.
func wantMoves(t *testing.T, st interface{ Ledger() *ledger.Ledger }) {
	t.Helper()
	events, err := st.Ledger().History(t.Context(), "docker.io/library/a", "1")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range events {
		got = append(got, e.Event)
	}
	want := "seen moved" + strings.Repeat(" moved restored", 4)
	if text := strings.Join(got, " "); text != want {
		t.Errorf("got history %q, want %q", text, want)
	}
}
