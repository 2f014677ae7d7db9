package collect

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	"lastro/store/layout"
	"lastro/store/ledger"
	"lastro/store/storetest"
)

// signed is an image, and a signature under a tag that is named after it.
func signed(t *testing.T, s *site, repo string) (image, signature *storetest.Image, tag string) {
	t.Helper()
	image, signature = storetest.New("a"), new(storetest.Image)
	signature.Single("cosign", nil)
	tag = strings.Replace(image.Root.Digest.String(), ":", "-", 1) + ".sig"
	image.MustPut(t, s, repo, "1")
	signature.MustPut(t, s, repo, tag)
	return image, signature, tag
}

// empties lets time go by until nothing may be left.
func (s *site) empties(t *testing.T) {
	t.Helper()
	s.settle(t)
	if left := s.files(t); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// settle lets everything go that may.
func (s *site) settle(t *testing.T) {
	t.Helper()
	for _, d := range []time.Duration{surveyEvery, grace, undo, undo} {
		s.pass(t, d)
	}
}

func TestASignatureUnderATagGoesWithWhatItSigns(t *testing.T) {
	for name, leave := range map[string]func(t *testing.T, s *site, image *storetest.Image){
		"its tag went": func(t *testing.T, s *site, _ *storetest.Image) { s.untag(t, "r", "1") },
		"a client removed it": func(t *testing.T, s *site, image *storetest.Image) {
			if err := s.Unpublish(t.Context(), "r", image.Root.Digest, ledger.Event{By: "test"}, func(string) error { return nil }); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := opened(t)
			image, _, tag := signed(t, s, "r")
			leave(t, s, image)
			s.collect(t)
			if _, err := s.Resolve(t.Context(), "r", tag); err != nil {
				t.Error("before the time:", err)
			}
			s.empties(t)
		})
	}
}

func TestATagThatOnlyBeginsLikeASignatureStays(t *testing.T) {
	s := opened(t)
	image, signature, tag := signed(t, s, "r")
	signature.MustPut(t, s, "r", strings.TrimSuffix(tag, ".sig")+"-old")
	s.untag(t, "r", "1")
	s.settle(t)
	s.whole(t, "r", signature)
	if _, err := s.Closure(t.Context(), "r", image.Root.Digest); err == nil {
		t.Error("the image is here still")
	}
}

func TestAManifestThatCannotBeReadKeepsTheLinksOfItsRepository(t *testing.T) {
	s := opened(t)
	m := storetest.New("a")
	m.MustPut(t, s, "r", "1")
	s.untag(t, "r", "1")
	// The ledger knows nothing of it, and its content is gone for now.
	for _, manifest := range m.Manifests {
		if err := s.Ledger().RecordUnlinked(t.Context(), "r", manifest.Descriptor.Digest); err != nil {
			t.Fatal(err)
		}
	}
	content := filepath.Join(s.dir, "registry", layout.Data(m.Root.Digest))
	if err := os.Rename(content, content+".away"); err != nil {
		t.Fatal(err)
	}
	before := s.files(t)
	doubtful := s.collect(t)
	if doubtful.KeptByDoubt == 0 {
		t.Errorf("%+v", doubtful)
	}
	s.settle(t)
	if diff := cmp.Diff(before, s.files(t)); diff != "" {
		t.Errorf("something went: %s", diff)
	}
	if err := os.Rename(content+".away", content); err != nil {
		t.Fatal(err)
	}
	s.empties(t)
}

func TestOneThatCannotBeRemovedHoldsUpNoOther(t *testing.T) {
	var stuck string
	s := unopened(t)
	s.fault = func(op, subject string) error {
		if op == "remove" && subject == stuck {
			return errors.New("the disk says no")
		}
		return nil
	}
	s.open(t)
	for i := range 3 * most {
		m := new(storetest.Image)
		m.Single(fmt.Sprint(i), nil)
		m.MustPut(t, s, "r", "1")
		stuck = filepath.Dir(layout.Layer("r", digest.FromString(fmt.Sprint("layer of ", i))))
	}
	s.untag(t, "r", "1")
	s.settle(t)
	if r := s.collect(t); r.KeptByDoubt != 1 || len(r.Problems) != 1 {
		t.Errorf("doubts: %d, %q", r.KeptByDoubt, r.Problems)
	}
	if left := s.files(t); len(left) > 2 {
		t.Errorf("left: %q", left)
	}
	stuck = ""
	s.empties(t)
}

func TestWhatProtectionsKeptGoesWhenTheyEnd(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, s *site, p ledger.Protection){
		"it expires": func(t *testing.T, s *site, p ledger.Protection) { s.now = p.Expires },
		"it is removed": func(t *testing.T, s *site, p ledger.Protection) {
			if err := s.Ledger().RemoveProtection(t.Context(), p.Name, p.Repo, p.Digest, "test"); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := opened(t)
			m := storetest.New("a")
			m.MustPut(t, s, "r", "1")
			p := ledger.Protection{Name: "p", Repo: "r", Digest: m.Root.Digest, Owner: "test", Created: s.now, Expires: s.now.Add(4 * undo)}
			if err := s.Ledger().RecordProtection(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			s.untag(t, "r", "1")
			s.collect(t)
			s.pass(t, undo)
			s.pass(t, undo)
			s.whole(t, "r", m)
			end(t, s, p)
			if r := s.collect(t); r.Condemned == 0 {
				t.Errorf("%+v", r)
			}
			s.pass(t, undo)
			if left := s.files(t); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
		})
	}
}

