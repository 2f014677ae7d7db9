package vault_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/store"
	"lastro/store/ledger"
	"lastro/store/vault"
	"lastro/store/vault/bucket"
	"lastro/store/vault/layout"
	"lastro/store/vault/seal"
	"lastro/store/vault/verify"
)

// sealing is a vault that is sealed, and the machines that use it.
type sealing struct {
	*clock
	dir, keys string
	identity  *age.X25519Identity
}

func newSealing(t *testing.T) *sealing {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return &sealing{&clock{}, filepath.Join(t.TempDir(), "vault"), filepath.Join(t.TempDir(), "vault-keys"), id}
}

func (s *sealing) settings() vault.Settings {
	return vault.Settings{Name: "main", To: "file://" + s.dir, Encrypt: []string{s.identity.Recipient().String()}}
}

// open opens the vault on a machine whose kept keys lie in a folder.
func (s *sealing) open(t *testing.T, keys string, change func(*vault.Settings)) *vault.Vault {
	t.Helper()
	set := s.settings()
	if change != nil {
		change(&set)
	}
	v, err := vault.Open(t.Context(), set, vault.Options{Now: s.now, Version: "test", Keys: keys, Config: []byte("mirror: [{from: secret.example/name}]\n")})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// writer is the daemon that can back up and not read back; reader can do both.
func (s *sealing) writer(t *testing.T) *vault.Vault { t.Helper(); return s.open(t, s.keys, nil) }

func (s *sealing) reader(t *testing.T) *vault.Vault {
	t.Helper()
	return s.open(t, filepath.Join(t.TempDir(), "vault-keys"), s.identified)
}

func (s *sealing) identified(set *vault.Settings) { set.Identity = s.identity.String() }

// names gives the names of the vault's contents.
func (s *sealing) names(t *testing.T) *seal.Names {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(s.keys, headOf(t, s.dir).Vault))
	if err != nil {
		t.Fatal(err)
	}
	names, err := seal.ParseNames(raw)
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func (s *sealing) file(t *testing.T, d digest.Digest) string {
	t.Helper()
	return filepath.Join(s.dir, layout.BlobKey(s.names(t).Of(d)))
}

func TestADaemonThatCannotReadBacksUpAndWhoHasTheIdentityRestores(t *testing.T) {
	s := newSealing(t)
	st := newStore(t, s.clock)
	sample(t, st)
	publish(t, st, "r", "large", plain("large", newContent(ocispec.MediaTypeImageLayer, noise(1, 3<<20))))
	first := backup(t, s.writer(t), st)
	if first.NewBlobs == 0 || len(first.Failed) > 0 {
		t.Fatalf("got %+v", first)
	}
	same := backup(t, s.writer(t), st)
	if same.NewBlobs != 0 || same.Requests > 10 {
		t.Errorf("with nothing new: got %d new blobs by %d requests, want none by ten at most", same.NewBlobs, same.Requests)
	}
	publish(t, st, "r", "more", plain("more"))
	more := backup(t, s.writer(t), st)
	// Two blobs, a manifest, an index, the root and a segment of history.
	if more.NewBlobs != 6 {
		t.Errorf("with one image more: got %d new blobs, want 6", more.NewBlobs)
	}
	for _, id := range []string{first.Snapshot, same.Snapshot, more.Snapshot} {
		wantSound(t, s.reader(t), id)
	}
	back := newStore(t, s.clock)
	if r := restore(t, s.reader(t), back, vault.RestoreOptions{}); len(r.Failed) > 0 {
		t.Errorf("got %+v", r.Failed)
	}
	if diff := cmp.Diff(stateOf(t, st), stateOf(t, back)); diff != "" {
		t.Error(diff)
	}
	// The chain goes on from the restored machine, which learned the names.
	keys := filepath.Join(t.TempDir(), "vault-keys")
	restore(t, s.open(t, keys, s.identified), newStore(t, s.clock), vault.RestoreOptions{})
	again := backup(t, s.open(t, keys, nil), back)
	if again.Blobs != more.Blobs {
		t.Errorf("got %+v, want what the snapshot before has", again)
	}
	wantSound(t, s.reader(t), "")
}

// TestNothingInTheBucketTellsWhatIsBackedUp looks at all keys and all bytes.
func TestNothingInTheBucketTellsWhatIsBackedUp(t *testing.T) {
	s := newSealing(t)
	st := newStore(t, s.clock)
	sample(t, st)
	r := backup(t, s.writer(t), st)
	v := s.reader(t)
	wantSound(t, v, "")
	if _, err := v.Drill(t.Context(), newScratch(t), vault.DrillOptions{Images: 2, Rand: newRand(1)}, nil); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.file(t, sharedLayer().desc.Digest), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if len(verified(t, v, "").Problems) == 0 { // the head names what is damaged
		t.Fatal("no problem was found")
	}
	publish(t, st, "docker.io/library/a", "more", plain("more"))
	pruneBy(t, v, st, vault.PruneOptions{MaxRemovals: 1}) // and a plan what goes
	secrets := []string{"secret.example", "docker.io", "library", "signature", "imageLayoutVersion", "sha512"}
	c, err := v.Show(t.Context(), r.Snapshot)
	if err != nil {
		t.Fatal(err)
	}
	all := append(c.Beside(), c.Root.Digest, c.Closure)
	for _, repo := range c.Repositories {
		all = append(all, repo.Index.Digest)
	}
	for d := range contentsOf(t, st) {
		all = append(all, d)
	}
	for _, d := range all {
		secrets = append(secrets, d.Encoded())
	}
	seen := 0
	for _, key := range files(t, s.dir, "") {
		raw, err := os.ReadFile(filepath.Join(s.dir, key))
		if err != nil {
			t.Fatal(err)
		}
		seen++
		for _, secret := range secrets {
			if strings.Contains(key, secret) || bytes.Contains(raw, []byte(secret)) {
				t.Errorf("%s: %s is to be seen", key, secret)
			}
		}
	}
	if seen < 20 || len(all) < 20 {
		t.Errorf("%d objects were searched for %d digests, where there are more", seen, len(all))
	}
}

// contentsOf is every content of a store.
func contentsOf(t *testing.T, st *store.Store) map[digest.Digest]bool {
	t.Helper()
	all := map[digest.Digest]bool{}
	for repo, err := range st.Ledger().Repositories(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		for d, err := range st.Ledger().Links(t.Context(), repo) {
			if err != nil {
				t.Fatal(err)
			}
			all[d] = true
			refs, err := st.Ledger().Children(t.Context(), d)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range refs {
				all[r.Digest] = true
			}
		}
	}
	return all
}

func TestWhoHasNoIdentityIsToldSo(t *testing.T) {
	s := newSealing(t)
	st := newStore(t, s.clock)
	sample(t, st)
	backup(t, s.writer(t), st)
	v := s.writer(t)
	before := stateOf(t, st)
	for name, do := range map[string]func() error{
		"verify": func() error { _, err := v.Verify(t.Context(), "", nil); return err },
		"part": func() error {
			_, err := v.VerifyAll(t.Context(), vault.VerifyOptions{All: true, Parts: 3}, nil)
			return err
		},
		"show":    func() error { _, err := v.Show(t.Context(), ""); return err },
		"restore": func() error { _, err := v.Restore(t.Context(), st, vault.RestoreOptions{}, nil); return err },
		"plan":    func() error { _, err := v.PlanRestore(t.Context(), st, vault.RestoreOptions{}); return err },
		"prune":   func() error { _, err := v.Prune(t.Context(), st, atOnce); return err },
		"drill": func() error {
			_, err := v.Drill(t.Context(), newScratch(t), vault.DrillOptions{Images: 1, Rand: newRand(1)}, nil)
			return err
		},
	} {
		if err := do(); !errors.Is(err, vault.ErrNoIdentity) || !strings.Contains(err.Error(), "identity") {
			t.Errorf("%s: got %v, want %v", name, err, vault.ErrNoIdentity)
		}
	}
	if h := headOf(t, s.dir); len(h.Damaged) > 0 || h.Prune != nil {
		t.Errorf("the head says %+v", h)
	}
	if list, err := v.List(t.Context()); err != nil || len(list.Snapshots) != 1 {
		t.Errorf("list: got %+v, %v", list, err)
	}
	if diff := cmp.Diff(before, stateOf(t, st)); diff != "" {
		t.Error(diff)
	}
	backup(t, v, st)
	if _, err := v.Forget(t.Context(), vault.ForgetOptions{IDs: []string{headOf(t, s.dir).Snapshots[0].ID}}); err != nil {
		t.Errorf("forget: %v", err)
	}
}

// TestTheRecordThatIsKeptIsThatOfTheNewestSnapshot has the newest one forgotten and its
// history pruned by another machine. The one before has the same images: who cannot read
// its record does not take the one that is kept for it.
func TestTheRecordThatIsKeptIsThatOfTheNewestSnapshot(t *testing.T) {
	s := newSealing(t)
	st := newStore(t, s.clock)
	publish(t, st, "r", "1", plain("one"))
	publish(t, st, "r", "2", plain("two"))
	first := backup(t, s.writer(t), st)
	publish(t, st, "r", "1", plain("two"))
	publish(t, st, "r", "1", plain("one"))
	second := backup(t, s.writer(t), st)
	h := headOf(t, s.dir)
	if len(h.Snapshots) != 2 || h.Snapshots[0].Root != h.Snapshots[1].Root || second.NewBlobs == 0 {
		t.Fatalf("the second backup sent %d contents, and the head says %+v", second.NewBlobs, h.Snapshots)
	}
	forget(t, s.reader(t), second.Snapshot)
	if r := pruneBy(t, s.reader(t), st, atOnce); r.Removed == 0 {
		t.Fatalf("nothing was removed: %+v", r)
	}
	third := backup(t, s.writer(t), st)
	wantSound(t, s.reader(t), first.Snapshot)
	wantSound(t, s.reader(t), third.Snapshot)
	restoresTo(t, s.reader(t), s.clock, third.Snapshot, stateOf(t, st))
}

func TestAnotherIdentityReadsNothingAndFindsNoFault(t *testing.T) {
	s := newSealing(t)
	st := newStore(t, s.clock)
	sample(t, st)
	backup(t, s.writer(t), st)
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for _, keys := range []string{s.keys, t.TempDir()} {
		v := s.open(t, keys, func(set *vault.Settings) { set.Identity = other.String() })
		if _, err := v.Verify(t.Context(), "", nil); !errors.Is(err, vault.ErrOthers) {
			t.Errorf("got %v, want %v", err, vault.ErrOthers)
		}
		if _, err := v.Backup(t.Context(), st, "test", nil); !errors.Is(err, vault.ErrOthers) {
			t.Errorf("backup: got %v, want %v", err, vault.ErrOthers)
		}
	}
	if h := headOf(t, s.dir); len(h.Damaged) > 0 || len(h.Snapshots) != 1 {
		t.Errorf("the head says %+v", h)
	}
}

func TestAMachineThatDoesNotKnowTheNamesWritesNothing(t *testing.T) {
	s := newSealing(t)
	st := newStore(t, s.clock)
	sample(t, st)
	backup(t, s.writer(t), st)
	before := files(t, s.dir, "")
	keys := t.TempDir()
	_, err := s.open(t, keys, nil).Backup(t.Context(), st, "test", nil)
	if want := filepath.Join(keys, headOf(t, s.dir).Vault); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want the file %s named that is to be copied", err, want)
	}
	if err := os.WriteFile(filepath.Join(keys, headOf(t, s.dir).Vault), seal.NewNames().Text(), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err = s.open(t, keys, nil).Backup(t.Context(), st, "test", nil); err == nil || !strings.Contains(err.Error(), "not the key that the vault says") {
		t.Errorf("with another key: got %v", err)
	}
	if diff := cmp.Diff(before, files(t, s.dir, "")); diff != "" {
		t.Error(diff)
	}
}

func TestAVaultIsSealedFromItsBeginningOrNever(t *testing.T) {
	s := newSealing(t)
	st := newStore(t, s.clock)
	sample(t, st)
	backup(t, s.writer(t), st)
	plainly := s.open(t, s.keys, func(set *vault.Settings) { set.Encrypt = nil })
	if _, err := plainly.Backup(t.Context(), st, "test", nil); !errors.Is(err, layout.ErrSealed) {
		t.Errorf("a plain backup to a sealed vault: got %v, want %v", err, layout.ErrSealed)
	}
	dir, _ := saved(t)
	sealed := s.open(t, s.keys, func(set *vault.Settings) { set.To = "file://" + dir })
	before := files(t, dir, "")
	if _, err := sealed.Backup(t.Context(), st, "test", nil); !errors.Is(err, layout.ErrPlain) {
		t.Errorf("a sealed backup to a plain vault: got %v, want %v", err, layout.ErrPlain)
	}
	if _, err := sealed.Init(t.Context()); !errors.Is(err, layout.ErrPlain) {
		t.Errorf("init: got %v, want %v", err, layout.ErrPlain)
	}
	if diff := cmp.Diff(before, files(t, dir, "")); diff != "" {
		t.Error(diff)
	}
}

func TestDamageInASealedVaultIsFoundAndHealedByWhoCannotRead(t *testing.T) {
	layer, manifest := sharedLayer().desc.Digest, plain("a-1-moved", sharedLayer()).root.desc.Digest
	for _, test := range []struct {
		name  string
		wreck func(t *testing.T, file string)
	}{
		{"a byte of it changed", func(t *testing.T, file string) { flipLast(t, file) }},
		{"its header changed", func(t *testing.T, file string) { spoil(t, file) }},
		{"it is gone", func(t *testing.T, file string) { mustRemove(t, file) }},
		{"it is cut off", func(t *testing.T, file string) { cutShort(t, file) }},
		{"it is sealed to others", sealToOthers},
		{"it is another content", func(t *testing.T, file string) { otherContent(t, file) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSealing(t)
			st := newStore(t, s.clock)
			sample(t, st)
			backup(t, s.writer(t), st)
			for _, d := range []digest.Digest{layer, manifest} {
				test.wreck(t, s.file(t, d))
			}
			found := map[digest.Digest]bool{}
			for _, p := range verified(t, s.reader(t), "").Problems {
				found[p.Digest] = true
			}
			if !found[layer] || !found[manifest] {
				t.Fatalf("got problems in %v, want the layer and the manifest", found)
			}
			if got := len(headOf(t, s.dir).Damaged); got != 2 {
				t.Errorf("the head names %d damaged contents, want 2", got)
			}
			if r := backup(t, s.writer(t), st); r.Repaired != 2 || len(r.Failed) > 0 {
				t.Errorf("got %+v, want both repaired", r)
			}
			wantSound(t, s.reader(t), "")
		})
	}
}

func mustRemove(t *testing.T, file string) {
	t.Helper()
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
}

func reform(t *testing.T, file string, change func([]byte) []byte) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err == nil {
		err = errors.Join(os.Chmod(file, 0o600), os.WriteFile(file, change(raw), 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func flipLast(t *testing.T, file string) {
	reform(t, file, func(b []byte) []byte { b[len(b)-20] ^= 1; return b })
}

func cutShort(t *testing.T, file string) {
	reform(t, file, func(b []byte) []byte { return b[:len(b)-1] })
}

func sealToOthers(t *testing.T, file string) {
	reform(t, file, func([]byte) []byte {
		s := newSealing(t)
		sealer, err := seal.New(s.settings().Encrypt, "")
		if err != nil {
			t.Fatal(err)
		}
		data, err := sealer.SealBytes(sharedLayer().raw)
		if err != nil {
			t.Fatal(err)
		}
		return data
	})
}

// otherContent puts another sealed content of the vault in the place of one.
func otherContent(t *testing.T, file string) {
	others, err := filepath.Glob(filepath.Join(filepath.Dir(file), "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range others {
		if raw, err := os.ReadFile(other); err == nil && other != file {
			reform(t, file, func([]byte) []byte { return raw })
			return
		}
	}
	t.Fatal("there is no other content")
}

func TestAPruneOfASealedVaultFreesWhatNothingNeeds(t *testing.T) {
	s := newSealing(t)
	st := newStore(t, s.clock)
	v := s.reader(t)
	ids, states := grown(t, v, st, 3)
	if _, err := v.Forget(t.Context(), vault.ForgetOptions{IDs: ids[:1]}); err != nil {
		t.Fatal(err)
	}
	r := pruneBy(t, v, st, atOnce)
	if r.Removed == 0 || r.Records == 0 {
		t.Errorf("got %+v, want the first snapshot's blobs and record gone", r)
	}
	allSound(t, v)
	back := newStore(t, s.clock)
	restore(t, s.reader(t), back, vault.RestoreOptions{Snapshot: ids[1]})
	if diff := cmp.Diff(states[1].Tags, stateOf(t, back).Tags); diff != "" {
		t.Error(diff)
	}
	publish(t, st, "r", "again", plain("image 0"))
	backup(t, v, st)
	allSound(t, v)
}

func TestWhatIsLostOfASealedVaultIsMadeAgain(t *testing.T) {
	for _, test := range []struct {
		name string
		lose []string
	}{
		{"its config", []string{layout.KeyConfig}},
		{"its head", []string{layout.KeyHead}},
		{"the key of its names", []string{"keys"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSealing(t)
			st := newStore(t, s.clock)
			sample(t, st)
			first := backup(t, s.writer(t), st)
			lose := test.lose
			if lose[0] == "keys" {
				lose = files(t, s.dir, layout.DirKeys)
			}
			for _, key := range lose {
				mustRemove(t, filepath.Join(s.dir, key))
			}
			if test.name == "its head" {
				_, err := s.writer(t).Backup(t.Context(), st, "test", nil)
				if !errors.Is(err, vault.ErrNoIdentity) {
					t.Errorf("without an identity: got %v, want %v", err, vault.ErrNoIdentity)
				}
			}
			v := s.open(t, s.keys, s.identified)
			back := newStore(t, s.clock)
			restore(t, v, back, vault.RestoreOptions{Snapshot: first.Snapshot})
			if diff := cmp.Diff(stateOf(t, st).Tags, stateOf(t, back).Tags); diff != "" {
				t.Error(diff)
			}
			backup(t, v, st)
			if got := len(headOf(t, s.dir).Snapshots); got != 2 {
				t.Errorf("the head lists %d snapshots, want 2", got)
			}
			wantSound(t, s.reader(t), "")
		})
	}
}

// TestTheKeyOfTheNamesIsMadeAgainByWhoCannotRead loses it while a manifest is damaged:
// nobody but this daemon could find that out meanwhile.
func TestTheKeyOfTheNamesIsMadeAgainByWhoCannotRead(t *testing.T) {
	manifest := plain("a-1-moved", sharedLayer()).root.desc.Digest
	for name, lose := range map[string]func(t *testing.T, s *sealing, key string){
		"it is lost":    func(t *testing.T, _ *sealing, key string) { mustRemove(t, key) },
		"it is cut off": func(t *testing.T, _ *sealing, key string) { cutShort(t, key) },
		"it is where a manifest was, which is gone": func(t *testing.T, s *sealing, key string) {
			if err := os.Rename(key, s.file(t, manifest)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSealing(t)
			st := newStore(t, s.clock)
			sample(t, st)
			backup(t, s.writer(t), st)
			lose(t, s, filepath.Join(s.dir, files(t, s.dir, layout.DirKeys)[0]))
			if _, err := s.reader(t).Verify(t.Context(), "", nil); err == nil {
				t.Error("a verification without the key finds nothing wrong")
			}
			backup(t, s.writer(t), st)
			wantSound(t, s.reader(t), "")
			if same := backup(t, s.writer(t), st); same.NewBlobs != 0 || same.Requests > 10 {
				t.Errorf("with nothing new: got %d new blobs by %d requests, want none by ten at most", same.NewBlobs, same.Requests)
			}
		})
	}
}

// TestWhoCannotReadFindsWhatIsLostOfWhatHeSent loses contents of images and documents of
// the vault's own. What is not here any more is looked for as well.
func TestWhoCannotReadFindsWhatIsLostOfWhatHeSent(t *testing.T) {
	s := newSealing(t)
	st := newStore(t, s.clock)
	sample(t, st)
	r := backup(t, s.writer(t), st)
	shown, err := s.reader(t).Show(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	all, err := s.writer(t).VerifyKnown(t.Context(), st)
	if err != nil || all.Left() > 0 || all.Level != "list" || all.Blobs < r.Blobs || all.ByLength.Blobs != all.Blobs || all.Bytes == 0 || all.Snapshots[0].Snapshot != r.Snapshot {
		t.Fatalf("got %+v, %v, want nothing wrong in %d blobs at least", all, err, r.Blobs)
	}
	lost := map[digest.Digest]func(t *testing.T, file string){
		sharedLayer().desc.Digest:                          mustRemove,
		plain("a-1-moved", sharedLayer()).root.desc.Digest: cutShort,
		shown.Repositories[0].Index.Digest:                 mustRemove,
		shown.Root.Digest:                                  mustRemove,
	}
	for d, lose := range lost {
		lose(t, s.file(t, d))
	}
	all, err = s.writer(t).VerifyKnown(t.Context(), st)
	kinds := map[digest.Digest]string{}
	for _, p := range all.Snapshots[0].Problems {
		kinds[p.Digest] = p.Kind
		if !strings.Contains(p.Next, "lastro backup main") {
			t.Errorf("got %+v", p)
		}
	}
	want := map[digest.Digest]string{
		sharedLayer().desc.Digest: "missing", shown.Repositories[0].Index.Digest: "missing", shown.Root.Digest: "missing",
		plain("a-1-moved", sharedLayer()).root.desc.Digest: "corrupt",
	}
	if diff := cmp.Diff(want, kinds); diff != "" || err != nil || all.ByLength.Blobs != all.Blobs-4 {
		t.Errorf("%v %s", err, diff)
	}
	if n := len(headOf(t, s.dir).Damaged); n != 4 {
		t.Errorf("the head names %d damaged contents, want 4", n)
	}
	if r := backup(t, s.writer(t), st); len(r.Failed) > 0 {
		t.Errorf("got %+v", r)
	}
	if all, err = s.writer(t).VerifyKnown(t.Context(), st); err != nil || all.Left() > 0 {
		t.Errorf("got %+v, %v", all, err)
	}
	wantSound(t, s.reader(t), "")
}

// TestWhoCannotReadMissesNoLengthOfWhatIsGoneHere has a large layer that only the vault
// has still, and a record that it has lost.
func TestWhoCannotReadMissesNoLengthOfWhatIsGoneHere(t *testing.T) {
	s := newSealing(t)
	data := t.TempDir()
	st := openStore(t, data, s.clock, nil)
	large := newContent(ocispec.MediaTypeImageLayer, noise(1, 1<<20))
	publish(t, st, "r", "1", plain("one", large))
	r := backup(t, s.writer(t), st)
	loseContent(t, data, large)
	if all, err := s.writer(t).VerifyKnown(t.Context(), st); err != nil || all.Left() > 0 {
		t.Fatalf("got %+v, %v", all, err)
	}
	record := headOf(t, s.dir).Snapshots[0].Record
	mustRemove(t, filepath.Join(s.dir, record))
	all, err := s.writer(t).VerifyKnown(t.Context(), st)
	if err != nil || all.Left() != 1 || !strings.Contains(all.Snapshots[0].Problems[0].Error, "the record of snapshot "+r.Snapshot) {
		t.Errorf("got %+v, %v", all, err)
	}
}

// listHook does something before the blobs are listed.
type listHook struct {
	bucket.Bucket
	before func()
}

func (l listHook) List(ctx context.Context, prefix string) iter.Seq2[bucket.Info, error] {
	if prefix == layout.DirBlobs {
		l.before()
	}
	return l.Bucket.List(ctx, prefix)
}

func TestWhatAPruneRemovesMeanwhileIsNotMissed(t *testing.T) {
	s := newSealing(t)
	st := newStore(t, s.clock)
	publish(t, st, "r", "1", plain("one"))
	first := backup(t, s.writer(t), st)
	publish(t, st, "r", "1", plain("two"))
	if err := st.Untag(t.Context(), "r", "1", ledger.Event{By: "test"}); err != nil {
		t.Fatal(err)
	}
	publish(t, st, "r", "1", plain("three"))
	backup(t, s.writer(t), st)
	set := s.settings()
	v, err := vault.Open(t.Context(), set, vault.Options{Now: s.now, Version: "test", Keys: s.keys, Wrap: func(b bucket.Bucket) bucket.Bucket {
		return listHook{b, sync.OnceFunc(func() {
			forget(t, s.reader(t), first.Snapshot)
			if r := pruneBy(t, s.reader(t), st, atOnce); r.Removed == 0 {
				t.Errorf("nothing was removed: %+v", r)
			}
		})}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if all, err := v.VerifyKnown(t.Context(), st); !errors.Is(err, verify.ErrPruned) || len(headOf(t, s.dir).Damaged) > 0 {
		t.Errorf("got %+v, %v, and %v is noted; want %v", all, err, headOf(t, s.dir).Damaged, verify.ErrPruned)
	}
	if all, err := v.VerifyKnown(t.Context(), st); err != nil || all.Left() > 0 {
		t.Errorf("again: got %+v, %v", all, err)
	}
}

func TestADrillOfASealedVault(t *testing.T) {
	s := newSealing(t)
	st := newStore(t, s.clock)
	sample(t, st)
	backup(t, s.writer(t), st)
	r, err := s.reader(t).Drill(t.Context(), newScratch(t), vault.DrillOptions{Images: 3, Rand: newRand(1)}, nil)
	if err != nil || !r.OK || r.Blobs == 0 {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestAKeptKeyIsForItsOwnerAlone(t *testing.T) {
	s := newSealing(t)
	st := newStore(t, s.clock)
	publish(t, st, "r", "1", plain("x"))
	backup(t, s.writer(t), st)
	kept, err := os.ReadDir(s.keys)
	if err != nil || len(kept) != 2 {
		t.Fatalf("got %v, %v; want the key and the record", kept, err)
	}
	for _, f := range kept {
		if info, err := f.Info(); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: got %v, %v; want -rw-------", f.Name(), info.Mode(), err)
		}
	}
}

func TestADaemonThatLostItsRecordSendsNoBlobAgain(t *testing.T) {
	s := newSealing(t)
	st := newStore(t, s.clock)
	sample(t, st)
	first := backup(t, s.writer(t), st)
	mustRemove(t, filepath.Join(s.keys, headOf(t, s.dir).Vault+".json"))
	fresh := newStore(t, s.clock) // its ledger does not know what the vault has
	sample(t, fresh)
	r := backup(t, s.writer(t), fresh)
	if r.NewBlobs > 3 || r.Blobs != first.Blobs { // history, and what says when it was
		t.Errorf("got %d new blobs of %d, want those there taken for what they are", r.NewBlobs, r.Blobs)
	}
	wantSound(t, s.reader(t), "")
}

func TestOtherRecipientsAreForWhatIsNew(t *testing.T) {
	s := newSealing(t)
	st := newStore(t, s.clock)
	publish(t, st, "r", "old", plain("old"))
	backup(t, s.writer(t), st)
	next, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	both := func(set *vault.Settings) { set.Encrypt = append(set.Encrypt, next.Recipient().String()) }
	publish(t, st, "r", "new", plain("new"))
	backup(t, s.open(t, s.keys, both), st)
	wantSound(t, s.reader(t), "")
	raw, err := os.ReadFile(s.file(t, plain("new").blobs[1].desc.Digest))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := age.Decrypt(bytes.NewReader(raw), next); err != nil {
		t.Errorf("the new recipient cannot open what is new: %v", err)
	}
	if raw, err = os.ReadFile(s.file(t, plain("old").blobs[1].desc.Digest)); err != nil {
		t.Fatal(err)
	}
	if _, err := age.Decrypt(bytes.NewReader(raw), next); err == nil {
		t.Error("the new recipient can open what is old")
	}
}

// TestAnInterruptedBeginningIsGoneOnWith cuts the making of a vault off before each
// of its writes.
func TestAnInterruptedBeginningIsGoneOnWith(t *testing.T) {
	for n := range 40 {
		s := newSealing(t)
		st := newStore(t, s.clock)
		publish(t, st, "r", "1", plain("x"))
		var steps atomic.Int64
		set := s.settings()
		cut, err := vault.Open(t.Context(), set, vault.Options{Now: s.now, Keys: s.keys, Step: func(string, string) error {
			if steps.Add(1) > int64(n) {
				return fs.ErrPermission
			}
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		_, failed := cut.Backup(t.Context(), st, "test", nil)
		backup(t, s.writer(t), st)
		wantSound(t, s.reader(t), "")
		if failed == nil {
			return
		}
	}
}

// TestASealedVaultOnAnS3Server saves, verifies, loses, heals and restores on a real
// server, a content in parts among it, and serves from the middle of one.
func TestASealedVaultOnAnS3Server(t *testing.T) {
	t.Parallel()
	s := newSealing(t)
	settings, data := startGateway(t)
	on := func(set *vault.Settings) { set.To, set.S3 = "s3://bucket/p", settings }
	reading := func(set *vault.Settings) { on(set); s.identified(set) }
	st := newStore(t, s.clock)
	sample(t, st)
	large := newContent(ocispec.MediaTypeImageLayer, noise(1, 201<<20)) // in parts
	publish(t, st, "r", "large", plain("large", large))
	open := func(keys string, change func(*vault.Settings)) *vault.Vault {
		set := s.settings()
		change(&set)
		v, err := vault.Open(t.Context(), set, vault.Options{Keys: keys})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	writer := open(s.keys, on)
	first := backup(t, writer, st)
	if again := backup(t, open(s.keys, on), st); again.Requests > 10 || again.NewBlobs != 0 {
		t.Errorf("got %d requests and %d new blobs with nothing new, want at most 10 and none", again.Requests, again.NewBlobs)
	} else {
		t.Logf("%d requests with nothing new", again.Requests)
	}
	s.dir = filepath.Join(data, "bucket/p")
	mustRemove(t, s.file(t, plain("a-1-moved").blobs[1].desc.Digest))
	v := open(t.TempDir(), reading)
	if p := verified(t, v, first.Snapshot).Problems; len(p) != 1 {
		t.Errorf("got %+v, want the lost blob", p)
	}
	if r := backup(t, writer, st); r.Repaired != 1 {
		t.Errorf("got %+v, want it repaired", r)
	}
	wantSound(t, v, "")
	body, info, err := v.OpenBlob(t.Context(), large.desc.Digest, 200<<20)
	if err != nil || info.Size != 201<<20 {
		t.Fatalf("got %+v, %v", info, err)
	}
	if rest, err := io.ReadAll(body); err != nil || !bytes.Equal(rest, large.raw[200<<20:]) {
		t.Errorf("the end of the large one: got %d bytes, %v", len(rest), err)
	}
	_ = body.Close()
	back := newStore(t, s.clock)
	if r := restore(t, v, back, vault.RestoreOptions{}); len(r.Failed) > 0 {
		t.Errorf("got %+v", r.Failed)
	}
	if diff := cmp.Diff(stateOf(t, st).Tags, stateOf(t, back).Tags); diff != "" {
		t.Error(diff)
	}
}

func TestWhatIsNotWhatItsDigestSaysIsNotSealed(t *testing.T) {
	s := newSealing(t)
	st := newStore(t, s.clock)
	publish(t, st, "r", "1", plain("x"))
	v := s.writer(t)
	backup(t, v, st)
	before := files(t, s.dir, layout.DirBlobs)
	d := digest.FromString("abc")
	wrong := bucket.Object{Size: 3, Digest: d, Content: strings.NewReader("abd")}
	_, err := v.PutBlob(t.Context(), d, wrong)
	if !errors.Is(err, bucket.ErrWrongBytes) {
		t.Errorf("got %v, want %v", err, bucket.ErrWrongBytes)
	}
	if err := v.ReplaceBlob(t.Context(), d, wrong); !errors.Is(err, bucket.ErrWrongBytes) {
		t.Errorf("replace: got %v, want %v", err, bucket.ErrWrongBytes)
	}
	if diff := cmp.Diff(before, files(t, s.dir, layout.DirBlobs)); diff != "" {
		t.Error(diff)
	}
}
