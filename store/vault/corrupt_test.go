package vault_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	"lastro/store"
	"lastro/store/vault"
	"lastro/store/vault/layout"
)

var (
	corruptSeed = flag.Uint64("corrupt-seed", 0, "of the first damage; 0: by chance")
	corruptRuns = flag.Int("corruptions", 0, "vaults to damage; 0: 80, or 10000 with -long")
)

// wholeVault is a vault with one of everything, and what its snapshots give back.
type wholeVault struct {
	c       *clock
	seals   *sealing // nil: it is not sealed
	dir     string
	data    string       // of the registry
	st      *store.Store // which is closed when the vault is made
	objects []string
	needed  map[string]bool // objects without which a snapshot is not whole
	ids     []string
	states  map[string]state
}

func newWholeVault(t *testing.T, sealed bool) *wholeVault {
	s := newSealing(t)
	w := &wholeVault{c: s.clock, dir: s.dir, needed: map[string]bool{}, states: map[string]state{}}
	if sealed {
		w.seals = s
	}
	w.data = t.TempDir()
	w.st = openStore(t, w.data, w.c, nil)
	v := w.open(t, w.dir, s.keys)
	sample(t, w.st)
	w.save(t, v)
	publish(t, w.st, "docker.io/library/a", "1", plain("third", sharedLayer()))
	forgotten := backup(t, v, w.st).Snapshot
	publish(t, w.st, "docker.io/library/a", "1", plain("fourth", sharedLayer()))
	w.save(t, v)
	allSound(t, v)
	publish(t, w.st, "other", "1", plain("other", sharedLayer()))
	w.save(t, v)
	forget(t, v, forgotten)
	o := atOnce
	o.Grace = 1 << 50
	if r := pruneBy(t, v, w.st, o); r.Condemned == 0 || r.Removed > 0 {
		t.Fatalf("got %+v", r)
	}
	live, err := v.Live(t.Context(), headOf(t, w.dir).Snapshots, func(ctx context.Context, d ocispec.Descriptor) (mirror.Manifest, error) {
		m, _, err := v.Manifest(ctx, d)
		return m, err
	})
	if err != nil {
		t.Fatal(err)
	}
	for d := range live {
		if sealed {
			d = s.names(t).Of(d)
		}
		w.needed[layout.BlobKey(d)] = true
	}
	for _, e := range headOf(t, w.dir).Snapshots {
		w.needed[e.Record] = true
	}
	w.objects = slices.DeleteFunc(files(t, w.dir, "."), func(key string) bool { return key == ".lock" })
	if err := w.st.Close(); err != nil {
		t.Fatal(err)
	}
	return w
}

