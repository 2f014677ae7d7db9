package s3

import (
	"errors"
	"io/fs"
	"net/http"
	"strings"
	"testing"
	"time"

	"lastro/store/vault/bucket"
	"lastro/store/vault/bucket/buckettest"
)

const month = 30 * 24 * time.Hour

func locking(s Settings, mode string) Settings {
	s.ObjectLock = &ObjectLock{Mode: mode, Retain: month}
	return s
}

// TestLocksKeepOnARealServer tries both modes.
func TestLocksKeepOnARealServer(t *testing.T) {
	t.Parallel()
	s := startGateway(t)
	for _, mode := range []string{"governance", "compliance"} {
		t.Run(mode, func(t *testing.T) {
			b := openLocked(t, locking(s, mode), mode, Options{})
			if wanted, kept, err := b.Locks(t.Context(), "vault/probe/a"); !wanted || !kept || err != nil {
				t.Fatalf("got wanted %v, kept %v, %v", wanted, kept, err)
			}
			before := time.Now().Add(month).Truncate(time.Second)
			data := []byte("content")
			if _, err := b.Put(t.Context(), "blobs/sha256/a", bucket.Bytes(data)); err != nil {
				t.Fatal(err)
			}
			if err := b.Replace(t.Context(), "index.json", bucket.Bytes(data)); err != nil {
				t.Fatal(err)
			}
			if info := mustHead(t, b, "index.json"); !info.LockedUntil.IsZero() {
				t.Errorf("index.json is locked until %s, want it free", info.LockedUntil)
			}
			info := mustHead(t, b, "blobs/sha256/a")
			if info.LockedUntil.Before(before) {
				t.Errorf("locked until %s, want %s or later", info.LockedUntil, before)
			}
			left, err := b.Remove(t.Context(), []bucket.Info{info})
			if err != nil || len(left) != 1 {
				t.Fatalf("got %v, %v; want it kept", left, err)
			}
			if _, ok := errors.AsType[*bucket.LockedError](left[0].Err); !ok {
				t.Errorf("got %v, want a LockedError", left[0].Err)
			}
			if err := b.Replace(t.Context(), info.Key, bucket.Bytes([]byte("hides it"))); err != nil {
				t.Fatal(err)
			}
			left, err = b.Remove(t.Context(), []bucket.Info{info})
			if _, ok := errors.AsType[*bucket.LockedError](left[0].Err); !ok || err != nil {
				t.Errorf("a hidden version: got %v, %v, want a LockedError", left[0].Err, err)
			}
			later := time.Now().Add(2 * month).UTC().Truncate(time.Second)
			for _, until := range []time.Time{later, later.Add(-time.Hour)} {
				gone := bucket.Info{Key: "blobs/sha256/none"}
				if err := b.Retain(t.Context(), []bucket.Info{info, gone}, until); err != nil {
					t.Errorf("until %s: %v", until, err)
				}
			}
			if got := b.lockedUntil(t.Context(), info); !got.Equal(later) {
				t.Errorf("locked until %s, want %s", got, later)
			}
		})
	}
}

func mustHead(t *testing.T, b *remote, key string) bucket.Info {
	t.Helper()
	info, err := b.Head(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func TestALockThatEndsLaterStays(t *testing.T) {
	server := &buckettest.Server{Lock: true}
	b := onFake(t, server, locking(Settings{}, "governance"))
	if _, err := b.Put(t.Context(), "blobs/a", bucket.Bytes([]byte("x"))); err != nil {
		t.Fatal(err)
	}
	was := server.LockedUntil("p/blobs/a")
	info := mustHead(t, b, "blobs/a")
	if err := b.Retain(t.Context(), []bucket.Info{info}, time.Now().Add(month/2)); err != nil {
		t.Errorf("a shorter one: %v", err)
	}
	if got := server.LockedUntil("p/blobs/a"); !got.Equal(was) {
		t.Errorf("got %s, want %s", got, was)
	}
	if err := b.Retain(t.Context(), []bucket.Info{info}, time.Now().Add(2*month)); err != nil || !server.LockedUntil("p/blobs/a").After(was) {
		t.Errorf("a longer one: %v", err)
	}
}

func TestALockThatIsDeniedIsAnError(t *testing.T) {
	server := &buckettest.Server{Lock: true}
	b := onFake(t, server, locking(Settings{}, "governance"))
	if _, err := b.Put(t.Context(), "blobs/a", bucket.Bytes([]byte("x"))); err != nil {
		t.Fatal(err)
	}
	info := mustHead(t, b, "blobs/a")
	server.Seen = func(r *http.Request) (int, string) {
		if r.URL.Query().Has("retention") {
			return http.StatusForbidden, "AccessDenied"
		}
		return 0, ""
	}
	if err := b.Retain(t.Context(), []bucket.Info{info}, time.Now().Add(2*month)); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("got %v, want fs.ErrPermission", err)
	}
}

func TestABucketWithoutLocksIsNamed(t *testing.T) {
	for name, b := range map[string]*remote{
		"a small server": onFake(t, &buckettest.Server{}, locking(Settings{}, "governance")),
		"a real server":  openNew(t, locking(startGateway(t), "governance"), "plain", "p", Options{}),
	} {
		_, _, locksErr := b.Locks(t.Context(), "vault/probe/a")
		for what, err := range map[string]error{"try": locksErr, "write": second(b.Put(t.Context(), "blobs/a", bucket.Bytes([]byte("x"))))} {
			if want := "the bucket has no Object Lock"; err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %s: got %v, want %q", name, what, err, want)
			}
		}
	}
}

func TestOnlyWhatAVaultCannotDoWithoutIsLocked(t *testing.T) {
	for key, want := range map[string]bool{
		"blobs/sha256/a": true, "vault/snapshots/a.json": true, "vault/config.json": true, "vault/HEAD.json": true,
		"index.json": false, "oci-layout": false, "vault/verified/a/b.json": false, "vault/probe/a": false,
	} {
		if got := lockable(key); got != want {
			t.Errorf("%s: got %v, want %v", key, got, want)
		}
	}
}
