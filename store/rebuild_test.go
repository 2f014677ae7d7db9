package store

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"

	"lastro/store/layout"
	"lastro/store/ledger"
	"lastro/store/storetest"
)

// files are the names below a folder.
func files(t testing.TB, dir string) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			names[name] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestARebuildReportsWhatIsWrongAndTakesNothingAway(t *testing.T) {
	dir := storetest.Folder(t)
	s := open(t, dir, Options{})
	good, bad := storetest.Sparse("good"), storetest.New("bad")
	good.MustPut(t, s, "a/good", "v1")
	bad.MustPut(t, s, "bad", "v1")
	registry := filepath.Join(dir, "registry")
	repositories := filepath.Join(registry, layout.Repositories)
	child := bad.Manifests[0].Descriptor.Digest
	for name, text := range map[string]string{
		filepath.Join(registry, layout.Data(child)):                               "not a manifest",
		filepath.Join(registry, layout.Tag("bad", "torn")):                        "",
		filepath.Join(registry, layout.Tag("bad", "odd")):                         "sha256:odd",
		filepath.Join(registry, layout.Tag("bad", "dangling")):                    digest.FromString("gone").String(),
		filepath.Join(repositories, "bad/_manifests/tags/file"):                   "x",
		filepath.Join(repositories, "bad/_manifests/revisions/file"):              "x",
		filepath.Join(repositories, "bad/_manifests/revisions/sha256/short/link"): "x",
		filepath.Join(repositories, "README"):                                     "x",
		filepath.Join(repositories, "UPPER/_manifests/tags/v1/current/link"):      good.Root.Digest.String(),
	} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	before := files(t, registry)
	history, err := s.Ledger().History(t.Context(), "a/good", "v1")
	if err != nil || len(history) == 0 {
		t.Fatal(err)
	}
	out, err := s.Rebuild(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(out.Problems, "\n")
	for _, want := range []string{
		"bad@" + child.String(), "bad:odd", "bad:dangling", `"file" among the tags`, `"file" among the manifests`, `"short" among the manifests`, "README", "UPPER",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no problem names %s in\n%s", want, text)
		}
	}
	if len(out.Problems) != 8 || out.Repositories != 2 || out.Tags != 2 {
		t.Errorf("found %d, %d repositories, %d tags:\n%s", len(out.Problems), out.Repositories, out.Tags, text)
	}
	if after := files(t, registry); len(after) != len(before) {
		t.Errorf("%d files, %d before", len(after), len(before))
	}
	again, err := s.Ledger().History(t.Context(), "a/good", "v1")
	if err != nil || len(again) != len(history) {
		t.Errorf("history %v, %v", again, err)
	}
	// What cannot be read keeps what the ledger knew of it.
	refs, err := s.Ledger().Children(t.Context(), child)
	if err != nil || len(refs) != len(bad.Manifests[0].Refs) {
		t.Errorf("of the damaged manifest the ledger knows %v, %v", refs, err)
	}
	if err := verifyClosure(t.Context(), s, "a/good", good.Root.Digest); err != nil {
		t.Error(err)
	}
}

func TestALostChildIsAProblemAndNotTakenForLeftOut(t *testing.T) {
	s := open(t, storetest.Folder(t), Options{})
	m := storetest.New("a")
	m.MustPut(t, s, "a", "v1")
	child := m.Manifests[0].Descriptor.Digest
	if err := s.tree.Remove(layout.Revision("a", child)); err != nil {
		t.Fatal(err)
	}
	out, err := s.Rebuild(t.Context())
	if err != nil || len(out.Problems) != 1 || !strings.Contains(out.Problems[0], child.String()) {
		t.Errorf("%v, %v", out.Problems, err)
	}
	if _, err := s.Closure(t.Context(), "a", m.Root.Digest); err == nil || !strings.Contains(err.Error(), child.String()) {
		t.Errorf("closure: %v", err)
	}
}

