package vault_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"lastro/store"
	"lastro/store/ledger"
	"lastro/store/vault"
	"lastro/store/vault/layout"
)

// promises are what people said of the images of a store.
func promises(t *testing.T, st *store.Store) (said []string) {
	t.Helper()
	for p, err := range st.Ledger().Protections(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		said = append(said, p.Name+" "+p.Repo+" "+p.Digest.String()+" "+p.String())
	}
	for h, err := range st.Ledger().TagHolds(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		said = append(said, h.Repo+":"+h.Tag+" "+h.Digest.String()+" "+h.String())
	}
	return said
}

// promised is a store with a protection and a hold in each of two repositories.
func promised(t *testing.T) (st *store.Store, at digest.Digest) {
	t.Helper()
	st = newStore(t, &clock{})
	img := plain("a")
	for _, repo := range []string{"r", "s"} {
		publish(t, st, repo, "1", img)
		p := ledger.Protection{Name: "release", Repo: repo, Digest: img.root.desc.Digest, Tag: "1", Owner: "me", Reason: "shipped", Expires: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
		if err := st.Ledger().RecordProtection(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		if err := st.Ledger().RecordTagHold(t.Context(), ledger.TagHold{Repo: repo, Tag: "1", Digest: img.root.desc.Digest, By: "me", Reason: "broken upstream"}); err != nil {
			t.Fatal(err)
		}
	}
	return st, img.root.desc.Digest
}

func TestProtectionsAndHoldsComeBackWithTheirImages(t *testing.T) {
	dir, c := t.TempDir(), &clock{}
	st, _ := promised(t)
	v := openVault(t, dir, c, nil)
	backup(t, v, st)
	wantSound(t, v, "")
	before := promises(t, st)
	for name, o := range map[string]vault.RestoreOptions{"all": {}, "a repository": {Patterns: []string{"r"}}, "a tag": {Patterns: []string{"s:1"}}} {
		to := newStore(t, c)
		restore(t, v, to, o)
		want := before
		if len(o.Patterns) > 0 {
			want = slices.DeleteFunc(slices.Clone(before), func(s string) bool {
				return !strings.Contains(" "+s, " "+o.Patterns[0][:1]+" ") && !strings.HasPrefix(s, o.Patterns[0][:1]+":")
			})
		}
		if d := cmp.Diff(want, promises(t, to)); d != "" || len(want) == 0 {
			t.Errorf("%s: %s", name, d)
		}
		restore(t, v, to, o) // which changes nothing any more
		if d := cmp.Diff(want, promises(t, to)); d != "" {
			t.Errorf("%s, again: %s", name, d)
		}
	}
}

func TestWhatIsSaidHereCountsMore(t *testing.T) {
	dir, c := t.TempDir(), &clock{}
	st, at := promised(t)
	v := openVault(t, dir, c, nil)
	backup(t, v, st)
	p := ledger.Protection{Name: "release", Repo: "r", Digest: at, Owner: "somebody else"}
	if err := st.Ledger().RecordProtection(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if err := st.Ledger().RecordTagHold(t.Context(), ledger.TagHold{Repo: "r", Tag: "1", Digest: at, By: "somebody else"}); err != nil {
		t.Fatal(err)
	}
	publish(t, st, "s", "1", plain("moved"))
	if err := st.Ledger().RecordTagReleased(t.Context(), "s", "1", "me", ""); err != nil {
		t.Fatal(err)
	}
	before := promises(t, st)
	restore(t, v, st, vault.RestoreOptions{})
	if d := cmp.Diff(before, promises(t, st)); d != "" {
		t.Error(d)
	}
}

func TestABackupOfALostRegistrySaysWhatToRestore(t *testing.T) {
	dir, c := t.TempDir(), &clock{}
	var said bytes.Buffer
	v, err := vault.Open(t.Context(), vault.Settings{Name: "main", To: "file://" + dir}, vault.Options{Now: c.now, Log: slog.New(slog.NewTextHandler(&said, nil))})
	if err != nil {
		t.Fatal(err)
	}
	st := newStore(t, c)
	backup(t, v, newStore(t, c))
	publish(t, st, "r", "1", plain("a"))
	full := backup(t, v, st)
	if strings.Contains(said.String(), "is empty") {
		t.Errorf("said of what is not: %s", said.String())
	}
	backup(t, v, newStore(t, c))
	if want := `restore="lastro restore --snapshot ` + full.Snapshot + `"`; !strings.Contains(said.String(), want) {
		t.Errorf("not said: %s in\n%s", want, said.String())
	}
	restore(t, v, newStore(t, c), vault.RestoreOptions{Snapshot: full.Snapshot})
}

func TestASnapshotHasItsConfiguration(t *testing.T) {
	dir, st := t.TempDir(), newStore(t, &clock{})
	publish(t, st, "r", "1", plain("a"))
	open := func(config string) *vault.Vault {
		v, err := vault.Open(t.Context(), vault.Settings{Name: "main", To: "file://" + dir}, vault.Options{Now: (&clock{}).now, Config: []byte(config)})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	first := backup(t, open("data: a\n"), st)
	second := backup(t, open("data: b\n"), st)
	bare := backup(t, open(""), st)
	for id, want := range map[string]string{first.Snapshot: "data: a\n", second.Snapshot: "data: b\n", bare.Snapshot: "", "latest": ""} {
		if got, err := open("").Configuration(t.Context(), id); err != nil || got != want {
			t.Errorf("%s: %q, %v", id, got, err)
		}
	}
	if again := backup(t, open("data: b\n"), st); again.NewBlobs > 0 {
		t.Errorf("sent again: %+v", again)
	}
	wantSound(t, open(""), "")
}

func TestDamagedStateIsFoundAndRepairedAndStopsNoRestore(t *testing.T) {
	dir, c := t.TempDir(), &clock{}
	st, _ := promised(t)
	v := openVault(t, dir, c, nil)
	backup(t, v, st)
	var h layout.Head
	readJSON(t, filepath.Join(dir, layout.KeyHead), &h)
	var s layout.Snapshot
	readJSON(t, filepath.Join(dir, h.Snapshots[0].Record), &s)
	file := filepath.Join(dir, layout.BlobKey(s.State.Digest))
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	to := newStore(t, c)
	r, err := v.Restore(t.Context(), to, vault.RestoreOptions{}, nil)
	if err != nil || len(r.Failed) != 1 || !strings.Contains(r.Failed[0].Error, "protections and holds") || r.Images != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	if found := verified(t, v, ""); len(found.Problems) != 1 || found.Problems[0].Digest != s.State.Digest {
		t.Errorf("%+v", found.Problems)
	}
	backup(t, v, st)
	wantSound(t, v, "")
	after := newStore(t, c)
	restore(t, v, after, vault.RestoreOptions{})
	if d := cmp.Diff(promises(t, st), promises(t, after)); d != "" {
		t.Error(d)
	}
}

func TestAFactThatNoLedgerTakesFailsAlone(t *testing.T) {
	dir, c := t.TempDir(), &clock{}
	st, at := promised(t)
	backup(t, openVault(t, dir, c, nil), st)
	bad := []layout.Fact{
		{Protection: &ledger.Protection{Name: "../x", Repo: "r", Digest: at, Owner: "o", Created: c.now()}},
		{Protection: &ledger.Protection{Name: "x", Repo: "r", Digest: "sha256:short", Owner: "o", Created: c.now()}},
		{Hold: &ledger.TagHold{Repo: "r", Tag: "1", Digest: "nonsense", By: "o", Since: c.now()}},
	}
	for i, fact := range bad {
		data, err := layout.EncodeState([]layout.Fact{fact, {Protection: &ledger.Protection{Name: "good", Repo: "r", Digest: at, Owner: "o", Created: c.now()}}})
		if err != nil {
			t.Fatal(err)
		}
		d := digest.FromBytes(data)
		if err := os.WriteFile(filepath.Join(dir, layout.BlobKey(d)), data, 0o600); err != nil {
			t.Fatal(err)
		}
		forge(t, dir, func(s *layout.Snapshot) { s.State = &layout.Layer{Digest: d, Size: int64(len(data))} })
		to := newStore(t, c)
		r, err := openVault(t, dir, c, nil).Restore(t.Context(), to, vault.RestoreOptions{}, nil)
		if err != nil || len(r.Failed) != 1 {
			t.Errorf("%d: %+v, %v", i, r.Failed, err)
		}
		if said := promises(t, to); len(said) != 1 || !strings.HasPrefix(said[0], "good r ") {
			t.Errorf("%d: %q", i, said)
		}
	}
}
