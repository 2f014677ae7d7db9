package collect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"lastro/store/layout"
	"lastro/store/storetest"
)

// copyFolder copies a data folder as a process that is killed now would leave it.
func copyFolder(from, to string) error {
	return filepath.WalkDir(from, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		below, err := filepath.Rel(from, name)
		switch {
		case err != nil || e.IsDir():
			return errors.Join(err, os.MkdirAll(filepath.Join(to, below), 0o700))
		case e.Name() == "ledger.db":
			return copySparse(name, filepath.Join(to, below))
		}
		return copyFile(name, filepath.Join(to, below))
	})
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// yard is a site in which a run has most that a run can do: images that go, in part
// and whole, among some that stay, and a tag that is named after one that goes.
type yard struct {
	*site
	stays map[string]*storetest.Image
}

func newYard(t *testing.T) *yard {
	t.Helper()
	y := &yard{unopened(t), map[string]*storetest.Image{"r": storetest.New("b"), "other": storetest.New("a"), "sparse": storetest.Sparse("c")}}
	y.open(t)
	for repo, m := range y.stays {
		m.MustPut(t, y, repo, "stays")
	}
	signed(t, y.site, "r")
	storetest.Sparse("d").MustPut(t, y, "sparse", "1")
	if err := y.Mount(t.Context(), "r", "mounted", digest.FromString("shared")); err != nil {
		t.Fatal(err)
	}
	y.collect(t)
	y.untag(t, "r", "1")
	y.untag(t, "sparse", "1")
	return y
}

// due lets all be condemned and due, and one more image be about to be condemned.
func (y *yard) due(t *testing.T) {
	t.Helper()
	y.pass(t, grace)
	storetest.New("late").MustPut(t, y, "r", "late")
	y.now = y.now.Add(undo)
	y.untag(t, "r", "late")
}

// checkStays fails when something is lost.
func (y *yard) checkStays(t *testing.T, when string) {
	t.Helper()
	y.closures(t, when)
	links, err := dangling(y.dir)
	if err != nil || len(links) > 0 {
		t.Fatalf("%s: links without content: %q, %v", when, links, err)
	}
}

// closures fails when an image is not whole.
func (y *yard) closures(t *testing.T, when string) {
	t.Helper()
	for repo, m := range y.stays {
		if _, err := y.Closure(t.Context(), repo, m.Root.Digest); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
	}
}

// dangling are the links whose content is not there.
func dangling(dir string) (links []string, err error) {
	root := filepath.Join(dir, "registry")
	err = filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.Name() != "link" {
			return err
		}
		raw, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		d := digest.Digest(raw)
		if d.Validate() != nil {
			return nil // it is torn, which is as good as absent
		}
		if _, err := os.Stat(filepath.Join(root, layout.Data(d))); err != nil {
			links = append(links, name)
		}
		return nil
	})
	return links, err
}

// left is what a registry has when nothing is left in it but what stays.
func (y *yard) left(t *testing.T) []string {
	t.Helper()
	only := unopened(t)
	only.open(t)
	for repo, m := range y.stays {
		m.MustPut(t, only, repo, "stays")
	}
	only.settle(t) // it brings more than is referred to
	return only.files(t)
}

// stepContext calls at before every transaction of the ledger and every look at
// whether to go on.
type stepContext struct {
	context.Context
	at func()
}

func (c stepContext) Err() error {
	c.at()
	return c.Context.Err()
}

// walk runs the collector and calls at, with a number, before each of its steps: on
// disk, and of the ledger.
func (y *yard) walk(t *testing.T, at func(step int)) (Report, error) {
	var step atomic.Int64 // those who are let in take steps as well, and after the end
	var over atomic.Bool
	defer over.Store(true)
	next := func() {
		if !over.Load() {
			at(int(step.Add(1)) - 1)
		}
	}
	y.stepped = func(string, string) { next() }
	return Run(stepContext{t.Context(), next}, y.Store, y.o)
}

