package collect

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	"lastro/store"
	"lastro/store/layout"
	"lastro/store/ledger"
	"lastro/store/storetest"
)

// site is a store with a clock of its own, and a collector.
type site struct {
	*store.Store
	dir string
	now time.Time
	o   Options
	// Every change on disk, and what it ends with.
	stepped func(op, subject string)
	fault   func(op, subject string) error
}

const (
	grace = 24 * time.Hour
	undo  = 72 * time.Hour
)

func opened(t *testing.T) *site {
	t.Helper()
	s := unopened(t)
	s.open(t)
	return s
}

func unopened(t *testing.T) *site {
	t.Helper()
	s := &site{dir: storetest.Folder(t), now: storetest.Now()}
	s.o = Options{Grace: grace, Undo: undo, Now: s.clock}
	t.Cleanup(func() { s.Close() })
	return s
}

func (s *site) clock() time.Time { return s.now }

func (s *site) open(t *testing.T) {
	t.Helper()
	var err error
	if s.Store, err = store.Open(s.dir, store.Options{Now: s.clock, Step: s.step, Fault: s.fail}); err != nil {
		t.Fatal(err)
	}
}

func (s *site) step(op, subject string) {
	if s.stepped != nil {
		s.stepped(op, subject)
	}
}

func (s *site) fail(op, subject string) error {
	if s.fault != nil {
		return s.fault(op, subject)
	}
	return nil
}

// again closes the store and opens it.
func (s *site) again(t *testing.T) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s.open(t)
}

