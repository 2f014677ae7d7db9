package layout

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/opencontainers/go-digest"

	"lastro/store/storetest"
)

// recorder notes every change.
type recorder struct{ steps []string }

func (r *recorder) step(op, subject string) { r.steps = append(r.steps, op+" "+subject) }

func TestATagIsShownBetweenTwoBarriers(t *testing.T) {
	d := digest.FromString("x")
	for name, write := range map[string]func(*Tree) error{
		"by the engine":   func(tree *Tree) error { return tree.LinkDurably(Tag("a", "v1"), d) },
		"by distribution": func(tree *Tree) error { return tree.Driver().PutContent(t.Context(), "/"+Tag("a", "v1"), []byte(d)) },
	} {
		t.Run(name, func(t *testing.T) {
			r := &recorder{}
			tree := open(t, storetest.Folder(t), Options{Step: r.step})
			if err := write(tree); err != nil {
				t.Fatal(err)
			}
			want := []string{"write tmp/1", "syncfs ", "rename " + Tag("a", "v1"), "syncfs "}
			if !slices.Equal(r.steps, want) {
				t.Errorf("got  %q\nwant %q", r.steps, want)
			}
		})
	}
}

func TestContentIsWrittenOnceAndSyncedBeforeItHasItsName(t *testing.T) {
	r := &recorder{}
	tree := open(t, storetest.Folder(t), Options{Step: r.step})
	data := random(bufferSize + 1)
	d := digest.FromBytes(data)
	for range 2 {
		if err := tree.Ingest(t.Context(), describe(data), (&server{data: data}).fetch); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"open partial/" + partial(d), "write " + d.String(), "write " + d.String(), "fdatasync " + d.String(), "rename " + Data(d)}
	if !slices.Equal(r.steps, want) {
		t.Errorf("got  %q\nwant %q", r.steps, want)
	}
}

func TestAnUploadIsSyncedBeforeItIsMoved(t *testing.T) {
	r := &recorder{}
	d := open(t, storetest.Folder(t), Options{Step: r.step}).Driver()
	w, err := d.Writer(t.Context(), "/up/data", false)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Write([]byte("hello"))
	err = errors.Join(err, w.Commit(t.Context()), w.Close(), d.Move(t.Context(), "/up/data", "/blobs/data"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"open up/data", "write up/data", "fdatasync up/data", "rename blobs/data"}
	if !slices.Equal(r.steps, want) {
		t.Errorf("got %q, want %q", r.steps, want)
	}
	if _, err := w.Write([]byte("more")); !errors.Is(err, errEnded) {
		t.Errorf("a write after the commit: %v", err)
	}
}

// secondBarrier is the one that makes a tag's name durable.
const secondBarrier = "syncfs after a rename"

// afterRename tells f of the second barrier by that name.
func afterRename(f *failing) func(op, subject string) error {
	renamed := false
	return func(op, subject string) error {
		if op == "syncfs" && renamed {
			op = secondBarrier
		}
		renamed = op == "rename"
		return f.fault(op, subject)
	}
}

func TestATagIsAsItWasWhenItCannotBeMadeDurable(t *testing.T) {
	before, after := digest.FromString("before"), digest.FromString("after")
	for _, op := range []string{"write", "syncfs", "rename", secondBarrier} {
		for _, had := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s fails, a tag before: %v", op, had), func(t *testing.T) {
				f := &failing{op: op, err: syscall.EIO}
				dir := storetest.Folder(t)
				tree := open(t, dir, Options{Fault: afterRename(f)})
				if had {
					if err := tree.LinkDurably(Tag("a", "v1"), before); err != nil {
						t.Fatal(err)
					}
				}
				f.count = 1
				if err := tree.LinkDurably(Tag("a", "v1"), after); !errors.Is(err, syscall.EIO) {
					t.Fatalf("got %v", err)
				}
				got, err := tree.ReadLink(Tag("a", "v1"))
				if had && got != before || !had && !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("the tag is %q, %v", got, err)
				}
				if left, _ := os.ReadDir(filepath.Join(dir, "partial", "tmp")); len(left) > 0 {
					t.Errorf("left %v", left)
				}
			})
		}
	}
}

func TestAfterALostWriteNothingIsShownUntilTheTreeIsOpenedAgain(t *testing.T) {
	for _, op := range []string{"syncfs", secondBarrier} {
		f := &failing{op, syscall.EIO, 1}
		dir := storetest.Folder(t)
		tree := open(t, dir, Options{Fault: afterRename(f)})
		d := digest.FromString("x")
		for range 2 { // the kernel tells of it only once
			if err := tree.LinkDurably(Tag("a", "v1"), d); !errors.Is(err, syscall.EIO) {
				t.Fatalf("%s: got %v", op, err)
			}
		}
		if err := open(t, dir, Options{}).LinkDurably(Tag("a", "v1"), d); err != nil {
			t.Errorf("%s: opened again: %v", op, err)
		}
	}
}