// open opens a copy of the vault, on a machine with a folder for what it keeps.
func (w *wholeVault) open(t *testing.T, dir, keys string) *vault.Vault {
	t.Helper()
	set := vault.Settings{Name: "main", To: "file://" + dir}
	if w.seals != nil {
		set.Encrypt = []string{w.seals.identity.Recipient().String()}
		w.seals.identified(&set)
	}
	v, err := vault.Open(t.Context(), set, vault.Options{Now: w.c.now, Version: "test", Keys: keys, Config: []byte("backup: []\n")})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (w *wholeVault) save(t *testing.T, v *vault.Vault) {
	id := backup(t, v, w.st).Snapshot
	w.ids = append(w.ids, id)
	w.states[id] = stateOf(t, w.st)
}

// corruption is one damage to one object.
type corruption struct {
	key, how string
	old, now []byte // nil: nothing there
}

func (x corruption) String() string {
	i := 0
	for i < len(x.old) && i < len(x.now) && x.old[i] == x.now[i] {
		i++
	}
	near := func(b []byte) []byte { return b[max(0, min(len(b), i-30)):min(len(b), i+30)] }
	return fmt.Sprintf("%s %s at byte %d of %d: %q became %q", x.key, x.how, i, len(x.old), near(x.old), near(x.now))
}

// corrupt damages an object of a vault, records as often as blobs.
func (w *wholeVault) corrupt(t *testing.T, dir string, random *rand.Rand) corruption {
	t.Helper()
	of := []string{"vault/HEAD.json", "vault/config.json", "vault/", "vault/snapshots/", "blobs/", "blobs/", ""}[random.IntN(7)]
	some := slices.DeleteFunc(slices.Clone(w.objects), func(key string) bool { return !strings.HasPrefix(key, of) })
	x := corruption{key: some[random.IntN(len(some))]}
	old, err := os.ReadFile(filepath.Join(dir, x.key))
	if err != nil || len(old) == 0 {
		t.Fatal(x.key, len(old), err)
	}
	x.old, x.now = old, bytes.Clone(old)
	at, n := random.IntN(len(old)), 1+random.IntN(64)
	switch random.IntN(8) {
	case 0, 1, 2:
		x.how = "has a bit flipped"
		x.now[at] ^= 1 << random.IntN(8)
	case 3:
		x.how = "has other bytes"
		for i := range x.now[at:min(len(old), at+n)] {
			x.now[at+i] = byte(random.Uint32())
		}
	case 4:
		x.how, x.now = "is truncated", x.now[:at]
	case 5:
		x.how, x.now = "is lost", nil
	case 6:
		x.how, x.now = "lost some bytes", slices.Delete(x.now, at, min(len(old), at+n))
	case 7:
		other := w.objects[random.IntN(len(w.objects))]
		x.how = "is swapped with " + other
		if x.now, err = os.ReadFile(filepath.Join(dir, other)); err == nil {
			err = replaceFile(filepath.Join(dir, other), old)
		}
	}
	if x.how == "is lost" {
		err = errors.Join(err, os.Remove(filepath.Join(dir, x.key)))
	} else {
		err = errors.Join(err, replaceFile(filepath.Join(dir, x.key), x.now))
	}
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func replaceFile(path string, data []byte) error {
	return errors.Join(os.Remove(path), os.WriteFile(path, data, 0o600))
}

// changed tells which objects are not as they were.
func (w *wholeVault) changed(t *testing.T, dir string) (keys []string) {
	t.Helper()
	for _, key := range w.objects {
		was, err := os.ReadFile(filepath.Join(w.dir, key))
		if err != nil {
			t.Fatal(err)
		}
		if now, err := os.ReadFile(filepath.Join(dir, key)); err != nil || !bytes.Equal(was, now) {
			keys = append(keys, key)
		}
	}
	return keys
}

// TestNoCorruptionGoesUnnoticed damages vaults by chance. Nobody panics, what comes
// back is right or refused, a verification finds all that is not right any more, and
// where the registry is there, a backup makes it good.
func TestNoCorruptionGoesUnnoticed(t *testing.T) {
	t.Parallel()
	runs, seed := *corruptRuns, *corruptSeed
	switch {
	case runs == 0 && *long:
		runs = 10_000
	case runs == 0:
		runs = 80
	}
	if seed == 0 {
		seed = rand.Uint64() >> 1
	}
	for name, sealed := range map[string]bool{"plain": false, "sealed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			newWholeVault(t, sealed).damageMany(t, seed, runs/2)
		})
	}
}

func (w *wholeVault) damageMany(t *testing.T, seed uint64, runs int) {
	found, harmless := 0, 0
	for i := range uint64(runs) {
		dir := filepath.Join(t.TempDir(), "vault")
		if err := os.CopyFS(dir, os.DirFS(w.dir)); err != nil {
			t.Fatal(err)
		}
		random := rand.New(rand.NewPCG(seed+i, 3))
		if w.damageOne(t, dir, random, seed+i) {
			found++
		} else {
			harmless++
		}
		if err := os.RemoveAll(filepath.Dir(dir)); err != nil {
			t.Fatal(err)
		}
		if i%1000 == 999 {
			t.Logf("%d damages: %d found, %d without harm", i+1, found, harmless)
		}
	}
	t.Logf("%d damages from seed %d: %d found, %d without harm", runs, seed, found, harmless)
}

