package collect

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	"lastro/store"
	"lastro/store/layout"
	"lastro/store/ledger"
	"lastro/store/storetest"
)

// spoil makes a file or a folder what cannot be read as it should, and says how to
// undo that.
var spoils = map[string]func(name string) error{
	"is away":            func(string) error { return nil },
	"is a folder":        func(name string) error { return os.MkdirAll(filepath.Join(name, "x"), 0o700) },
	"is empty":           func(name string) error { return os.WriteFile(name, nil, 0o600) },
	"is something else":  func(name string) error { return os.WriteFile(name, []byte("no digest"), 0o600) },
	"names another file": func(name string) error { return os.Symlink("elsewhere", name) },
}

func spoil(t *testing.T, name string, how func(string) error) (mend func()) {
	t.Helper()
	if err := errors.Join(os.Rename(name, name+".away"), how(name)); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := errors.Join(os.RemoveAll(name), os.Rename(name+".away", name)); err != nil {
			t.Fatal(err)
		}
	}
}

// spoiled runs the collector for weeks while something cannot be read, and later
// when it can be again.
func spoiled(t *testing.T, s *site, name string, how func(string) error) {
	t.Helper()
	s.again(t) // nothing is remembered
	mend := spoil(t, filepath.Join(s.dir, "registry", name), how)
	s.settle(t)
	mend()
	s.again(t)
	s.settle(t)
}

// TestStockWayA: distribution's collector takes a manifest that is not found for the
// end of its repository, and sweeps what it did not see.
func TestStockWayAOneManifestThatIsNotFoundLosesNothing(t *testing.T) {
	for name, how := range spoils {
		t.Run("a link of a manifest "+name, func(t *testing.T) {
			s := opened(t)
			images := many(t, s, 20, "r")
			spoiled(t, s, layout.Revision("r", images[7].Root.Digest), how)
			for _, m := range images {
				s.whole(t, "r", m)
			}
		})
		t.Run("the folder of manifests "+name, func(t *testing.T) {
			s := opened(t)
			images := many(t, s, 3, "r")
			spoiled(t, s, layout.Revisions("r"), how)
			for _, m := range images {
				s.whole(t, "r", m)
			}
		})
		t.Run("the content of a manifest "+name, func(t *testing.T) {
			s := opened(t)
			images := many(t, s, 3, "r")
			spoiled(t, s, layout.Data(images[1].Root.Digest), how)
			for _, m := range images {
				s.whole(t, "r", m)
			}
		})
	}
}

// many are tagged images of one platform each, which share a layer.
func many(t *testing.T, s *site, n int, repo string) (images []*storetest.Image) {
	t.Helper()
	for i := range n {
		m := new(storetest.Image)
		m.Single(fmt.Sprint(i), nil)
		m.MustPut(t, s, repo, fmt.Sprint(i))
		images = append(images, m)
	}
	return images
}

// TestStockWayB: distribution's collector takes an error for the absence of a child,
// and sweeps what that refers to.
func TestStockWayBAChildThatCannotBeReadIsNotLost(t *testing.T) {
	for name, how := range spoils {
		for child := range 2 {
			t.Run(fmt.Sprint("child ", child, " ", name), func(t *testing.T) {
				s := opened(t)
				m := storetest.New("a")
				m.MustPut(t, s, "r", "1")
				spoiled(t, s, layout.Revision("r", m.Manifests[child].Descriptor.Digest), how)
				s.whole(t, "r", m)
			})
		}
	}
}

