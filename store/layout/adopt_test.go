package layout

import (
	"bytes"
	"context"
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

	"github.com/opencontainers/go-digest"

	"lastro/mirror"
	"lastro/store/storetest"
)

const uploaded = Repositories + "/a/b/_uploads/some-id/data"

// uploadFile leaves what distribution leaves of a finished upload.
func uploadFile(t *testing.T, tree *Tree, name string, data []byte) {
	t.Helper()
	w, err := tree.Driver().Writer(t.Context(), "/"+name, false)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Write(data)
	if err = errors.Join(err, w.Commit(t.Context()), w.Close()); err != nil {
		t.Fatal(err)
	}
}

func uploadIs(t *testing.T, tree *Tree, name string, want []byte) {
	t.Helper()
	got, err := tree.root.ReadFile(name)
	if want == nil && !errors.Is(err, fs.ErrNotExist) || want != nil && (err != nil || !bytes.Equal(got, want)) {
		t.Errorf("the upload has %d bytes, %v", len(got), err)
	}
}

func TestAnUploadBecomesContent(t *testing.T) {
	for _, size := range []int{0, 10, bufferSize, 1<<20 + 3} {
		for _, kind := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
			t.Run(fmt.Sprintf("%d bytes, %s", size, kind), func(t *testing.T) {
				r := &recorder{}
				tree := open(t, storetest.Folder(t), Options{Step: r.step})
				data := random(size)
				d := kind.FromBytes(data)
				uploadFile(t, tree, uploaded, data)
				r.steps = nil
				if got, err := tree.Adopt(t.Context(), uploaded, d); got != int64(size) || err != nil {
					t.Fatalf("got %d, %v", got, err)
				}
				want := []string{"fdatasync " + uploaded, "rename " + Data(d)}
				if !slices.Equal(r.steps, want) {
					t.Errorf("got  %q\nwant %q", r.steps, want)
				}
				uploadIs(t, tree, uploaded, nil)
				if !bytes.Equal(stored(t, tree, d), data) {
					t.Error("other bytes are stored")
				}
			})
		}
	}
}

// endingContext ends after its error was asked for some times.
type endingContext struct {
	context.Context
	left int
}

func (c *endingContext) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

func TestAnUploadThatDoesNotBecomeContentStays(t *testing.T) {
	data := random(1 << 20)
	d := digest.FromBytes(data)
	for what, c := range map[string]struct {
		ctx    context.Context
		upload string
		digest digest.Digest
		want   error
		says   string
	}{
		"of another digest":               {digest: digest.FromString("x"), want: ErrDigest},
		"of another digest, to an engine": {digest: digest.SHA512.FromString("x"), want: mirror.ErrContent},
		"when ctx ended before":           {ctx: &endingContext{t.Context(), 0}, want: context.Canceled},
		"when ctx ends half way":          {ctx: &endingContext{t.Context(), 2}, want: context.Canceled},
		"under a digest of no kind":       {digest: "md5:d41d8cd98f00b204e9800998ecf8427e", says: "unsupported digest algorithm"},
		"that is not there":               {upload: Repositories + "/a/_uploads/other/data", want: fs.ErrNotExist},
		"that is content":                 {upload: Data(d), says: "is not the file of an upload"},
		"that is a link":                  {upload: Layer("a", d), says: "is not the file of an upload"},
		"by a name that leads out of it":  {upload: Repositories + "/a/_uploads/../../../x", says: "is not the file of an upload"},
		"by no name":                      {upload: Repositories + "/", says: "is not the file of an upload"},
		"elsewhere":                       {upload: "x/_uploads/y/data", says: "is not the file of an upload"},
		"that is a symbolic link":         {upload: Repositories + "/a/_uploads/link/data", want: syscall.ELOOP},
		"that is a folder":                {upload: filepath.Dir(uploaded), want: syscall.EISDIR},
	} {
		t.Run(what, func(t *testing.T) {
			dir := storetest.Folder(t)
			tree := open(t, dir, Options{})
			uploadFile(t, tree, uploaded, data)
			link := filepath.Join(dir, "registry", Repositories, "a/_uploads/link/data")
			if err := errors.Join(os.MkdirAll(filepath.Dir(link), 0o700), os.Symlink("../../b/_uploads/some-id/data", link)); err != nil {
				t.Fatal(err)
			}
			if c.ctx == nil {
				c.ctx = t.Context()
			}
			if c.upload == "" {
				c.upload = uploaded
			}
			if c.digest == "" {
				c.digest = d
			}
			if _, err := tree.Adopt(c.ctx, c.upload, c.digest); err == nil || !errors.Is(err, c.want) && c.want != nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v", err)
			}
			uploadIs(t, tree, uploaded, data)
			if names, err := tree.Entries(Blobs); len(names) > 0 || err != nil {
				t.Errorf("stored %v, %v", names, err)
			}
			if _, err := tree.Adopt(t.Context(), uploaded, d); err != nil || !bytes.Equal(stored(t, tree, d), data) {
				t.Errorf("the next call: %v", err)
			}
		})
	}
}

