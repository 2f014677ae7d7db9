package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"
)

// dump is all that a file says but who has it open.
func dump(t *testing.T, path string) map[string]string {
	t.Helper()
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	all := map[string]string{}
	err = db.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error { return dumpBucket(all, string(name), b) })
	})
	if err != nil {
		t.Fatal(err)
	}
	delete(all, bucketMeta+"/"+metaOpen)
	return all
}

func dumpBucket(all map[string]string, path string, b *bolt.Bucket) error {
	all[path] = fmt.Sprint("sequence ", b.Sequence())
	return b.ForEach(func(k, v []byte) error {
		if v == nil {
			return dumpBucket(all, path+"/"+string(k), b.Bucket(k))
		}
		all[path+"/"+string(k)] = string(v)
		return nil
	})
}

// names are what lies in a folder.
func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func TestACopyHasWhatWasThereAndSaysThatItIsACopy(t *testing.T) {
	f := mustOpen(t, filled(t), testSettings())
	to := filepath.Join(t.TempDir(), "copy.db")
	size, err := f.Copy(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Update(t.Context(), set("k", "later")); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(to)
	if err != nil || info.Size() != size || info.Mode().Perm() != 0o600 {
		t.Fatalf("the copy is %v, %v; want %d bytes and mode 0600", info, err, size)
	}
	c := mustOpen(t, to, testSettings())
	if !c.Unclean() || !c.Copied() {
		t.Errorf("unclean %v, copied %v; want both", c.Unclean(), c.Copied())
	}
	if got := get(t, c, "key 7") == "" || get(t, c, "k") != ""; got {
		t.Error("the copy is not what was there when it was made")
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if again := mustOpen(t, to, testSettings()); again.Unclean() || again.Copied() {
		t.Error("a copy that was opened and closed is still one")
	}
}

func TestAFileThatWasNotClosedIsNoCopy(t *testing.T) {
	path := testPath(t)
	f := mustOpen(t, path, testSettings())
	crashed := content(t, path)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, crashed, 0o600); err != nil { // the same file, so the same inode
		t.Fatal(err)
	}
	again := mustOpen(t, path, testSettings())
	if !again.Unclean() || again.Copied() {
		t.Errorf("unclean %v, copied %v; want unclean only", again.Unclean(), again.Copied())
	}
}

func TestACopyNeverTakesAnothersPlace(t *testing.T) {
	f := mustOpen(t, filled(t), testSettings())
	dir := t.TempDir()
	taken, dangling := filepath.Join(dir, "taken"), filepath.Join(dir, "dangling")
	if err := errors.Join(os.WriteFile(taken, []byte("mine"), 0o600), os.Symlink("nowhere", dangling)); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{taken, dangling} {
		if _, err := f.Copy(t.Context(), to); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s: got %v, want fs.ErrExist", to, err)
		}
	}
	// One that comes while the copy is made stays, too.
	late := filepath.Join(dir, "late")
	f.settings.steps = func(op string) error {
		if op == "rename" {
			return os.WriteFile(late, []byte("mine"), 0o600)
		}
		return nil
	}
	if _, err := f.Copy(t.Context(), late); !errors.Is(err, fs.ErrExist) {
		t.Errorf("late: got %v, want fs.ErrExist", err)
	}
	if got := string(content(t, taken)) + string(content(t, late)); got != "minemine" {
		t.Errorf("the files say %q", got)
	}
	if diff := cmp.Diff([]string{"dangling", "late", "taken"}, names(t, dir)); diff != "" {
		t.Error(diff)
	}
}

func TestWhereNothingRenamesAtomicallyACopyTakesNoPlaceEither(t *testing.T) {
	dir := t.TempDir()
	from, to, taken := filepath.Join(dir, "from"), filepath.Join(dir, "to"), filepath.Join(dir, "taken")
	if err := errors.Join(os.WriteFile(from, []byte("new"), 0o600), os.WriteFile(taken, []byte("mine"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := linkNew(from, taken); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v, want fs.ErrExist", err)
	}
	if err := linkNew(from, to); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"taken", "to"}, names(t, dir)); diff != "" {
		t.Error(diff)
	}
}

func TestACopyThatFailsAtAnyStepLeavesNothingHalf(t *testing.T) {
	fault := errors.New("fault")
	var ops []string
	f := mustOpen(t, filled(t), testSettings())
	f.settings.steps = func(op string) error { ops = append(ops, op); return nil }
	if _, err := f.Copy(t.Context(), filepath.Join(t.TempDir(), "c")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"fill", "sync", "rename", "sync folder"}, ops); diff != "" {
		t.Fatal(diff)
	}
	for _, at := range ops {
		dir := t.TempDir()
		f.settings.steps = func(op string) error {
			if op == at {
				return fault
			}
			return nil
		}
		if _, err := f.Copy(t.Context(), filepath.Join(dir, "c")); !errors.Is(err, fault) {
			t.Errorf("%s: got %v, want the fault", at, err)
		}
		want := []string(nil)
		if at == "sync folder" {
			want = []string{"c"} // it is whole; whether its name is on disk nobody knows
		}
		if diff := cmp.Diff(want, names(t, dir)); diff != "" {
			t.Errorf("%s: %s", at, diff)
		}
	}
}

func TestACopyEndsWithItsContext(t *testing.T) {
	f := mustOpen(t, filled(t), testSettings())
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	f.settings.steps = func(op string) error {
		if op == "fill" {
			cancel()
		}
		return nil
	}
	if _, err := f.Copy(ctx, filepath.Join(dir, "c")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if got := names(t, dir); len(got) > 0 {
		t.Errorf("%v is left", got)
	}
	w := patient{ctx, failing{t}}
	if _, err := w.Write(nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

// failing is a writer that is not to be written to.
type failing struct{ t *testing.T }

func (f failing) Write([]byte) (int, error) { f.t.Error("something was written"); return 0, nil }

func TestALargeCopyIsSyncedAsItGrows(t *testing.T) {
	fault := errors.New("fault")
	syncs := 0
	w := &steady{Writer: io.Discard, sync: func() error {
		if syncs++; syncs == 3 {
			return fault
		}
		return nil
	}}
	var err error
	n := 0
	for ; err == nil; n++ {
		_, err = w.Write(make([]byte, steadily/2))
	}
	if !errors.Is(err, fault) || syncs != 3 || n != 6 {
		t.Errorf("got %v after %d syncs of %d halves", err, syncs, n)
	}
}

func TestACopyBesideWritersIsOfOneMoment(t *testing.T) {
	f := mustOpen(t, testPath(t), testSettings())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		for i := 0; ; i++ {
			err := f.Update(ctx, func(tx *bolt.Tx) error {
				return errors.Join(set("one", fmt.Sprint(i))(tx), set("two", fmt.Sprint(i))(tx))
			})
			if err != nil {
				done <- err
				return
			}
		}
	}()
	for i := range 20 {
		to := filepath.Join(t.TempDir(), fmt.Sprint(i))
		if _, err := f.Copy(t.Context(), to); err != nil {
			t.Fatal(err)
		}
		all := dump(t, to)
		if one, two := all["test/one"], all["test/two"]; one != two {
			t.Errorf("the copy has %q and %q, which were never there together", one, two)
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