// TestStockWayC: distribution's collector meets a manifest that a client removes while
// it runs, and goes on without the rest of its repository.
func TestStockWayCManifestsThatClientsDeleteBesideRunsTakeNothingAlong(t *testing.T) {
	images, rounds := 20, 60
	if *long {
		images = 120
	}
	s := opened(t)
	all := many(t, s, images, "r")
	untagged := all[images/2:]
	for i := range untagged {
		s.untag(t, "r", fmt.Sprint(images/2+i))
	}
	for round := range rounds {
		var group sync.WaitGroup
		group.Go(func() {
			for _, m := range untagged {
				err := s.Unpublish(t.Context(), "r", m.Root.Digest, ledger.Event{By: "test"}, func(string) error { return nil })
				if err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Error(err)
				}
			}
		})
		if r := s.collect(t); r.KeptByDoubt > 0 {
			t.Errorf("round %d: %q", round, r.Problems)
		}
		group.Wait()
		for _, m := range all[:images/2] {
			s.whole(t, "r", m)
		}
		for _, m := range untagged {
			m.MustPut(t, s, "r", "")
		}
		s.now = s.now.Add([]time.Duration{grace, undo}[round%2])
	}
	s.settle(t)
	for _, m := range all[:images/2] {
		s.whole(t, "r", m)
	}
	for _, m := range untagged {
		if _, err := s.Closure(t.Context(), "r", m.Root.Digest); err == nil {
			t.Error("what no tag needs is here")
		}
	}
}

// asker does something with what is being removed, and says whether it was told that
// it is here.
type asker struct {
	name string
	do   func(ctx context.Context, s *site, m *storetest.Image) (yes bool, err error)
	// keeps is what has to be here after a yes.
	keeps func(t *testing.T, s *site, m *storetest.Image)
}

func (s *site) hasBlob(t *testing.T, repo string, d digest.Digest) {
	t.Helper()
	if repo != "" {
		if got, err := s.Disk().Link(layout.Layer(repo, d)); got != d || err != nil {
			t.Errorf("a client was told yes, and the link is gone: %v", err)
		}
	}
	f, err := s.OpenContent(t.Context(), d)
	if err != nil {
		t.Errorf("a client was told yes, and the content is gone: %v", err)
		return
	}
	f.Close()
}

// askers ask for the layer of an image, or for the image.
func tellers() []asker {
	layer := digest.FromString("layer of a")
	desc := ocispec.Descriptor{Digest: layer, Size: int64(len("layer of a"))}
	blob := func(t *testing.T, s *site, _ *storetest.Image) { s.hasBlob(t, "r", layer) }
	image := func(t *testing.T, s *site, m *storetest.Image) { s.whole(t, "r", m) }
	yes := func(err error) (bool, error) {
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return err == nil, err
	}
	return []asker{
		{"a HEAD of a blob", func(_ context.Context, s *site, _ *storetest.Image) (bool, error) {
			_, err := s.BlobSize("r", layer)
			return yes(err)
		}, blob},
		{"a mount", func(ctx context.Context, s *site, _ *storetest.Image) (bool, error) {
			return yes(s.Mount(ctx, "r", "other", layer))
		}, func(t *testing.T, s *site, _ *storetest.Image) { s.hasBlob(t, "other", layer) }},
		{"a sync that asks for content", func(ctx context.Context, s *site, _ *storetest.Image) (bool, error) {
			return s.Has(ctx, desc)
		}, func(t *testing.T, s *site, _ *storetest.Image) { s.hasBlob(t, "", layer) }},
		{"a HEAD of a manifest", func(_ context.Context, s *site, m *storetest.Image) (bool, error) {
			return yes(s.ServesManifest("r", m.Root.Digest))
		}, image},
		{"the upload of a blob", func(ctx context.Context, s *site, m *storetest.Image) (bool, error) {
			dir := filepath.Join(s.dir, "registry", layout.Repositories, "r/_uploads/1")
			if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, "data"), m.Content[layer], 0o600)); err != nil {
				return false, err
			}
			return true, s.AdoptUpload(ctx, "r", "1", layer)
		}, blob},
		{"a push of the whole", func(ctx context.Context, s *site, m *storetest.Image) (bool, error) {
			_, err := m.Put(ctx, s, "r", "again")
			return true, err
		}, image},
		{"a manifest after its blobs were asked for", pushAsked, image},
		{"undo", func(ctx context.Context, s *site, m *storetest.Image) (bool, error) {
			repos, err := s.TakeBack(ctx, m.Root.Digest)
			if errors.Is(err, store.ErrNoMore) {
				err = nil
			}
			return slices.Contains(repos, "r"), err
		}, image},
	}
}

