package vault_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"lastro/store"
	"lastro/store/vault"
	"lastro/store/vault/layout"
)

// doomed is a vault on a real server just before a process begins something there.
type doomed struct {
	*network
	c      *clock
	dir    string
	prefix string
	st     *store.Store
	saved  map[string]state
	now    state // of the store
}

// process opens a vault in a process that ends at its n-th request, which is still
// done or is not.
func (d *doomed) process(t *testing.T, n int, after bool) (context.Context, *vault.Vault) {
	ctx, kill := context.WithCancel(t.Context())
	d.sent, d.killAt, d.after, d.kill = 0, n, after, kill
	return ctx, d.open(t, d.prefix, nil)
}

func newDoomed(t *testing.T, server *remote, prefix string) *doomed {
	d := &doomed{network: server.network(0, 0), c: &clock{}, dir: t.TempDir(), prefix: prefix, saved: map[string]state{}}
	d.st = openStore(t, filepath.Join(d.dir, "data"), d.c, nil)
	t.Cleanup(func() { _ = d.st.Close() })
	publish(t, d.st, "r", "t0", plain("image 0", sharedLayer()))
	d.now = stateOf(t, d.st)
	return d
}

// grow saves three snapshots, and publishes what is not saved.
func (d *doomed) grow(t *testing.T) (ids []string) {
	v := d.open(t, d.prefix, nil)
	for i := range 3 {
		publish(t, d.st, "r", "moving", plain(fmt.Sprint("image ", i+1)))
		id := backup(t, v, d.st).Snapshot
		ids = append(ids, id)
		d.saved[id] = stateOf(t, d.st)
	}
	publish(t, d.st, "r", "new", index("", plain("a"), plain("b")))
	d.now = stateOf(t, d.st)
	return ids
}

// TestAProcessMayEndAtAnyRequest ends an init, a backup, a forget, a prune and a
// restore at each request to a real server. Nothing is sent afterwards. The next
// process finds all that was saved, and ends what was begun.
func TestAProcessMayEndAtAnyRequest(t *testing.T) {
	t.Parallel()
	server := startRemote(t)
	for _, c := range []struct {
		name   string
		step   int // without -long
		before func(t *testing.T, d *doomed) (ids []string)
		do     func(ctx context.Context, d *doomed, v *vault.Vault, ids []string) error
	}{
		{"init", 67, func(*testing.T, *doomed) []string { return nil }, func(ctx context.Context, _ *doomed, v *vault.Vault, _ []string) error {
			_, err := v.Init(ctx)
			return err
		}},
		{"backup", 5, func(t *testing.T, d *doomed) []string { return d.grow(t) }, func(ctx context.Context, d *doomed, v *vault.Vault, _ []string) error {
			_, err := v.Backup(ctx, d.st, "test", nil)
			return err
		}},
		{"forget", 5, func(t *testing.T, d *doomed) []string { return d.grow(t) }, func(ctx context.Context, d *doomed, v *vault.Vault, ids []string) error {
			_, err := v.Forget(ctx, vault.ForgetOptions{IDs: []string{ids[0], ids[2]}})
			return err
		}},
		{"prune", 13, func(t *testing.T, d *doomed) []string {
			ids := d.grow(t)
			forget(t, d.open(t, d.prefix, nil), ids[0], ids[2])
			delete(d.saved, ids[0])
			delete(d.saved, ids[2])
			return ids
		}, func(ctx context.Context, d *doomed, v *vault.Vault, _ []string) error {
			_, err := v.Prune(ctx, d.st, atOnce)
			return err
		}},
		{"restore", 7, func(t *testing.T, d *doomed) []string { return d.grow(t) }, func(ctx context.Context, d *doomed, v *vault.Vault, ids []string) error {
			st := openStore(tb{ctx}, filepath.Join(d.dir, "back"), d.c, nil)
			_, err := v.Restore(ctx, st, vault.RestoreOptions{Snapshot: ids[1]}, nil)
			return errors.Join(err, st.Close())
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			step := c.step
			if *long {
				step = 1
			}
			for n, ended := 1, false; !ended && !t.Failed(); n += step {
				both := []bool{false, true}
				if !*long {
					both = both[n/step%2:][:1]
				}
				for _, after := range both {
					now := time.Now()
					synctest.Test(t, func(t *testing.T) {
						time.Sleep(time.Until(now))
						d := newDoomed(t, server, fmt.Sprintf("%s-%d-%t", c.name, n, after))
						ids := c.before(t, d)
						ctx, v := d.process(t, n, after)
						err := c.do(ctx, d, v, ids)
						ended = d.sent < n
						if ended && err != nil {
							t.Fatalf("undisturbed: %v", err)
						}
						d.calm()
						d.goesOn(t, c.name, ids)
					})
					if t.Failed() {
						t.Fatalf("it ended at request %d, which was done: %v", n, after)
					}
				}
				if ended {
					t.Logf("%d requests", n-1)
				}
			}
		})
	}
}