func TestAnUploadOfWhatIsHeldStaysAndItIsNotWrittenAgain(t *testing.T) {
	for name, size := range map[string]int{"with a name": small + 1, "that waits for a barrier": 1000} {
		t.Run(name, func(t *testing.T) {
			r := &recorder{}
			tree := open(t, storetest.Folder(t), Options{Step: r.step})
			data, desc := content(size)
			if err := tree.Ingest(t.Context(), desc, (&server{data: data}).fetch); err != nil {
				t.Fatal(err)
			}
			uploadFile(t, tree, uploaded, data)
			r.steps = nil
			if got, err := tree.Adopt(t.Context(), uploaded, desc.Digest); got != desc.Size || err != nil {
				t.Fatalf("got %d, %v", got, err)
			}
			var want []string
			if size <= small {
				want = []string{"syncfs ", "rename " + Data(desc.Digest)}
			}
			if !slices.Equal(r.steps, want) {
				t.Errorf("got %q, want %q", r.steps, want)
			}
			uploadIs(t, tree, uploaded, data)
			if info, err := tree.Stat(Data(desc.Digest)); err != nil || info.Size() != desc.Size {
				t.Errorf("it has no name: %v", err)
			}
		})
	}
}

func TestAnUploadReplacesContentOfTheWrongLength(t *testing.T) {
	tree := open(t, storetest.Folder(t), Options{})
	data := random(5000)
	d := digest.FromBytes(data)
	if err := tree.put(Data(d), data[:100]); err != nil {
		t.Fatal(err)
	}
	if size, err := tree.Size(d); size != 100 || err != nil {
		t.Fatalf("before: %d, %v", size, err)
	}
	uploadFile(t, tree, uploaded, data)
	if _, err := tree.Adopt(t.Context(), uploaded, d); err != nil || !bytes.Equal(stored(t, tree, d), data) {
		t.Errorf("got %v", err)
	}
	if size, err := tree.Size(d); size != 5000 || err != nil {
		t.Errorf("it is known to have %d bytes, %v", size, err)
	}
}

func TestAFaultOfTheDiskDoesNotMakeAnUploadContent(t *testing.T) {
	data := random(1 << 20)
	d := digest.FromBytes(data)
	for op, stays := range map[string]bool{"fdatasync": false, "rename": true} {
		for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
			t.Run(op+" "+cause.Error(), func(t *testing.T) {
				f := &failing{op: op, err: cause}
				tree := open(t, storetest.Folder(t), Options{Fault: f.fault})
				uploadFile(t, tree, uploaded, data)
				f.count = 1
				_, err := tree.Adopt(t.Context(), uploaded, d)
				if !errors.Is(err, cause) || errors.Is(err, ErrFull) != (cause == syscall.ENOSPC) || !strings.Contains(err.Error(), "local registry") {
					t.Errorf("got %v", err)
				}
				if stored(t, tree, d) != nil {
					t.Error("it is stored")
				}
				if !stays {
					uploadIs(t, tree, uploaded, nil)
					return
				}
				uploadIs(t, tree, uploaded, data)
				if _, err := tree.Adopt(t.Context(), uploaded, d); err != nil {
					t.Errorf("the next call: %v", err)
				}
			})
		}
	}
}

// died is what a process that ends at a step panics with.
type died struct{}

// untilStep runs fn in a process that dies before its step n, and reports whether
// it did.
func untilStep(n int, fn func(step func(op, subject string))) (dead bool) {
	defer func() {
		if r := recover(); r != nil {
			if _, dead = r.(died); !dead {
				panic(r)
			}
		}
	}()
	fn(func(string, string) {
		if n--; n < 0 {
			panic(died{})
		}
	})
	return false
}

func TestAProcessThatDiesWhileItAdoptsLosesNothing(t *testing.T) {
	data := random(1 << 20)
	d := digest.FromBytes(data)
	steps := 0
	for dead := true; dead; steps++ {
		dir := storetest.Folder(t)
		uploadFile(t, open(t, dir, Options{}), uploaded, data)
		dead = untilStep(steps, func(step func(op, subject string)) {
			if _, err := open(t, dir, Options{Step: step}).Adopt(t.Context(), uploaded, d); err != nil {
				t.Error(err)
			}
		})
		next := open(t, dir, Options{})
		has, err := next.Has(describe(data))
		if err != nil || has == dead {
			t.Errorf("died %v before step %d: stored %v, %v", dead, steps, has, err)
		}
		if !has {
			if _, err := next.Adopt(t.Context(), uploaded, d); err != nil {
				t.Errorf("died before step %d: the next call: %v", steps, err)
			}
		}
		if !bytes.Equal(stored(t, next, d), data) {
			t.Errorf("died before step %d: other bytes are stored", steps)
		}
	}
	if steps != 3 {
		t.Errorf("%d steps, want 2", steps-1)
	}
}

func TestUploadsOfTheSameContentAndItsDownloadDoNotWaitForOneAnother(t *testing.T) {
	data, desc := content(1 << 20)
	tree := open(t, storetest.Folder(t), Options{})
	r, w := io.Pipe()
	fetched, ingested := make(chan struct{}), make(chan error)
	go func() {
		ingested <- tree.Ingest(t.Context(), desc, func(context.Context, int64) (io.ReadCloser, int64, error) {
			close(fetched)
			return r, 0, nil
		})
	}()
	<-fetched
	var wg sync.WaitGroup
	for i := range 4 {
		name := fmt.Sprintf("%s/a/_uploads/%d/data", Repositories, i)
		uploadFile(t, tree, name, data)
		wg.Go(func() {
			if _, err := tree.Adopt(t.Context(), name, desc.Digest); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if !bytes.Equal(stored(t, tree, desc.Digest), data) {
		t.Error("other bytes are stored")
	}
	_, err := w.Write(data)
	if err = errors.Join(err, w.Close(), <-ingested); err != nil || !bytes.Equal(stored(t, tree, desc.Digest), data) {
		t.Errorf("the download: %v", err)
	}
}