// damageOne is isNoticed after a damage, and tells which it was if anything is wrong.
func (w *wholeVault) damageOne(t *testing.T, dir string, random *rand.Rand, seed uint64) bool {
	t.Helper()
	x := w.corrupt(t, dir, random)
	defer func() {
		if t.Failed() {
			t.Logf("%s\nrun it again with -corrupt-seed %d -corruptions 2", x, seed)
		}
	}()
	noticed := w.isNoticed(t, dir, x, random)
	if t.Failed() {
		t.FailNow()
	}
	return noticed
}

// isNoticed tells whether a verification finds a damage, and wants it to if it does
// any harm.
func (w *wholeVault) isNoticed(t *testing.T, dir string, x corruption, random *rand.Rand) bool {
	t.Helper()
	v := w.open(t, dir, filepath.Join(t.TempDir(), "keys"))
	id := w.ids[random.IntN(len(w.ids))]
	harm := append(w.unlisted(t, v), w.harm(t, v, id, w.states[id])...)
	for _, key := range w.changed(t, dir) {
		if w.needed[key] {
			harm = append(harm, key+" is needed")
		}
	}
	all, err := v.VerifyAll(t.Context(), vault.VerifyOptions{All: true}, nil)
	noticed := err != nil || slices.ContainsFunc(all.Snapshots, func(s vault.Verified) bool { return len(s.Problems) > 0 })
	if len(harm) > 0 && !noticed {
		t.Errorf("%v: not found by a verification of %d snapshots", harm, len(all.Snapshots))
	}
	if random.IntN(6) == 0 {
		w.heals(t, dir)
	}
	return noticed
}

// unlisted are the snapshots of which a vault does not know any more.
func (w *wholeVault) unlisted(t *testing.T, v *vault.Vault) (harm []string) {
	list, err := v.List(t.Context())
	if err != nil {
		return []string{err.Error()}
	}
	for _, id := range w.ids {
		if !slices.ContainsFunc(list.Snapshots, func(l vault.Listed) bool { return l.ID == id }) {
			harm = append(harm, "snapshot "+id+" is not listed any more")
		}
	}
	return harm
}

// harm is what a snapshot does not give back. What it gives back otherwise is an error.
func (w *wholeVault) harm(t *testing.T, v *vault.Vault, id string, want state) (harm []string) {
	t.Helper()
	back := openStore(t, t.TempDir(), w.c, nil)
	defer back.Close()
	r, err := v.Restore(t.Context(), back, vault.RestoreOptions{Snapshot: id}, nil)
	got := stateOf(t, back)
	for name, d := range got.Tags {
		if want.Tags[name] != d {
			t.Errorf("%s is restored as %s, and was %s", name, d, want.Tags[name])
		}
	}
	switch {
	case err != nil:
		harm = append(harm, err.Error())
	case len(r.Failed) > 0:
		harm = append(harm, r.Failed[0].Error)
	default:
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("snapshot %s is restored otherwise, and nobody says so: %s", id, diff)
		}
	}
	return harm
}

// heals has the registry make good what it can: the newest snapshot afterwards is all
// right, and gives back what the registry has.
func (w *wholeVault) heals(t *testing.T, dir string) {
	t.Helper()
	data, keys := t.TempDir(), filepath.Join(t.TempDir(), "keys")
	if err := os.CopyFS(data, os.DirFS(w.data)); err != nil {
		t.Fatal(err)
	}
	if w.seals != nil {
		if err := os.CopyFS(keys, os.DirFS(w.seals.keys)); err != nil {
			t.Fatal(err)
		}
	}
	v := w.open(t, dir, keys)
	st := openStore(t, data, w.c, nil)
	defer st.Close()
	r, err := v.Backup(t.Context(), st, "test", nil)
	if err != nil || len(r.Failed) > 0 {
		t.Errorf("backup: %+v, %v", r.Failed, err)
		return
	}
	wantSound(t, v, r.Snapshot)
	if harm := w.harm(t, v, r.Snapshot, stateOf(t, st)); len(harm) > 0 {
		t.Errorf("after a backup: %v", harm)
	}
}
