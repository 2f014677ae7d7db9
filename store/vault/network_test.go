package vault_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"lastro/store"
	"lastro/store/ledger"
	"lastro/store/vault"
	"lastro/store/vault/layout"
)

var (
	networkSeed = flag.Uint64("network-seed", 0, "of the first run behind a bad network; 0: by chance")
	networkRuns = flag.Int("network-runs", 0, "runs behind a bad network; 0: 8, or 1000 with -long")
)

// TestABadNetworkLosesNothing saves, forgets, prunes, verifies and restores over
// connections that break, answers that get lost and requests that arrive late or twice.
// Once it is better, all that was said to be saved is there, whole.
func TestABadNetworkLosesNothing(t *testing.T) {
	t.Parallel()
	runs, seed := *networkRuns, *networkSeed
	switch {
	case runs == 0 && *long:
		runs = 1000
	case runs == 0:
		runs = 8
	}
	if seed == 0 {
		seed = rand.Uint64() >> 1
	}
	server := startRemote(t)
	sum := tally{requests: map[fault]int{}, done: map[string]int{}, failed: map[string]int{}}
	t.Run("each", func(t *testing.T) {
		for i := range uint64(runs) {
			t.Run(fmt.Sprint("-network-runs 1 -network-seed ", seed+i), func(t *testing.T) {
				t.Parallel()
				behindABadNetwork(t, server, seed+i, &sum)
			})
		}
	})
	t.Logf("%d runs from seed %d; requests %v; done %v; failed %v", runs, seed, sum.requests, sum.done, sum.failed)
}

func behindABadNetwork(t *testing.T, server *remote, seed uint64, sum *tally) {
	now := time.Now()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(now)) // the server's time
		m := newMachines(t, server, seed)
		m.live(t)
		m.network.calm()
		m.heals(t)
		sum.add(m)
		t.Logf("done %v, failed %v", m.done, m.failed)
	})
}

// tally is what happened in many runs.
type tally struct {
	mu           sync.Mutex
	requests     map[fault]int
	done, failed map[string]int
}

func (s *tally) add(m *machines) {
	s.mu.Lock()
	defer s.mu.Unlock()
	count(s.requests, m.had)
	count(s.done, m.done)
	count(s.failed, m.failed)
}

func count[K comparable](all, some map[K]int) {
	for k, n := range some {
		all[k] += n
	}
}

// machines are two daemons behind a bad network that save to one vault, and what they
// were told.
type machines struct {
	*network
	c      *clock
	dir    string
	prefix string
	stores [2]*store.Store
	images [2]int

	mu     sync.Mutex
	random *rand.Rand
	saved  map[string]state // said to be saved, by snapshot
	maybe  []state          // of backups that failed
	gone   map[string]bool  // said to be forgotten
	going  map[string]bool  // of forgets that failed
	done   map[string]int
	failed map[string]int
}

func newMachines(t *testing.T, server *remote, seed uint64) *machines {
	m := &machines{
		network: server.network(seed, 0.02+float64(seed%7)*0.02), random: rand.New(rand.NewPCG(seed, 2)), c: &clock{}, dir: t.TempDir(), prefix: fmt.Sprint("run-", seed),
		saved: map[string]state{}, gone: map[string]bool{}, going: map[string]bool{}, done: map[string]int{}, failed: map[string]int{},
	}
	for i := range m.stores {
		m.stores[i] = openStore(t, filepath.Join(m.dir, fmt.Sprint("data ", i)), m.c, nil)
		t.Cleanup(func() { _ = m.stores[i].Close() })
		publish(t, m.stores[i], "docker.io/library/a", "1", plain("a", sharedLayer()))
	}
	return m
}

func (m *machines) some(n int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.random.IntN(n)
}

func (m *machines) note(do func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	do()
}

// try does something as a new process does, some times if it fails.
func (m *machines) try(t *testing.T, name string, do func(*vault.Vault) error) {
	for range 3 {
		err := do(m.open(t, m.prefix, nil))
		m.note(func() {
			if err == nil {
				m.done[name]++
			} else {
				m.failed[name]++
			}
		})
		if err == nil {
			return
		}
	}
}

