package vault_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"lastro/store/vault"
	"lastro/store/vault/bucket"
	"lastro/store/vault/layout"
)

// deaf gives no answer to a removal.
type deaf struct{}

func (deaf) Remove(context.Context, []bucket.Info) ([]bucket.Kept, error) {
	return nil, errors.New("connection reset")
}

// TestAPruneThatEndedLongAgoKeepsNobodyWaiting has a process that died while it removed,
// and the next one a day later: nobody has to watch it for a lease then.
func TestAPruneThatEndedLongAgoKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		after time.Duration
		waits bool
	}{
		"a minute later it may still go on": {time.Minute, true},
		"a day later it does not":           {25 * time.Hour, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir, plainly, again := forgottenIn(t, &clock{})
				v := wrapped(t, dir, func(b bucket.Bucket) bucket.Bucket { return onlyBlobs{b, deaf{}} })
				if _, err := v.Prune(t.Context(), newStore(t, &clock{}), atOnce); err == nil {
					t.Fatal("the prune did not die")
				}
				if h := headOf(t, dir); !h.Sweeping() || h.Prune.Beat.IsZero() {
					t.Fatalf("got %+v in %s", h.Prune, filepath.Join(dir, layout.KeyHead))
				}
				time.Sleep(c.after)
				began := time.Now()
				again()
				if waited := time.Since(began) > time.Minute; waited != c.waits {
					t.Errorf("waited for %s", time.Since(began))
				}
				allSound(t, plainly)
			})
		})
	}
}

// otherVault is a vault of another store with a snapshot.
func otherVault(t *testing.T, c *clock) (dir string) {
	t.Helper()
	st, dir := newStore(t, c), filepath.Join(t.TempDir(), "other")
	publish(t, st, "other", "1", plain("other"))
	backup(t, openVault(t, dir, c, nil), st)
	return dir
}

func copyKey(t *testing.T, from, to, key string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(from, key))
	if err == nil {
		err = os.WriteFile(filepath.Join(to, key), raw, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestARecordOfAnotherVaultIsNoSnapshotWhereTheHeadIsLost(t *testing.T) {
	c := &clock{}
	st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
	v := openVault(t, dir, c, nil)
	ids, _ := grown(t, v, st, 2)
	other := otherVault(t, c)
	copyKey(t, other, dir, files(t, other, layout.DirSnapshots)[0])
	remove(t, dir, layout.KeyHead)
	if got := snapshotsOf(t, v); !slices.Equal(got, ids) {
		t.Errorf("got %v, want %v", got, ids)
	}
}

// TestNothingIsRemovedWhereTheHeadIsOfAnotherVault has the head of one vault beside the
// config of another.
func TestNothingIsRemovedWhereTheHeadIsOfAnotherVault(t *testing.T) {
	c := &clock{}
	st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
	v := openVault(t, dir, c, nil)
	ids, _ := grown(t, v, st, 3)
	forget(t, v, ids[0])
	copyKey(t, otherVault(t, c), dir, layout.KeyConfig)
	before := files(t, dir, ".")
	_, forgetErr := v.Forget(t.Context(), vault.ForgetOptions{IDs: ids[1:2]})
	_, pruneErr := v.Prune(t.Context(), st, atOnce)
	_, backupErr := v.Backup(t.Context(), st, "test", nil)
	_, listErr := v.List(t.Context())
	for what, err := range map[string]error{"forget": forgetErr, "prune": pruneErr, "backup": backupErr, "list": listErr} {
		if !errors.Is(err, vault.ErrDamaged) {
			t.Errorf("%s: got %v, want that they do not belong together", what, err)
		}
	}
	if after := files(t, dir, "."); !slices.Equal(before, after) {
		t.Errorf("got %v, want %v", after, before)
	}
}

func TestWhereTheNewestIsForgottenOtherProgramsSeeTheOneBefore(t *testing.T) {
	c := &clock{}
	st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
	v := openVault(t, dir, c, nil)
	ids, _ := grown(t, v, st, 3)
	forget(t, v, ids[2])
	want, err := v.Flat(t.Context(), ids[1])
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, layout.KeyIndex))
	if err != nil || string(got) != string(want) {
		t.Errorf("got %s, %v; want %s", got, err, want)
	}
}