func TestABlobThatAClientRemovesIsStillWhatOthersWereToldOf(t *testing.T) {
	s := opened(t)
	m := storetest.New("a")
	blob := digest.FromString("shared")
	desc := ocispec.Descriptor{Digest: blob, Size: int64(len("shared"))}
	if err := errors.Join(m.Ingest(t.Context(), s), s.Settle(blob)); err != nil {
		t.Fatal(err)
	}
	s.collect(t)
	s.pass(t, grace)
	s.now = s.now.Add(undo)
	m.MustPut(t, s, "r", "")
	if err := s.Unpublish(t.Context(), "r", m.Root.Digest, ledger.Event{By: "test"}, func(string) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if ok, err := s.Has(t.Context(), desc); err != nil || !ok {
		t.Fatal(ok, err)
	}
	s.again(t)
	s.pass(t, grace-time.Second)
	if ok, err := s.Has(t.Context(), desc); err != nil || !ok {
		t.Error("within a grace:", ok, err)
	}
	s.empties(t)
}

func TestAReferrerThatAClientRemovesGoesThoughItsSubjectStays(t *testing.T) {
	s := opened(t)
	m, other := storetest.New("a"), storetest.New("b")
	m.MustPut(t, s, "r", "1")
	referrer := m.Manifests[len(m.Manifests)-1].Descriptor
	p := m.Publication("r", "moves")
	p.Root = referrer
	if _, err := s.Publish(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	other.MustPut(t, s, "r", "moves")
	s.collect(t)
	if err := s.Unpublish(t.Context(), "r", referrer.Digest, ledger.Event{By: "test"}, func(string) error { return nil }); err != nil {
		t.Fatal(err)
	}
	s.settle(t)
	if _, err := s.OpenContent(t.Context(), referrer.Digest); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its content is here: %v", err)
	}
	s.whole(t, "r", m)
}

func TestOnlyWhatARepositoryHoldsIsAskedAboutWithItsSubject(t *testing.T) {
	s := opened(t)
	for _, name := range []string{"a", "b", "c", "d", "e"} { // what goes first is a matter of digests
		m := storetest.New(name)
		m.MustPut(t, s, "signed", name)
		plain := *m
		plain.Manifests = slices.DeleteFunc(slices.Clone(m.Manifests), func(m mirror.Manifest) bool { return m.Subject != nil })
		plain.MustPut(t, s, "plain", name)
		s.untag(t, "plain", name)
	}
	s.pass(t, grace)
	s.pass(t, undo)
	for v, err := range s.Ledger().Reviews(t.Context()) {
		if err != nil || v.Repo == "plain" {
			t.Errorf("asked still: %s is %s, %v", v.Held, v.State, err)
		}
	}
}

func TestWhatIsNeededAgainIsTakenBackThoughACrashForgetsWhoWasTold(t *testing.T) {
	s := opened(t)
	m := storetest.New("a")
	m.MustPut(t, s, "r", "1")
	s.untag(t, "r", "1")
	s.collect(t)
	m.MustPut(t, s, "r", "2")
	s.crash(t)
	referrer := m.Manifests[len(m.Manifests)-1].Descriptor.Digest
	if err := s.ServesManifest("r", referrer); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if r := s.pass(t, grace); r.Condemned+r.Deleted > 0 {
			t.Errorf("%+v", r)
		}
	}
	if r := s.pass(t, time.Second); r.Waiting > 0 {
		t.Errorf("condemned still: %+v", r)
	}
	s.whole(t, "r", m)
}

func TestContentThatARepositoryLeavesOutGoesThoughItWasProtectedThere(t *testing.T) {
	s := opened(t)
	m := storetest.Sparse("a")
	m.MustPut(t, s, "r", "1")
	left := m.Absent[0]
	p := ledger.Protection{Name: "p", Repo: "r", Digest: left, Owner: "test", Expires: s.now.Add(time.Hour)}
	if err := s.Ledger().RecordProtection(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	stray := storetest.New("a") // it has what the sparse one leaves out
	if err := stray.Ingest(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if err := s.Settle(); err != nil {
		t.Fatal(err)
	}
	if _, ok := stray.Content[left]; !ok {
		t.Fatal("the two are not of the same image")
	}
	s.settle(t)
	s.whole(t, "r", m)
	if has, err := s.Disk().Stat(layout.Data(left)); err == nil {
		t.Errorf("left: %s", has.Name())
	}
}

func TestAProtectionDoesNotKeepTheBytesOfWhatAClientRemoved(t *testing.T) {
	s := opened(t)
	m := storetest.New("a")
	if err := m.Ingest(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Publish(t.Context(), m.Publication("r", "")); err != nil {
		t.Fatal(err)
	}
	if err := s.Unpublish(t.Context(), "r", m.Root.Digest, ledger.Event{By: "test"}, func(string) error { return nil }); err != nil {
		t.Fatal(err)
	}
	p := ledger.Protection{Name: "p", Repo: "r", Digest: m.Root.Digest, Owner: "test"}
	if err := s.Ledger().RecordProtection(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	s.empties(t)
}
