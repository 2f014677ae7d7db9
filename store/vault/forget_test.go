package vault_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lastro/store/vault"
	"lastro/store/vault/bucket"
	"lastro/store/vault/catalog"
)

func forget(t tester, v *vault.Vault, ids ...string) vault.Forgotten {
	t.Helper()
	r, err := v.Forget(t.Context(), vault.ForgetOptions{IDs: ids})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func writesLeft(n int64) *atomic.Int64 {
	var left atomic.Int64
	left.Store(n)
	return &left
}

func snapshotsOf(t tester, v *vault.Vault) (ids []string) {
	t.Helper()
	list, err := v.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list.Snapshots {
		ids = append(ids, s.ID)
	}
	return ids
}

func TestAForgottenSnapshotIsNoMoreAndTheOthersAreWhole(t *testing.T) {
	c := &clock{}
	st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
	v := openVault(t, dir, c, nil)
	var ids []string
	var states []state
	for i := range 4 {
		publish(t, st, "r", fmt.Sprint(i), plain(fmt.Sprint(i)))
		ids, states = append(ids, backup(t, v, st).Snapshot), append(states, stateOf(t, st))
	}
	got := forget(t, v, ids[0], ids[2])
	if diff := cmp.Diff(vault.Forgotten{Forgotten: []string{ids[0], ids[2]}, Left: 2}, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{ids[1], ids[3]}, snapshotsOf(t, v)); diff != "" {
		t.Error(diff)
	}
	if again := forget(t, v, ids[0]); len(again.Forgotten) > 0 || again.Left != 2 {
		t.Errorf("got %+v, want nothing to forget a second time", again)
	}
	restoresTo(t, v, c, ids[1], states[1])
	restoresTo(t, v, c, ids[3], states[3])
	backup(t, v, st)
	wantSound(t, v, "")
}

func TestProgramsThatKnowOnlyLayoutsSeeTheNewestThatIsLeft(t *testing.T) {
	c := &clock{}
	st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
	v := openVault(t, dir, c, nil)
	publish(t, st, "r", "1", plain("one"))
	backup(t, v, st)
	want, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	publish(t, st, "r", "2", plain("two"))
	forget(t, v, backup(t, v, st).Snapshot)
	if got, err := os.ReadFile(filepath.Join(dir, "index.json")); err != nil || string(got) != string(want) {
		t.Errorf("got %s, %v; want that of the first snapshot", got, err)
	}
}

func TestTheLastSnapshotOfAVaultOrAStoreStays(t *testing.T) {
	c := &clock{}
	a, b := newStore(t, c), newStore(t, c)
	v := openVault(t, filepath.Join(t.TempDir(), "vault"), c, nil)
	publish(t, a, "a", "1", plain("a"))
	publish(t, b, "b", "1", plain("b"))
	ids := []string{backup(t, v, a).Snapshot, backup(t, v, b).Snapshot, backup(t, v, a).Snapshot}
	for _, named := range [][]string{ids, {ids[1]}, {ids[0], ids[2]}} {
		if _, err := v.Forget(t.Context(), vault.ForgetOptions{IDs: named}); !errors.Is(err, vault.ErrLast) {
			t.Errorf("forget %v: got %v, want ErrLast", named, err)
		}
		if diff := cmp.Diff(ids, snapshotsOf(t, v)); diff != "" {
			t.Fatal(diff)
		}
	}
	if _, err := v.Forget(t.Context(), vault.ForgetOptions{IDs: ids, AllowLastOfStore: true}); !errors.Is(err, vault.ErrLast) {
		t.Errorf("got %v, want ErrLast of the vault whatever is allowed", err)
	}
	if _, err := v.Forget(t.Context(), vault.ForgetOptions{IDs: ids[1:2], AllowLastOfStore: true}); err != nil {
		t.Error(err)
	}
	all, err := v.Candidates(t.Context())
	if err != nil || len(all) != 2 || all[0].ID != ids[0] || all[0].Store != all[1].Store || all[0].Store == "" || all[0].Stored.IsZero() {
		t.Errorf("got %+v, %v; want the two of the first store", all, err)
	}
}

// TestForgettersThatRaceLeaveOne has each of two forget what the other leaves.
func TestForgettersThatRaceLeaveOne(t *testing.T) {
	c := &clock{}
	st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
	plainly := openVault(t, dir, c, nil)
	publish(t, st, "r", "1", plain("one"))
	ids := []string{backup(t, plainly, st).Snapshot, backup(t, plainly, st).Snapshot}
	v := openVault(t, dir, c, func(b bucket.Bucket) bucket.Bucket {
		return overtakenBucket{b, func() { forget(t, plainly, ids[1]) }, new(sync.Once)}
	})
	if _, err := v.Forget(t.Context(), vault.ForgetOptions{IDs: ids[:1]}); !errors.Is(err, vault.ErrLast) {
		t.Errorf("got %v, want ErrLast", err)
	}
	if diff := cmp.Diff(ids[:1], snapshotsOf(t, plainly)); diff != "" {
		t.Error(diff)
	}
}

func TestAForgetThatABackupOvertakesKeepsItsSnapshot(t *testing.T) {
	c := &clock{}
	st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
	plainly := openVault(t, dir, c, nil)
	publish(t, st, "r", "1", plain("one"))
	ids := []string{backup(t, plainly, st).Snapshot, backup(t, plainly, st).Snapshot}
	v := openVault(t, dir, c, func(b bucket.Bucket) bucket.Bucket {
		return overtakenBucket{b, func() { ids = append(ids, backup(t, plainly, st).Snapshot) }, new(sync.Once)}
	})
	if got := forget(t, v, ids[0]); got.Left != 2 {
		t.Errorf("got %+v, want two left", got)
	}
	if diff := cmp.Diff(ids[1:], snapshotsOf(t, v)); diff != "" {
		t.Error(diff)
	}
}

// TestNothingIsForgottenByWhatStandsIn damages what says which snapshots there are.
func TestNothingIsForgottenByWhatStandsIn(t *testing.T) {
	for _, key := range []string{"vault/HEAD.json", "vault/config.json"} {
		for name, damage := range damages() {
			if name == "grown" || name == "flipped" || name == "a folder" {
				continue // it reads, or nothing can be written in its place
			}
			t.Run(key+" "+name, func(t *testing.T) {
				c := &clock{}
				st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
				v := openVault(t, dir, c, nil)
				publish(t, st, "r", "1", plain("one"))
				ids := []string{backup(t, v, st).Snapshot, backup(t, v, st).Snapshot}
				if err := damage(filepath.Join(dir, key)); err != nil {
					t.Fatal(err)
				}
				before := files(t, dir, ".")
				_, candidates := v.Candidates(t.Context())
				_, err := v.Forget(t.Context(), vault.ForgetOptions{IDs: ids[:1]})
				for _, err := range []error{candidates, err} {
					if !errors.Is(err, catalog.ErrLost) || !strings.Contains(err.Error(), "lastro backup") {
						t.Errorf("got %v, want ErrLost with the way out", err)
					}
				}
				if !slices.Equal(before, files(t, dir, ".")) {
					t.Errorf("got %v, want %v", files(t, dir, "."), before)
				}
				backup(t, v, st)
				if got := forget(t, v, ids[0]); len(got.Forgotten) != 1 || got.Left != 2 {
					t.Errorf("got %+v after a backup has written it again", got)
				}
			})
		}
	}
}

// TestAForgetThatIsCutAtAnyWriteLosesNothing cuts it at each write.
func TestAForgetThatIsCutAtAnyWriteLosesNothing(t *testing.T) {
	for _, answer := range []bool{false, true} {
		for k := int64(1); ; k++ {
			c := &clock{}
			st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
			v := openVault(t, dir, c, nil)
			publish(t, st, "r", "1", plain("one"))
			first := backup(t, v, st).Snapshot
			want := stateOf(t, st)
			publish(t, st, "r", "2", plain("two"))
			second := backup(t, v, st).Snapshot
			writes := writesLeft(k)
			cut := openVault(t, dir, c, func(b bucket.Bucket) bucket.Bucket { return cutBucket{b, writes, answer} })
			_, err := cut.Forget(t.Context(), vault.ForgetOptions{IDs: []string{second}})
			if ids := snapshotsOf(t, v); ids[0] != first || len(ids) > 2 {
				t.Fatalf("cut at write %d: got %v", k, ids)
			}
			restoresTo(t, v, c, first, want)
			if err == nil && writes.Load() > 0 {
				break
			}
		}
	}
}
