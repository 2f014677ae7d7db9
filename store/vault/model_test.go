package vault_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"lastro/store"
	"lastro/store/ledger"
	"lastro/store/vault"
	"lastro/store/vault/bucket"
	"lastro/store/vault/bucket/buckettest"
)

// machine is a store and a vault, and what every snapshot has to give back.
type machine struct {
	c     *clock
	dir   string
	st    *store.Store
	v     *vault.Vault
	saved map[string]state
	tags  map[string]bool
}

// TestEverySnapshotGivesBackItsState does what people and crashes do, in any order.
func TestEverySnapshotGivesBackItsState(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "model")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		m := &machine{c: &clock{}, dir: dir, saved: map[string]state{}, tags: map[string]bool{}}
		m.st = openStore(t, filepath.Join(dir, "data"), m.c, nil)
		t.Cleanup(func() { _ = m.st.Close() })
		m.v = openVault(t, filepath.Join(dir, "vault"), m.c, nil)
		backup(t, m.v, m.st)
		for range rapid.IntRange(1, 6).Draw(t, "steps") {
			rapid.SampledFrom([]func(*rapid.T){m.publish, m.publish, m.untag, m.backup, m.cutBackup, m.verify}).Draw(t, "step")(t)
		}
		m.backup(t)
		for id, want := range m.saved {
			m.restore(t, id, want)
		}
	})
}

func (m *machine) publish(t *rapid.T) {
	repo, tag := rapid.SampledFrom([]string{"a", "b/c"}).Draw(t, "repo"), rapid.SampledFrom([]string{"1", "2"}).Draw(t, "tag")
	name := fmt.Sprint(rapid.IntRange(0, 4).Draw(t, "image"))
	img := plain(name)
	if rapid.Bool().Draw(t, "index") {
		img = index("out "+name, img, plain("second "+name))
	}
	if rapid.Bool().Draw(t, "signed") {
		img = img.with(signature(img.root, name))
	}
	publish(t, m.st, repo, tag, img)
	m.tags[repo+":"+tag] = true
}

func (m *machine) untag(t *rapid.T) {
	for _, repo := range []string{"a", "b/c"} {
		if m.tags[repo+":1"] {
			delete(m.tags, repo+":1")
			if err := m.st.Untag(t.Context(), repo, "1", ledger.Event{By: "model"}); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
}

func (m *machine) backup(t *rapid.T) {
	r := backup(t, m.v, m.st)
	if len(r.Failed) > 0 {
		t.Fatalf("got %+v", r.Failed)
	}
	m.saved[r.Snapshot] = stateOf(t, m.st)
}

func (m *machine) cutBackup(t *rapid.T) {
	var writes atomic.Int64
	writes.Store(rapid.Int64Range(1, 12).Draw(t, "writes"))
	answer := rapid.Bool().Draw(t, "answer")
	// Whether it was in time does not matter.
	_, _ = openVault(t, filepath.Join(m.dir, "vault"), m.c, func(b bucket.Bucket) bucket.Bucket { return cutBucket{b, &writes, answer} }).Backup(t.Context(), m.st, "model", nil)
}

func (m *machine) verify(t *rapid.T) { wantSound(t, m.v, "") }

func (m *machine) restore(t *rapid.T, id string, want state) {
	dir, err := os.MkdirTemp(m.dir, "restored")
	if err != nil {
		t.Fatal(err)
	}
	back := openStore(t, dir, m.c, nil)
	defer back.Close()
	if r := restore(t, m.v, back, vault.RestoreOptions{Snapshot: id}); len(r.Failed) > 0 {
		t.Fatalf("got %+v", r.Failed)
	}
	if diff := cmp.Diff(want, stateOf(t, back)); diff != "" {
		t.Fatal(diff)
	}
}

// TestMain makes the model short unless -rapid.checks or -long says otherwise.
func TestMain(m *testing.M) {
	if err := flag.Set("rapid.checks", "15"); err != nil {
		panic(err)
	}
	flag.Parse()
	if *long {
		_ = flag.Set("rapid.checks", "300") // known: it was just set
	}
	os.Exit(buckettest.Main(m))
}
