package vault_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"lastro/store/vault"
	"lastro/store/vault/bucket"
	"lastro/store/vault/catalog"
	"lastro/store/vault/layout"
)

// TestCommitRecordsAloneAreEnough loses all else that says what a vault is.
func TestCommitRecordsAloneAreEnough(t *testing.T) {
	t.Parallel()
	config, head := filepath.FromSlash(layout.KeyConfig), filepath.FromSlash(layout.KeyHead)
	for name, lose := range map[string]func(dir string) error{
		"both are gone": func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, config)), os.Remove(filepath.Join(dir, head)))
		},
		"both are damaged": func(dir string) error {
			return errors.Join(replaceFile(filepath.Join(dir, config), []byte("{")), replaceFile(filepath.Join(dir, head), []byte("{}")))
		},
		"each is in the place of the other": func(dir string) error {
			one, err := os.ReadFile(filepath.Join(dir, config))
			other, failed := os.ReadFile(filepath.Join(dir, head))
			return errors.Join(err, failed, replaceFile(filepath.Join(dir, config), other), replaceFile(filepath.Join(dir, head), one))
		},
		"one is gone and the other damaged": func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, config)), replaceFile(filepath.Join(dir, head), []byte("{}")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, c := t.TempDir(), &clock{}
			v, st := openVault(t, dir, c, nil), newStore(t, c)
			sample(t, st)
			first := backup(t, v, st)
			want, id := stateOf(t, st), configOf(t, dir).ID
			if err := lose(dir); err != nil {
				t.Fatal(err)
			}
			back := newStore(t, c)
			if r := restore(t, v, back, vault.RestoreOptions{}); r.Snapshot != first.Snapshot {
				t.Errorf("got %+v", r)
			}
			if diff := cmp.Diff(want, stateOf(t, back)); diff != "" {
				t.Error(diff)
			}
			if _, err := v.Prune(t.Context(), st, atOnce); !errors.Is(err, catalog.ErrLost) {
				t.Errorf("prune: got %v, want ErrLost", err)
			}
			backup(t, v, st)
			if now := configOf(t, dir); now.ID != id || len(headOf(t, dir).Snapshots) != 2 {
				t.Errorf("got %+v and %+v, want vault %s with both snapshots", now, headOf(t, dir), id)
			}
			allSound(t, v)
		})
	}
}

func configOf(t *testing.T, dir string) layout.Config {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(layout.KeyConfig)))
	if err != nil {
		t.Fatal(err)
	}
	c, err := layout.ParseConfig(data)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestRecordsOfTwoVaultsAreNobodys does not guess.
func TestRecordsOfTwoVaultsAreNobodys(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), &clock{}
	v, st := openVault(t, dir, c, nil), newStore(t, c)
	publish(t, st, "r", "1", plain("one"))
	backup(t, v, st)
	record := filepath.Join(dir, filepath.FromSlash(headOf(t, dir).Snapshots[0].Record))
	data, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	id := configOf(t, dir).ID
	other := bytes.ReplaceAll(data, []byte(id), []byte("01J00000000000000000000000"))
	err = errors.Join(os.WriteFile(filepath.Join(filepath.Dir(record), "20200101T000000Z-01J00000000000000000000000.json"), other, 0o600),
		os.Remove(filepath.Join(dir, filepath.FromSlash(layout.KeyConfig))), os.Remove(filepath.Join(dir, filepath.FromSlash(layout.KeyHead))))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.List(t.Context()); !errors.Is(err, vault.ErrNoVault) {
		t.Errorf("got %v, want ErrNoVault", err)
	}
	if _, err := v.Backup(t.Context(), st, "test", nil); !errors.Is(err, vault.ErrForeign) {
		t.Errorf("got %v, want ErrForeign", err)
	}
}

// unansweredBucket carries the first commit out, and says that another came in between.
type unansweredBucket struct {
	bucket.Bucket
	then func()
	once *sync.Once
}

func (b unansweredBucket) Swap(ctx context.Context, key, old string, data []byte) (string, error) {
	etag, err := b.Bucket.Swap(ctx, key, old, data)
	if key == layout.KeyHead && err == nil {
		b.once.Do(func() {
			b.then()
			etag, err = "", bucket.ErrChanged
		})
	}
	return etag, err
}

// TestACommitWithoutAnswerIsOneAlsoAfterAPrune has another daemon remove from the vault
// between a commit and the moment when the backup learns that it was one. The snapshot
// is in the list: its record stays.
func TestACommitWithoutAnswerIsOneAlsoAfterAPrune(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir, plainly, _ := forgottenIn(t, &clock{})
		st := newStore(t, &clock{})
		v := wrapped(t, dir, func(b bucket.Bucket) bucket.Bucket {
			return unansweredBucket{b, func() { pruneBy(t, plainly, newStore(t, &clock{}), atOnce) }, new(sync.Once)}
		})
		publish(t, st, "r", "new", plain("new"))
		before := len(snapshotsOf(t, plainly))
		r := backup(t, v, st)
		allSound(t, plainly)
		if ids := snapshotsOf(t, plainly); len(ids) != before+1 || !slices.Contains(ids, r.Snapshot) {
			t.Errorf("got %q, want one more than %d, and among them %s", ids, before, r.Snapshot)
		}
	})
}