func (m *machines) live(t *testing.T) {
	m.try(t, "init", func(v *vault.Vault) error { _, err := v.Init(t.Context()); return err })
	for i := range m.stores {
		m.change(t, i)
		m.backup(t, i)
	}
	for range 1 + m.some(3) {
		for _, step := range []func(*testing.T, int){m.change, m.backup, m.together, m.forget, m.prune, m.verify, m.together, m.restore} {
			if m.some(4) > 0 {
				step(t, m.some(2))
			}
		}
	}
	m.restore(t, 0)
}

// together has one daemon save what the other one forgets and prunes, at once. Where
// the place was not proven to take two writers, one comes after the other.
func (m *machines) together(t *testing.T, i int) {
	raw, _ := os.ReadFile(filepath.Join(m.remote.dir(m.prefix), layout.KeyConfig)) // none is not strict
	c, _ := layout.ParseConfig(raw)
	m.change(t, i)
	var wg sync.WaitGroup
	wg.Go(func() { m.backup(t, i) })
	if c.Mode() != layout.Strict {
		wg.Wait()
	}
	m.forget(t, 1-i)
	m.prune(t, 1-i)
	if m.some(2) == 0 {
		m.backup(t, 1-i)
	}
	wg.Wait()
}

// change publishes an image and lets another one go, of few that both have.
func (m *machines) change(t *testing.T, i int) {
	st := m.stores[i]
	m.images[i]++
	img := plain(fmt.Sprint("image ", m.some(4)), sharedLayer())
	if m.some(3) == 0 {
		img = index("", img, plain(fmt.Sprint("other ", m.images)))
	}
	if m.some(3) == 0 {
		img = img.with(signature(img.root, fmt.Sprint(m.images)))
	}
	publish(t, st, "r", fmt.Sprint("t", m.images[i]), img)
	if m.images[i] < 3 {
		return
	}
	old := fmt.Sprint("t", m.images[i]-2)
	tag, err := st.Ledger().Tag(t.Context(), "r", old)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Untag(t.Context(), "r", old, ledger.Event{By: "test"}); err != nil {
		t.Fatal(err)
	}
	parents, err := st.Ledger().Parents(t.Context(), tag.Digest)
	if err != nil {
		t.Fatal(err)
	}
	if tag.Digest != img.root.desc.Digest && len(parents) == 0 && m.free(t, st, tag.Digest) {
		drop(t, st, "r", tag.Digest)
	}
}

// free tells whether no tag of the repository is at a digest.
func (m *machines) free(t *testing.T, st *store.Store, d digest.Digest) bool {
	for tag, err := range st.Tags(t.Context(), "r") {
		if err != nil {
			t.Fatal(err)
		}
		if tag.Digest == d {
			return false
		}
	}
	return true
}

func (m *machines) backup(t *testing.T, i int) {
	now := stateOf(t, m.stores[i])
	m.try(t, "backup", func(v *vault.Vault) error {
		r, err := v.Backup(t.Context(), m.stores[i], "test", nil)
		if err != nil {
			m.note(func() { m.maybe = append(m.maybe, now) })
			return err
		}
		if len(r.Failed) > 0 {
			t.Errorf("got %+v", r.Failed)
		}
		m.note(func() { m.saved[r.Snapshot] = now })
		return nil
	})
}

func (m *machines) forget(t *testing.T, _ int) {
	m.try(t, "forget", func(v *vault.Vault) error {
		list, err := v.List(t.Context())
		if err != nil || len(list.Snapshots) < 2 {
			return err
		}
		id := list.Snapshots[m.some(len(list.Snapshots)-1)].ID
		m.note(func() { m.going[id] = true })
		_, err = v.Forget(t.Context(), vault.ForgetOptions{IDs: []string{id}})
		if err == nil {
			m.note(func() { m.gone[id] = true })
		}
		if errors.Is(err, vault.ErrLast) {
			return nil
		}
		return err
	})
}

func (m *machines) prune(t *testing.T, i int) {
	m.try(t, "prune", func(v *vault.Vault) error {
		r, err := v.Prune(t.Context(), m.stores[i], atOnce)
		m.note(func() { m.done["blobs removed"] += r.Removed })
		return err
	})
}

