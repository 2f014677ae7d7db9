package collect

import (
	"strings"
	"testing"
	"time"

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