// tb is a tester outside of one.
type tb struct{ ctx context.Context }

func (tb) Helper()                      {}
func (tb) Fatal(args ...any)            { panic(fmt.Sprint(args...)) }
func (tb) Fatalf(f string, args ...any) { panic(fmt.Sprintf(f, args...)) }
func (tb) Errorf(f string, args ...any) { panic(fmt.Sprintf(f, args...)) }
func (t tb) Context() context.Context   { return t.ctx }

// goesOn is what the next process does, and what it finds.
func (d *doomed) goesOn(t *testing.T, what string, ids []string) {
	t.Helper()
	v := d.open(t, d.prefix, nil)
	if p, err := v.Init(t.Context()); err != nil || p.Config.Mode() != layout.Strict || p.Left > 0 {
		t.Fatalf("got %+v, %v", p, err)
	}
	if what == "forget" { // all that were named, or none
		there := snapshotsOf(t, v)
		if len(there) != 3 && len(there) != 1 {
			t.Fatalf("got %v of %v", there, ids)
		}
		if len(there) == 1 {
			delete(d.saved, ids[0])
			delete(d.saved, ids[2])
		}
	}
	if len(ids) > 0 {
		allSound(t, v)
		d.givesBack(t, v, "restored before") // no process has ended the prune yet
	}
	if what == "restore" {
		st := openStore(t, filepath.Join(d.dir, "back"), d.c, nil)
		if r := restore(t, v, st, vault.RestoreOptions{Snapshot: ids[1]}); len(r.Failed) > 0 {
			t.Errorf("got %+v", r.Failed)
		}
		if diff := cmp.Diff(d.saved[ids[1]], stateOf(t, st)); diff != "" {
			t.Error(diff)
		}
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	}
	d.saved[backup(t, v, d.st).Snapshot] = d.now
	pruneBy(t, v, d.st, atOnce)
	allSound(t, v)
	d.givesBack(t, v, "restored after")
	if r := pruneBy(t, v, d.st, atOnce); r.Removed+r.Condemned+r.Records > 0 || r.Live != len(files(t, d.remote.dir(d.prefix), "blobs")) {
		t.Errorf("got %+v, and %d blobs are there", r, len(files(t, d.remote.dir(d.prefix), "blobs")))
	}
}

// givesBack restores what was saved, and what is listed beside that, which is what the
// backup that ended wanted to save.
func (d *doomed) givesBack(t *testing.T, v *vault.Vault, into string) {
	t.Helper()
	listed := snapshotsOf(t, v)
	for id := range d.saved {
		if !slices.Contains(listed, id) {
			t.Errorf("snapshot %s is not there any more", id)
		}
	}
	for i, id := range listed {
		back := openStore(t, filepath.Join(d.dir, fmt.Sprint(into, i)), d.c, nil)
		r := restore(t, v, back, vault.RestoreOptions{Snapshot: id})
		want, known := d.saved[id]
		if !known {
			want = d.now
		}
		if diff := cmp.Diff(want, stateOf(t, back)); diff != "" || len(r.Failed) > 0 {
			t.Errorf("snapshot %s: %+v %s", id, r.Failed, diff)
		}
		if err := back.Close(); err != nil {
			t.Error(err)
		}
	}
}