func (m *machines) verify(t *testing.T, _ int) {
	m.try(t, "verify", func(v *vault.Vault) error {
		_, err := v.VerifyAll(t.Context(), vault.VerifyOptions{All: true}, nil)
		return err
	})
}

// restore wants no image that was not saved so, whatever else. It begins anew each time:
// what did not come back is in the history of who tries again.
func (m *machines) restore(t *testing.T, _ int) {
	m.try(t, "restore", func(v *vault.Vault) error {
		back := openStore(t, t.TempDir(), m.c, nil)
		defer back.Close()
		r, err := v.Restore(t.Context(), back, vault.RestoreOptions{}, nil)
		if err == nil && len(r.Failed) == 0 {
			m.wantSaved(t, r.Snapshot, stateOf(t, back))
		}
		return err
	})
}

// wantSaved wants what was saved as a snapshot: its tags, all below them, and the
// history, and nothing that was not there.
func (m *machines) wantSaved(t *testing.T, id string, got state) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	want, known := m.saved[id]
	if known {
		if diff := different(want, got); diff != "" {
			t.Errorf("snapshot %s: %s", id, diff)
		}
		return
	}
	if !slices.ContainsFunc(m.maybe, func(s state) bool { return different(s, got) == "" }) {
		t.Errorf("snapshot %s holds what no backup has saved: %+v", id, got.Tags)
	}
}

// different compares what was saved with what came back. What no tag led to may have
// been collected before.
func different(want, got state) string {
	for name, n := range got.Manifests {
		if want.Manifests[name] != n {
			return fmt.Sprintf("%s has %d contents, and had %d", name, n, want.Manifests[name])
		}
	}
	want.Manifests, got.Manifests = nil, nil
	return cmp.Diff(want, got)
}

// heals looks at everything when the network is good again, lets the next process end
// what was begun, and looks again.
func (m *machines) heals(t *testing.T) {
	// The pauses of the faults have passed by the bubble's clock alone.
	if _, err := m.open(t, m.prefix, func() time.Time { return m.date }).Init(t.Context()); err != nil {
		t.Fatal(err)
	}
	v := m.open(t, m.prefix, nil)
	if len(m.saved) > 0 {
		allSound(t, v)
		m.listed(t, snapshotsOf(t, v))
	}
	m.backup(t, 0)
	m.backup(t, 1)
	if r := pruneBy(t, v, m.stores[0], atOnce); r.Kept > 0 {
		t.Errorf("got %+v", r)
	}
	m.whole(t, v)
	if r := pruneBy(t, v, m.stores[0], atOnce); r.Removed+r.Condemned+r.Records > 0 || r.Live != blobsOn(t, m.remote.dir(m.prefix)) {
		t.Errorf("got %+v, and %d blobs are there", r, blobsOn(t, m.remote.dir(m.prefix)))
	}
}

// listed wants every snapshot there that was said to be, and none that was said to be
// gone.
func (m *machines) listed(t *testing.T, ids []string) {
	t.Helper()
	for id := range m.saved {
		if !slices.Contains(ids, id) && !m.going[id] {
			t.Errorf("snapshot %s was said to be saved, and is not there", id)
		}
	}
	for _, id := range ids {
		if m.gone[id] {
			t.Errorf("snapshot %s was said to be forgotten, and is there", id)
		}
	}
}

// whole wants every snapshot to give back what was saved.
func (m *machines) whole(t *testing.T, v *vault.Vault) {
	t.Helper()
	allSound(t, v)
	ids := snapshotsOf(t, v)
	m.listed(t, ids)
	for _, id := range ids {
		back := openStore(t, t.TempDir(), m.c, nil)
		r := restore(t, v, back, vault.RestoreOptions{Snapshot: id})
		if len(r.Failed) > 0 {
			t.Errorf("snapshot %s: %+v", id, r.Failed)
		}
		m.wantSaved(t, id, stateOf(t, back))
		if err := back.Close(); err != nil {
			t.Error(err)
		}
	}
}
