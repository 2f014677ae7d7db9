package vault_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"lastro/store/vault"
	"lastro/store/vault/layout"
)

// TestWhatDamageHidesIsLookedAt has something damaged below a document that is damaged
// as well, so that a verification does not come to it. A backup that needs it makes both
// good, also where its own root is another one.
func TestWhatDamageHidesIsLookedAt(t *testing.T) {
	t.Parallel()
	for name, seals := range map[string]bool{"plain": false, "sealed": true} {
		for _, upper := range []string{"record", "root", "repository", "manifest"} {
			for _, lower := range []string{"repository", "manifest", "layer"} {
				if upper == lower {
					continue
				}
				for _, more := range []bool{false, true} {
					t.Run(fmt.Sprint(name, " ", upper, " hides ", lower, " more ", more), func(t *testing.T) { looksBelow(t, seals, upper, lower, more) })
				}
			}
		}
	}
}

func looksBelow(t *testing.T, seals bool, upper, lower string, more bool) {
	s := newSealing(t)
	w := &wholeVault{c: s.clock}
	if seals {
		w.seals = s
	}
	v, st := w.open(t, s.dir, s.keys), newStore(t, s.clock)
	img := plain("one", sharedLayer())
	publish(t, st, "r", "1", img)
	backup(t, v, st)
	e := headOf(t, s.dir).Snapshots[0]
	shown, err := v.Show(t.Context(), e.ID)
	if err != nil {
		t.Fatal(err)
	}
	key := func(d digest.Digest) string { return filepath.Join(s.dir, v.BlobKey(d)) }
	files := map[string]string{
		"record": filepath.Join(s.dir, e.Record), "root": key(shown.Root.Digest), "repository": key(shown.Repositories[0].Index.Digest),
		"manifest": key(img.root.desc.Digest), "layer": key(sharedLayer().desc.Digest),
	}
	lengthen(t, files[upper])
	lengthen(t, files[lower])
	if _, err := v.VerifyAll(t.Context(), vault.VerifyOptions{All: true}, nil); err != nil {
		t.Fatal(err)
	}
	if more {
		publish(t, st, "s", "1", plain("two"))
	}
	r := backup(t, v, st)
	if len(r.Failed) > 0 {
		t.Errorf("got %+v", r.Failed)
	}
	wantSound(t, v, r.Snapshot)
}

func lengthen(t *testing.T, file string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err == nil {
		err = replaceFile(file, append(data, "more"...))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestWhatHidesNothingCostsNothing has a layer damaged: of the rest nothing is asked.
func TestWhatHidesNothingCostsNothing(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), &clock{}
	v, st := openVault(t, dir, c, nil), newStore(t, c)
	publish(t, st, "r", "1", plain("one", sharedLayer()))
	backup(t, v, st)
	lengthen(t, filepath.Join(dir, layout.BlobKey(sharedLayer().desc.Digest)))
	if _, err := v.VerifyAll(t.Context(), vault.VerifyOptions{All: true}, nil); err != nil {
		t.Fatal(err)
	}
	if r := backup(t, v, st); r.Repaired != 1 || r.Requests > 10 {
		t.Errorf("got %+v, want one repaired and nothing else asked for", r)
	}
}

// TestWhereSomebodyDeletedABackupWritesAgain has a daemon that knows nothing of the
// vault back up after a person deleted a blob and an index there: some servers refuse to
// create what has the marker of a deletion.
func TestWhereSomebodyDeletedABackupWritesAgain(t *testing.T) {
	t.Parallel()
	v, st := onVersions(t, nil), newStore(t, &clock{})
	img := plain("one", sharedLayer())
	publish(t, st, "r", "1", img)
	backup(t, v, st)
	shown, err := v.Show(t.Context(), "latest")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []digest.Digest{sharedLayer().desc.Digest, shown.Repositories[0].Index.Digest, shown.Root.Digest} {
		unlink(t, v, v.BlobKey(d))
	}
	other := newStore(t, &clock{})
	publish(t, other, "r", "1", img)
	publish(t, other, "s", "1", plain("two")) // or the snapshot that is there is as good
	r := backup(t, v, other)
	wantSound(t, v, r.Snapshot)
}