func TestACrashAtAnyStepLosesNothingAndKeepsNoGarbage(t *testing.T) {
	y := newYard(t)
	y.due(t)
	dir := storetest.Folder(t)
	var copies []string
	before := ""
	if _, err := y.walk(t, func(step int) {
		now := strings.Join(y.files(t), "\n") + digestOf(t, filepath.Join(y.dir, "ledger.db"))
		if now == before {
			return // the same as the step before
		}
		before = now
		copies = append(copies, filepath.Join(dir, fmt.Sprint(step)))
		if err := copyFolder(y.dir, copies[len(copies)-1]); err != nil {
			t.Fatal(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if len(copies) < 20 {
		t.Errorf("only %d different states", len(copies))
	}
	want := y.left(t)
	for _, name := range copies {
		c := &yard{&site{dir: name, now: y.now, o: y.o}, y.stays}
		c.o.Now = c.clock
		c.open(t)
		c.checkStays(t, "after the crash at "+filepath.Base(name))
		if r := c.collect(t); r.Deleted > 0 || r.PausedUntil.IsZero() {
			t.Errorf("%s: something went at once: %+v", name, r)
		}
		c.settle(t)
		c.checkStays(t, "at the end of "+filepath.Base(name))
		if diff := cmp.Diff(want, c.files(t)); diff != "" {
			t.Fatalf("crash at %s: left (-want +got):\n%s", filepath.Base(name), diff)
		}
		if err := errors.Join(c.Close(), os.RemoveAll(name)); err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d crashes", len(copies))
}

func digestOf(t *testing.T, name string) string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d, err := digest.FromReader(f)
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

var errDisk = errors.New("the disk says no")

func TestAFaultAtAnyStepOnDiskIsToldAndTheNextRunEnds(t *testing.T) {
	want := []string(nil)
	for step, more := 0, true; more; step++ {
		y := newYard(t)
		y.due(t)
		if want == nil {
			want = y.left(t)
		}
		more = false
		n := 0
		y.fault = func(string, string) error {
			n++
			if n-1 == step {
				more = true
				return errDisk
			}
			return nil
		}
		r, err := Run(t.Context(), y.Store, y.o)
		y.fault = nil
		if more && err == nil && r.KeptByDoubt == 0 {
			t.Errorf("step %d: nobody tells of the fault", step)
		}
		y.checkStays(t, fmt.Sprint("after the fault at ", step))
		if y.broken(t) {
			y.again(t)
		}
		y.settle(t)
		y.checkStays(t, fmt.Sprint("at the end after ", step))
		if diff := cmp.Diff(want, y.files(t)); diff != "" {
			t.Fatalf("fault at %d: left (-want +got):\n%s", step, diff)
		}
		if err := y.Close(); err != nil {
			t.Error(err)
		}
		if !more && step < 20 {
			t.Errorf("only %d steps", step)
		}
	}
}

// broken says whether the store asks to be started again: it lost a write.
func (y *yard) broken(t *testing.T) bool {
	t.Helper()
	return y.Settle() != nil
}

// cut ends at the nth look at whether to go on.
type cut struct {
	context.Context
	left *int
}

func (c cut) Err() error {
	if *c.left--; *c.left < 0 {
		return context.Canceled
	}
	return c.Context.Err()
}

func TestARunThatIsCutShortAnywhereIsEndedByTheNext(t *testing.T) {
	var want []string
	for step, more := 0, true; more; step += 7 {
		y := newYard(t)
		y.due(t)
		if want == nil {
			want = y.left(t)
		}
		left := step
		_, err := Run(cut{t.Context(), &left}, y.Store, y.o)
		if more = err != nil; more && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		y.checkStays(t, fmt.Sprint("cut at ", step))
		y.settle(t)
		y.checkStays(t, fmt.Sprint("at the end after ", step))
		if diff := cmp.Diff(want, y.files(t)); diff != "" {
			t.Fatalf("cut at %d: left (-want +got):\n%s", step, diff)
		}
		if err := y.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestContentGoesOnlyAfterItsLinksAreGoneForGood looks at the order of what is done on
// disk, which only a power cut would show.
func TestContentGoesOnlyAfterItsLinksAreGoneForGood(t *testing.T) {
	y := newYard(t)
	y.due(t)
	unsynced, contents := 0, 0
	y.stepped = func(op, subject string) {
		switch {
		case op == "syncfs":
			unsynced = 0
		case op == "remove" && strings.HasPrefix(subject, layout.Repositories):
			unsynced++
		case op == "remove" && strings.HasPrefix(subject, layout.Blobs):
			contents++
			if unsynced > 0 {
				t.Errorf("%s goes, and %d links are not gone for good", subject, unsynced)
			}
		}
	}
	y.collect(t)
	if contents == 0 {
		t.Error("no content went")
	}
}