func TestABarrierServesWhoAskedBeforeItBegan(t *testing.T) {
	syncs := 0
	began, release := make(chan struct{}, 2), make(chan struct{})
	b := &barrier{sync: func() error { syncs++; began <- struct{}{}; <-release; return nil }}
	var wg sync.WaitGroup
	serve := func(r *round) {
		wg.Go(func() {
			if err := b.serve(r); err != nil {
				t.Error(err)
			}
		})
	}
	serve(b.join())
	<-began
	var later []*round
	for range 10 {
		later = append(later, b.join())
	}
	for _, r := range later {
		serve(r)
	}
	close(release)
	wg.Wait()
	if syncs != 2 {
		t.Errorf("%d syncs for one who asked before and ten who asked while it ran, want 2", syncs)
	}
}

func TestALinkIsReadAsWhatItSays(t *testing.T) {
	d := digest.FromString("x")
	for text, want := range map[string]string{
		string(d):        "",
		string(d) + "\n": "",
		"":               "file does not exist",
		"sha256:short":   "invalid checksum digest length",
		"\x00\x00\x00":   "invalid checksum digest format",
	} {
		tree := open(t, storetest.Folder(t), Options{})
		if err := tree.put("x/link", []byte(text)); err != nil {
			t.Fatal(err)
		}
		got, err := tree.ReadLink("x/link")
		if want == "" && (got != d || err != nil) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: got %q, %v", text, got, err)
		}
		_, err = tree.Driver().GetContent(t.Context(), "/x/link")
		if _, gone := errors.AsType[storagedriver.PathNotFoundError](err); gone != (text == "") {
			t.Errorf("%q: distribution reads it with %v", text, err)
		}
	}
}

func TestALinkThatPointsOutOfTheFolderIsNotFollowed(t *testing.T) {
	dir := storetest.Folder(t)
	tree := open(t, dir, Options{})
	secret := filepath.Join(dir, "secret")
	if err := errors.Join(os.WriteFile(secret, []byte("secret"), 0o600), os.Symlink(secret, filepath.Join(dir, "registry", "out"))); err != nil {
		t.Fatal(err)
	}
	if f, err := tree.OpenFile("out"); err == nil {
		text, _ := io.ReadAll(f)
		t.Errorf("read %q", text)
	}
	for _, p := range []string{"/../secret", "/a/../../secret", "secret", "", "//secret", "/a/./b", "/a b", "/\x00"} {
		if _, err := tree.Driver().GetContent(t.Context(), p); err == nil || !strings.Contains(err.Error(), "invalid path") {
			t.Errorf("%q: %v", p, err)
		}
	}
}

func TestOpenClearsWhatWasOnItsWay(t *testing.T) {
	dir := storetest.Folder(t)
	tree := open(t, dir, Options{})
	if _, err := tree.stage([]byte("x")); err != nil {
		t.Fatal(err)
	}
	tree.Close()
	open(t, dir, Options{})
	if left, err := os.ReadDir(filepath.Join(dir, "partial", "tmp")); len(left) > 0 || err != nil {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestFoldersOnTwoFilesystemsAreRefused(t *testing.T) {
	other, err := os.MkdirTemp("/dev/shm", "lastro")
	if err != nil {
		t.Skip("no second filesystem: ", err)
	}
	defer os.RemoveAll(other)
	if _, err := Open(t.TempDir(), other, Options{}); err == nil || !strings.Contains(err.Error(), "different filesystems") {
		t.Errorf("got %v", err)
	}
}

func TestNames(t *testing.T) {
	for repo, ok := range map[string]bool{
		"a": true, "docker.io/library/alpine": true, "a__b/c-d.e": true, "localhost-5000/x": true,
		"": false, "A": false, "a/": false, "/a": false, "a//b": false, "..": false, "a/../b": false, "_manifests": false, "a/_layers": false, "a:b": false,
		strings.Repeat("a", 256): false,
	} {
		if err := CheckRepository(repo); (err == nil) != ok {
			t.Errorf("repository %q: %v", repo, err)
		}
	}
	for tag, ok := range map[string]bool{
		"v1": true, "_x": true, "A.b-c": true, strings.Repeat("a", 128): true,
		"": false, ".": false, "..": false, "-x": false, "a/b": false, "a b": false, strings.Repeat("a", 129): false,
	} {
		if err := CheckTag(tag); (err == nil) != ok {
			t.Errorf("tag %q: %v", tag, err)
		}
	}
}