// crash opens the store as a process leaves it that is killed.
func (s *site) crash(t *testing.T) {
	t.Helper()
	name := filepath.Join(s.dir, "ledger.db")
	data, err := os.ReadFile(name)
	if err == nil {
		err = errors.Join(s.Close(), os.WriteFile(name, data, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	s.open(t)
}

func (s *site) collect(t *testing.T) Report {
	t.Helper()
	r, err := Run(t.Context(), s.Store, s.o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// pass lets time go by, and collects.
func (s *site) pass(t *testing.T, d time.Duration) Report {
	t.Helper()
	s.now = s.now.Add(d)
	return s.collect(t)
}

func (s *site) untag(t *testing.T, repo, tag string) {
	t.Helper()
	if err := s.Untag(t.Context(), repo, tag, ledger.Event{By: "test"}); err != nil {
		t.Fatal(err)
	}
}

// files are the links and contents on disk.
func (s *site) files(t *testing.T) (all []string) {
	t.Helper()
	root := filepath.Join(s.dir, "registry")
	err := filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			name, err = filepath.Rel(root, name)
			all = append(all, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// whole fails when an image is not served completely.
func (s *site) whole(t *testing.T, repo string, m *storetest.Image) {
	t.Helper()
	if _, err := s.Closure(t.Context(), repo, m.Root.Digest); err != nil {
		t.Error(err)
	}
}

func counts(condemned, deleted, waiting int) Report {
	return Report{Condemned: condemned, Deleted: deleted, Waiting: waiting}
}

func same(t *testing.T, when string, got, want Report) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Report{}, "Items", "Problems", "FreedBytes", "TakenBack")); diff != "" {
		t.Errorf("%s (-want +got):\n%s\n%q", when, diff, got.Problems)
	}
}

func TestWhatATagLeftGoesAndWhatOthersShareStays(t *testing.T) {
	s := opened(t)
	a, b := storetest.New("a"), storetest.New("b")
	a.MustPut(t, s, "r", "1")
	b.MustPut(t, s, "r", "2")
	b.MustPut(t, s, "other", "2")
	same(t, "with tags", s.collect(t), counts(0, 0, 0))
	before := s.files(t)
	s.untag(t, "r", "1")
	r := s.collect(t)
	if r.Condemned == 0 || r.Deleted != 0 || r.Waiting != r.Condemned {
		t.Fatalf("after the tag: %+v", r)
	}
	if diff := cmp.Diff(len(before)-1, len(s.files(t))); diff != "" {
		t.Errorf("something but the tag is gone: %s", diff)
	}
	s.whole(t, "r", a)
	same(t, "before the time", s.pass(t, undo-time.Second), counts(0, 0, r.Condemned))
	gone := s.pass(t, time.Second)
	same(t, "at the time", gone, counts(0, r.Condemned, 0))
	if gone.FreedBytes == 0 {
		t.Error("no bytes were freed")
	}
	for d := range a.Content {
		_, err := os.Stat(filepath.Join(s.dir, "registry", layout.Data(d)))
		if shared := b.Content[d] != nil; shared != (err == nil) {
			t.Errorf("%s, shared %v: %v", d, shared, err)
		}
	}
	s.whole(t, "r", b)
	s.whole(t, "other", b)
	s.untag(t, "r", "2")
	s.collect(t)
	s.pass(t, undo)
	s.whole(t, "other", b)
	s.untag(t, "other", "2")
	s.collect(t)
	s.pass(t, undo)
	if left := s.files(t); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	for m, err := range s.Ledger().Links(t.Context(), "r") {
		t.Errorf("the ledger still has %s, %v", m, err)
	}
}

func TestWhoeverIsToldThatItIsHereTakesItBack(t *testing.T) {
	m := storetest.New("a")
	layer := digest.FromString("layer of a-amd64")
	desc := ocispec.Descriptor{Digest: layer, Size: int64(len("layer of a-amd64"))}
	for name, tell := range map[string]func(t *testing.T, s *site) error{
		"a HEAD of a blob": func(t *testing.T, s *site) error { _, err := s.BlobSize("r", layer); return err },
		"a GET of a blob": func(t *testing.T, s *site) error {
			f, err := s.OpenBlob("r", layer)
			if err == nil {
				err = f.Close()
			}
			return err
		},
		"a mount":            func(t *testing.T, s *site) error { return s.Mount(t.Context(), "r", "other", layer) },
		"a sync":             func(t *testing.T, s *site) error { _, err := s.Has(t.Context(), desc); return err },
		"a look of a client": func(t *testing.T, s *site) error { _, err := s.ServesBlob(t.Context(), "r", layer); return err },
		"undo":               func(t *testing.T, s *site) error { _, err := s.TakeBack(t.Context(), layer); return err },
	} {
		for _, restart := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				s := opened(t)
				m.MustPut(t, s, "r", "1")
				s.untag(t, "r", "1")
				s.collect(t)
				s.now = s.now.Add(undo - time.Second)
				if err := tell(t, s); err != nil {
					t.Fatal(err)
				}
				if restart {
					s.again(t)
				}
				s.pass(t, time.Second)
				if ok, err := s.Has(t.Context(), desc); err != nil || !ok {
					t.Fatalf("it is gone: %v, %v", ok, err)
				}
				if s.TakenBack() == 0 && !restart {
					t.Error("nobody counted it")
				}
			})
		}
	}
}

func TestAPushBringsBackWhatIsCondemned(t *testing.T) {
	s := opened(t)
	m := storetest.New("a")
	m.MustPut(t, s, "r", "1")
	s.untag(t, "r", "1")
	s.collect(t)
	s.now = s.now.Add(undo)
	m.MustPut(t, s, "r", "again")
	same(t, "after the push", s.collect(t), counts(0, 0, 0))
	s.whole(t, "r", m)
	s.pass(t, 10*undo)
	s.whole(t, "r", m)
}

func TestAfterAnUncleanEndNothingGoesForAWholeGrace(t *testing.T) {
	s := opened(t)
	m := storetest.New("a")
	m.MustPut(t, s, "r", "1")
	s.untag(t, "r", "1")
	condemned := s.collect(t).Condemned
	s.now = s.now.Add(undo)
	crash(t, s)
	r := s.collect(t)
	same(t, "at once", r, Report{Waiting: condemned, PausedUntil: s.now.Add(grace)})
	s.again(t)
	same(t, "a second before", s.pass(t, grace-time.Second), Report{Waiting: condemned, PausedUntil: r.PausedUntil})
	same(t, "after it", s.pass(t, time.Second), counts(0, condemned, 0))
}

// crash opens a copy of what is on disk, as it is now.
func crash(t *testing.T, s *site) {
	t.Helper()
	dir := storetest.Folder(t)
	if err := os.CopyFS(dir, os.DirFS(s.dir)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s.dir = dir
	s.open(t)
}

func TestObservingRemovesNothingAndCountsWhatWasTakenBack(t *testing.T) {
	s := opened(t)
	s.o.Observe = true
	m := storetest.New("a")
	m.MustPut(t, s, "r", "1")
	s.untag(t, "r", "1")
	n := s.collect(t).Condemned
	same(t, "observing", s.pass(t, 10*undo), counts(0, 0, n))
	if _, err := s.BlobSize("r", digest.FromString("shared")); err != nil {
		t.Error(err)
	}
	if r := s.collect(t); r.TakenBack == 0 {
		t.Error("nothing was counted")
	}
}

func TestPolicyKeepsWhatNothingElseNeeds(t *testing.T) {
	s := opened(t)
	var asked []Question
	answer, fault := Answer{Keep: true, Until: s.now.Add(14 * 24 * time.Hour)}, error(nil)
	s.o.Keep = func(_ context.Context, q Question) (Answer, error) {
		asked = append(asked, q)
		return answer, fault
	}
	m := storetest.New("a")
	m.MustPut(t, s, "r", "1")
	s.untag(t, "r", "1")
	same(t, "kept", s.collect(t), counts(0, 0, 0))
	want := []Question{{Repo: "r", Digest: m.Root.Digest, Left: s.now, Gone: true, Since: s.now}}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
	for range 13 {
		same(t, "kept", s.pass(t, 24*time.Hour), counts(0, 0, 0))
	}
	fault = errors.New("no answer")
	same(t, "in doubt", s.pass(t, 24*time.Hour), Report{KeptByDoubt: 1})
	fault, answer.Keep = nil, false
	if r := s.pass(t, time.Hour); r.Condemned == 0 {
		t.Errorf("%+v", r)
	}
}

func TestAnotherPolicyIsAskedAtOnce(t *testing.T) {
	s := opened(t)
	keep := true
	s.o.Keep = func(context.Context, Question) (Answer, error) { return Answer{Keep: keep}, nil }
	s.o.Policy = "keep"
	storetest.New("a").MustPut(t, s, "r", "1")
	s.untag(t, "r", "1")
	s.collect(t)
	keep = false
	same(t, "the same policy", s.collect(t), counts(0, 0, 0))
	s.o.Policy = "do not"
	plan, err := Plan(t.Context(), s.Store, s.o)
	if err != nil || plan.Condemned == 0 {
		t.Errorf("%+v, %v", plan, err)
	}
	if r := s.collect(t); r.Condemned != plan.Condemned {
		t.Errorf("%d were condemned, %d planned", r.Condemned, plan.Condemned)
	}
}

func TestAPlanIsWhatTheRunDoes(t *testing.T) {
	s := opened(t)
	a, b := storetest.New("a"), storetest.New("b")
	a.MustPut(t, s, "r", "1")
	b.MustPut(t, s, "r", "2")
	s.collect(t)
	s.untag(t, "r", "1")
	for range 2 {
		plan, err := Plan(t.Context(), s.Store, s.o)
		if err != nil {
			t.Fatal(err)
		}
		before := s.files(t)
		r := s.collect(t)
		if plan.Condemned != r.Condemned || plan.Deleted != r.Deleted || plan.FreedBytes != r.FreedBytes {
			t.Errorf("planned %+v\ndid %+v", plan, r)
		}
		if plan.Deleted == 0 && len(before) != len(s.files(t)) {
			t.Error("something is gone")
		}
		s.now = s.now.Add(undo)
	}
}

func TestWhatCameByItsDigestIsAskedAbout(t *testing.T) {
	s := opened(t)
	keep := true
	s.o.Keep = func(_ context.Context, q Question) (Answer, error) { return Answer{Keep: keep}, nil }
	m, parts := storetest.New("a"), storetest.New("b")
	m.MustPut(t, s, "r", "")
	parts.MustPut(t, s, "r", "2")
	s.collect(t)
	s.pass(t, 30*grace)
	s.whole(t, "r", m)
	keep = false
	s.pass(t, grace)
	s.pass(t, undo)
	if _, err := s.Closure(t.Context(), "r", m.Root.Digest); err == nil {
		t.Error("it is here still")
	}
	s.whole(t, "r", parts)
}

func TestWhatWasPushedByDigestGoesWithTheIndexThatItBecameAPartOf(t *testing.T) {
	s := opened(t)
	s.o.Keep = func(_ context.Context, q Question) (Answer, error) { return Answer{Keep: !q.Gone}, nil }
	m := storetest.New("a")
	if err := m.Ingest(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	for _, part := range m.Manifests[:2] {
		p := mirror.Publication{Repo: "r", Root: part.Descriptor, Manifests: []mirror.Manifest{part}, Kind: ledger.Pushed}
		if _, err := s.Publish(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	s.collect(t)
	m.MustPut(t, s, "r", "1")
	s.pass(t, 2*grace)
	s.untag(t, "r", "1")
	s.collect(t)
	s.pass(t, undo)
	if left := s.files(t); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

func TestABlobWithoutAManifestStaysForAGraceAndThenGoes(t *testing.T) {
	s := opened(t)
	m := storetest.New("a")
	if err := m.Ingest(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if err := s.Settle(digest.FromString("shared")); err != nil {
		t.Fatal(err)
	}
	s.collect(t)
	same(t, "before a grace", s.pass(t, grace-time.Second), counts(0, 0, 0))
	if r := s.pass(t, time.Second); r.Condemned == 0 {
		t.Fatalf("%+v", r)
	}
	s.pass(t, undo)
	if left := s.files(t); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

func TestAnUnreadableTagKeepsItsRepositoryAndTheRestGoes(t *testing.T) {
	s := opened(t)
	a, b := storetest.New("a"), storetest.New("b")
	a.MustPut(t, s, "r", "1")
	b.MustPut(t, s, "q", "1")
	s.collect(t)
	bad := filepath.Join(s.dir, "registry", layout.Tag("r", "2"))
	if err := os.MkdirAll(bad, 0o700); err != nil {
		t.Fatal(err)
	}
	s.again(t)
	s.untag(t, "r", "1")
	s.untag(t, "q", "1")
	r := s.collect(t)
	s.pass(t, undo)
	s.whole(t, "r", a)
	if _, err := s.Closure(t.Context(), "q", b.Root.Digest); err == nil {
		t.Error("q was kept")
	}
	if r.KeptByDoubt == 0 {
		t.Errorf("%+v", r)
	}
}

func TestATagThatOnlyTheDiskKnowsKeeps(t *testing.T) {
	s := opened(t)
	m := storetest.New("a")
	m.MustPut(t, s, "r", "1")
	s.untag(t, "r", "1")
	link := filepath.Join(s.dir, "registry", layout.Tag("r", "foreign"))
	if err := errors.Join(os.MkdirAll(filepath.Dir(link), 0o700), os.WriteFile(link, []byte(m.Root.Digest), 0o600)); err != nil {
		t.Fatal(err)
	}
	if r := s.collect(t); r.KeptByDoubt == 0 {
		t.Errorf("%+v", r)
	}
	s.pass(t, undo)
	s.pass(t, undo)
	s.whole(t, "r", m)
}

func TestWhoReadsForLongHoldsEverything(t *testing.T) {
	s := opened(t)
	m := storetest.New("a")
	m.MustPut(t, s, "r", "1")
	s.untag(t, "r", "1")
	n := s.collect(t).Condemned
	release := s.Hold()
	same(t, "held", s.pass(t, undo), counts(0, 0, n))
	release()
	same(t, "released", s.collect(t), counts(0, n, 0))
}

func TestALedgerThatWasPutBackRemovesNothingThatCameSince(t *testing.T) {
	s := opened(t)
	a := storetest.New("a")
	a.MustPut(t, s, "r", "1")
	s.untag(t, "r", "1")
	s.collect(t)
	s.again(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(filepath.Join(s.dir, "ledger.db"))
	if err != nil {
		t.Fatal(err)
	}
	s.open(t)
	b := storetest.New("b") // shares a layer with what is condemned
	b.MustPut(t, s, "r", "2")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "ledger.db"), old, 0o600); err != nil {
		t.Fatal(err)
	}
	s.now = s.now.Add(undo)
	s.open(t)
	if r := s.collect(t); r.Deleted > 0 || r.PausedUntil.IsZero() {
		t.Errorf("at once: %+v", r)
	}
	s.pass(t, grace)
	s.pass(t, undo)
	s.whole(t, "r", b)
	if _, err := s.Closure(t.Context(), "r", a.Root.Digest); err == nil {
		t.Error("what is condemned is here still")
	}
}

func TestWhatOthersBroughtWhileLastroDidNotRunStays(t *testing.T) {
	s := opened(t)
	a := storetest.New("a")
	a.MustPut(t, s, "r", "1")
	s.untag(t, "r", "1")
	s.collect(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	ours := []string{filepath.Join(s.dir, "ledger.db"), filepath.Join(s.dir, "generation")}
	for _, name := range ours {
		if err := os.Rename(name, name+".ours"); err != nil {
			t.Fatal(err)
		}
	}
	s.open(t) // stands for another registry, which knows no ledger
	b := storetest.New("b")
	b.MustPut(t, s, "r", "2")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range ours {
		if err := os.Rename(name+".ours", name); err != nil {
			t.Fatal(err)
		}
	}
	s.now = s.now.Add(undo)
	var err error
	if s.Store, err = store.Open(s.dir, store.Options{Now: s.clock, Behind: true}); err != nil {
		t.Fatal(err)
	}
	s.collect(t)
	s.whole(t, "r", b)
	if _, err := s.Closure(t.Context(), "r", a.Root.Digest); err == nil {
		t.Error("what was condemned is here still")
	}
}
