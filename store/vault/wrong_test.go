package vault_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"lastro/store/vault"
	"lastro/store/vault/bucket"
	"lastro/store/vault/layout"
)

// wrongAtFirst gives other bytes of the same length for the first readings of a key.
type wrongAtFirst struct {
	bucket.Bucket
	key   string
	times int64
	reads *atomic.Int64
}

func (w wrongAtFirst) Get(ctx context.Context, key string, offset int64) (io.ReadCloser, bucket.Info, error) {
	body, info, err := w.Bucket.Get(ctx, key, offset)
	if err == nil && key == w.key && w.reads.Add(1) <= w.times {
		other := bytes.NewReader(make([]byte, info.Size-offset))
		return io.NopCloser(other), info, body.Close()
	}
	return body, info, err
}

// TestBytesThatAreWrongOnceAreFetchedAgainInARestore says when they break an image: not
// the first time, and then they do.
func TestBytesThatAreWrongOnceAreFetchedAgainInARestore(t *testing.T) {
	c := &clock{}
	dir, st := filepath.Join(t.TempDir(), "vault"), newStore(t, c)
	publish(t, st, "r", "1", plain("a"))
	backup(t, openVault(t, dir, c, nil), st)
	for times, failed := range []int{0, 0, 1} {
		in := wrongAtFirst{key: layout.BlobKey(layerOf("a")), times: int64(times), reads: new(atomic.Int64)}
		v := openVault(t, dir, c, func(b bucket.Bucket) bucket.Bucket {
			in.Bucket = b
			return in
		})
		r := restore(t, v, newStore(t, c), vault.RestoreOptions{})
		if len(r.Failed) != failed || r.Images != 1-failed || in.reads.Load() != min(int64(times), 1)+1 {
			t.Errorf("%d times: %d images, %+v, by %d readings", times, r.Images, r.Failed, in.reads.Load())
		}
	}
}

// unchangeable is a vault that who reads it may not change.
type unchangeable struct{ bucket.Bucket }

func (unchangeable) Swap(context.Context, string, string, []byte) (string, error) {
	return "", errors.New("403 AccessDenied")
}

// conditionless is a bucket that does not look whether it swaps what is meant.
type conditionless struct{ bucket.Bucket }

func (c conditionless) Swap(ctx context.Context, key, _ string, data []byte) (string, error) {
	if err := c.Replace(ctx, key, bucket.Bytes(data)); err != nil {
		return "", err
	}
	r, err := c.Load(ctx, key)
	return r.ETag, err
}

// TestWhatARestoreFoundDamagedIsNotBelievedToBeThere has an image of an older snapshot
// come back from elsewhere, where the restore could not note in the vault what of it is
// damaged, and says so.
func TestWhatARestoreFoundDamagedIsNotBelievedToBeThere(t *testing.T) {
	as := func(b bucket.Bucket) bucket.Bucket { return b }
	racy := func(b bucket.Bucket) bucket.Bucket { return conditionless{b} }
	for _, test := range []struct {
		name         string
		saves, reads func(bucket.Bucket) bucket.Bucket
		want         string
	}{
		{"who may only read", as, func(b bucket.Bucket) bucket.Bucket { return unchangeable{b} }, "403 AccessDenied"},
		{"who may not be alone", racy, racy, "another one may be writing"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := &clock{}
			dir, st := filepath.Join(t.TempDir(), "vault"), newStore(t, c)
			publish(t, st, "r", "bad", plain("bad"))
			v := openVault(t, dir, c, test.saves)
			older := backup(t, v, st)
			backup(t, v, newStore(t, c)) // of another machine: nothing is in it
			if err := damages()["lost"](filepath.Join(dir, layout.BlobKey(layerOf("bad")))); err != nil {
				t.Fatal(err)
			}
			var said bytes.Buffer
			log := slog.New(slog.NewTextHandler(&said, nil))
			reads, err := vault.Open(t.Context(), vault.Settings{Name: "main", To: "file://" + dir}, vault.Options{Now: c.now, Log: log, Wrap: test.reads})
			if err != nil {
				t.Fatal(err)
			}
			back := newStore(t, c)
			if r := restore(t, reads, back, vault.RestoreOptions{Snapshot: older.Snapshot}); len(r.Failed) != 1 || len(headOf(t, dir).Damaged) > 0 {
				t.Fatalf("got %+v, and %v is noted", r.Failed, headOf(t, dir).Damaged)
			}
			if text := said.String(); !strings.Contains(text, "run `lastro backup verify`") || !strings.Contains(text, test.want) {
				t.Errorf("said: %s", text)
			}
			publish(t, back, "r", "bad", plain("bad"))
			if r := backup(t, v, back); len(r.Failed) > 0 || r.NewBlobs == 0 {
				t.Errorf("got %+v", r)
			}
			wantSound(t, v, "")
		})
	}
}
