package vault_test

import (
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"lastro/store/vault"
	"lastro/store/vault/bucket"
	"lastro/store/vault/layout"
)

// headHook calls something before each reading of the head.
type headHook struct {
	bucket.Bucket
	before func()
}

func (b headHook) Load(ctx context.Context, key string) (bucket.Record, error) {
	if key == layout.KeyHead {
		b.before()
	}
	return b.Bucket.Load(ctx, key)
}

// TestARestoreOfWhatIsForgottenMeanwhileIsSavedAgain lets another daemon forget and
// prune the snapshot that is restored, before each reading of the head. The next backup
// must not believe that what it needs is still there.
func TestARestoreOfWhatIsForgottenMeanwhileIsSavedAgain(t *testing.T) {
	t.Parallel()
	for n, ended := int64(1), false; !ended; n++ {
		c := &clock{}
		st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
		plainly := openVault(t, dir, c, nil)
		ids, states := grown(t, plainly, st, 2)
		var heads atomic.Int64
		v := openVault(t, dir, c, func(b bucket.Bucket) bucket.Bucket {
			return headHook{b, func() {
				if heads.Add(1) == n {
					forget(t, plainly, ids[0])
					pruneBy(t, plainly, st, atOnce)
				}
			}}
		})
		back := newStore(t, c)
		r, err := v.Restore(t.Context(), back, vault.RestoreOptions{Snapshot: ids[0]}, nil)
		ended = heads.Load() < n
		if err != nil || len(r.Failed) > 0 {
			if ended || n > 1 {
				t.Fatalf("head %d: got %+v, %v", n, r.Failed, err)
			}
			continue // forgotten before it was found
		}
		saved := backup(t, openVault(t, dir, c, nil), back)
		wantSound(t, plainly, saved.Snapshot)
		restoresTo(t, plainly, c, saved.Snapshot, stateOf(t, back))
		if got := stateOf(t, back).Tags["r:t0"]; got != states[0].Tags["r:t0"] {
			t.Errorf("head %d: got %s", n, got)
		}
	}
}

// TestWhatARestoreFoundDamagedIsSentAgain has the image that could not be restored come
// back from elsewhere, before anybody verified the vault.
func TestWhatARestoreFoundDamagedIsSentAgain(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"lost":      os.Remove,
		"truncated": func(path string) error { return os.Truncate(path, 3) },
	} {
		t.Run(name, func(t *testing.T) {
			c := &clock{}
			st, dir := newStore(t, c), filepath.Join(t.TempDir(), "vault")
			publish(t, st, "r", "good", plain("good"))
			publish(t, st, "r", "bad", plain("bad"))
			v := openVault(t, dir, c, nil)
			backup(t, v, st)
			path := filepath.Join(dir, layout.BlobKey(layerOf("bad")))
			if err := os.Chmod(path, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := damage(path); err != nil {
				t.Fatal(err)
			}
			back := newStore(t, c)
			if r := restore(t, v, back, vault.RestoreOptions{}); len(r.Failed) != 1 {
				t.Fatalf("got %+v, want one that failed", r.Failed)
			}
			publish(t, back, "r", "bad", plain("bad"))
			if r := backup(t, v, back); len(r.Failed) > 0 {
				t.Errorf("got %+v", r.Failed)
			}
			wantSound(t, v, "")
		})
	}
}