func TestAStoreWithoutItsLedgerLearnsWhatItServes(t *testing.T) {
	dir := storetest.Folder(t)
	s := open(t, dir, Options{})
	m := storetest.Sparse("a")
	m.MustPut(t, s, "a", "v1")
	if err := errors.Join(s.Close(), os.Remove(filepath.Join(dir, "ledger.db"))); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, Options{})
	if tags := checkWhole(t, s); tags["a:v1"] != m.Root.Digest {
		t.Errorf("tags %v", tags)
	}
	closure, err := s.Closure(t.Context(), "a", m.Root.Digest)
	if err != nil || len(closure) != len(m.Content)-2 {
		t.Errorf("a closure of %d without its referrers, %v", len(closure), err)
	}
	events, err := s.Ledger().History(t.Context(), "a", "v1")
	if err != nil || len(events) != 1 || events[0].Event != ledger.Adopted {
		t.Errorf("history %+v, %v", events, err)
	}
}

func TestOneProcessHasTheDataFolder(t *testing.T) {
	dir := storetest.Folder(t)
	s := open(t, dir, Options{})
	_, err := Open(dir, Options{Now: storetest.Now})
	locked, ok := errors.AsType[*LockedError](err)
	if !ok || locked.PID != os.Getpid() || !strings.Contains(err.Error(), "in use by process") {
		t.Errorf("got %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, dir, Options{})
}

func TestADataFolderFromANewerVersionIsRefusedAndUnchanged(t *testing.T) {
	dir := storetest.Folder(t)
	open(t, dir, Options{}).Close()
	path := filepath.Join(dir, "ledger.db")
	db, err := bolt.Open(path, 0o600, &bolt.Options{NoFreelistSync: true})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte("meta")).Put([]byte("format"), binary.BigEndian.AppendUint64(nil, 99))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{Now: storetest.Now}); !errors.Is(err, ledger.ErrNewer) || !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v", err)
	}
	after, err := os.ReadFile(path)
	if err != nil || string(after) != string(before) {
		t.Errorf("the ledger changed, %v", err)
	}
	open(t, storetest.Folder(t), Options{})
}

func TestTheDataFolderLetsNobodyElseIn(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	dir := filepath.Join(storetest.Folder(t), "data")
	s := open(t, dir, Options{})
	storetest.New("a").MustPut(t, s, "a", "v1")
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %o", name, info.Mode().Perm())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestOpenRemovesOldUnfinishedDownloads(t *testing.T) {
	dir := storetest.Folder(t)
	folder := filepath.Join(dir, "partial/sha256")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, age := range map[string]time.Duration{"old": partialAge + time.Hour, "new": time.Hour} {
		at := storetest.Now().Add(-age)
		if err := errors.Join(os.WriteFile(filepath.Join(folder, name), nil, 0o600), os.Chtimes(filepath.Join(folder, name), at, at)); err != nil {
			t.Fatal(err)
		}
	}
	open(t, dir, Options{})
	left, err := os.ReadDir(folder)
	if err != nil || len(left) != 1 || left[0].Name() != "new" {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestAFullDiskIsSaidAndHurtsNothing(t *testing.T) {
	dir := storetest.Folder(t)
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Skip("a small tmpfs cannot be mounted: ", err)
	}
	defer func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	s := open(t, dir, Options{})
	small := storetest.New("small")
	small.MustPut(t, s, "a", "v1")
	large := storetest.New("large")
	large.Blob("x", make([]byte, 4<<20))
	if _, err := large.Put(t.Context(), s, "a", "v1"); !errors.Is(err, layout.ErrFull) || !strings.Contains(err.Error(), "local registry") {
		t.Errorf("got %v", err)
	}
	if tags := checkWhole(t, s); tags["a:v1"] != small.Root.Digest {
		t.Errorf("tags %v", tags)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=64m"); err != nil {
		t.Fatal(err)
	}
	large.MustPut(t, s, "a", "v1")
	if tags := checkWhole(t, s); tags["a:v1"] != large.Root.Digest {
		t.Errorf("tags %v", tags)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