// pushAsked is a client that builds on what it is told: after a yes to all of it, the
// manifest has to be taken.
func pushAsked(ctx context.Context, s *site, m *storetest.Image) (bool, error) {
	for _, r := range m.Manifests[0].Refs {
		if ok, err := s.ServesBlob(ctx, "r", r.Digest); err != nil || !ok {
			return false, err
		}
	}
	raw := &storetest.Image{Content: map[digest.Digest][]byte{m.Root.Digest: m.Content[m.Root.Digest]}}
	if err := raw.Ingest(ctx, s); err != nil {
		return false, err
	}
	_, err := s.Publish(ctx, mirror.Publication{Repo: "r", Tag: "again", Root: m.Root, Manifests: m.Manifests, Kind: ledger.Pushed, By: "test"})
	return true, err
}

// TestWhoeverIsToldYesAtAnyStepOfARemovalHasIt lets a client ask at every step of a
// run that removes what it asks for. It is told no, or it stays.
func TestWhoeverIsToldYesAtAnyStepOfARemovalHasIt(t *testing.T) {
	for _, c := range tellers() {
		t.Run(c.name, func(t *testing.T) {
			said := map[bool]int{}
			for step, more := 0, true; more; step++ {
				var yes bool
				yes, more = c.meets(t, step)
				said[yes]++
			}
			if said[true] == 0 {
				t.Errorf("said %v", said)
			}
		})
	}
}

// meets lets a client in at a step; more is false when the run has no such step.
func (c asker) meets(t *testing.T, step int) (yes, more bool) {
	t.Helper()
	y := &yard{unopened(t), nil}
	y.open(t)
	defer y.Close()
	m := new(storetest.Image)
	m.Single("a", nil)
	m.MustPut(t, y, "r", "1")
	y.untag(t, "r", "1")
	y.collect(t)
	y.now = y.now.Add(undo)
	var err error
	done := make(chan struct{})
	r, runErr := y.walk(t, func(n int) {
		if more || n != step {
			return
		}
		more = true
		go func() {
			defer close(done)
			yes, err = c.do(context.Background(), y.site, m)
		}()
		gives(done)
	})
	if !more {
		close(done)
	}
	<-done
	if err := errors.Join(runErr, err); err != nil {
		t.Fatalf("step %d: %v", step, err)
	}
	if r.KeptByDoubt > 0 {
		t.Errorf("step %d: %q", step, r.Problems)
	}
	if !yes {
		return yes, more
	}
	for _, wait := range []time.Duration{0, grace - time.Second} {
		y.pass(t, wait)
		c.keeps(t, y.site, m)
	}
	if t.Failed() {
		t.Fatalf("at step %d", step)
	}
	return yes, more
}

// gives lets another goroutine end, or come to where it waits for this one.
func gives(done <-chan struct{}) {
	for range 2000 {
		select {
		case <-done:
			return
		default:
			runtime.Gosched()
		}
	}
}

func TestAPolicyThatFailsKeepsAndTheRestGoes(t *testing.T) {
	s := opened(t)
	bad, good := storetest.New("a"), storetest.New("b")
	bad.MustPut(t, s, "bad", "1")
	good.MustPut(t, s, "good", "1")
	failing := false
	s.o.Keep = func(_ context.Context, q Question) (Answer, error) {
		if failing && q.Repo == "bad" {
			return Answer{}, errors.New("no answer")
		}
		return Answer{}, nil
	}
	s.collect(t)
	s.untag(t, "bad", "1")
	s.untag(t, "good", "1")
	s.collect(t)
	failing = true
	r := s.pass(t, undo)
	s.whole(t, "bad", bad)
	if r.KeptByDoubt != 1 || r.Deleted == 0 {
		t.Errorf("%+v", r)
	}
	failing = false
	s.empties(t)
}

func TestWhatPolicyKeepsAfterAllIsTakenBack(t *testing.T) {
	s := opened(t)
	m := storetest.New("a")
	m.MustPut(t, s, "r", "1")
	keep := false
	s.o.Keep = func(context.Context, Question) (Answer, error) { return Answer{Keep: keep}, nil }
	s.untag(t, "r", "1")
	s.collect(t)
	keep = true
	for range 10 {
		s.pass(t, undo)
		s.whole(t, "r", m)
	}
	if n := s.TakenBack(); n > 0 {
		t.Errorf("%d were taken back by somebody", n)
	}
	keep = false
	s.empties(t)
}
