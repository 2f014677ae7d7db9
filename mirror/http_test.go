package mirror_test

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"testing"

	"lastro/mirror"
	"lastro/mirror/sample"
	"lastro/mirror/upstream"
)

// TestMain makes the model short unless -rapid.checks or -long says otherwise.
func TestMain(m *testing.M) {
	checks := "8"
	flag.Parse()
	if *long {
		checks = "300"
	}
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "rapid.checks" })
	if !given {
		if err := flag.Set("rapid.checks", checks); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

func TestARealRegistryIsCopiedBitForBitAndThenAskedOnceATag(t *testing.T) {
	for _, options := range []sample.Options{{}, {NoReferrers: true}} {
		t.Run(fmt.Sprintf("without the referrers API: %v", options.NoReferrers), func(t *testing.T) {
			reg := startSample(t, options)
			images, err := reg.Fill(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			up, err := upstream.Open(reg.Addr(), upstream.Settings{PlainHTTP: true, Credentials: upstream.Anonymous()}, upstream.Options{})
			if err != nil {
				t.Fatal(err)
			}
			s := newSite(t, up)
			rule := mirror.Rule{From: reg.Addr() + "/**", To: "m", Referrers: true}
			s.cleanSync(t, rule)
			s.checkWhole(t)
			tags, repos := map[string]bool{}, map[string]bool{}
			for _, e := range images {
				s.checkExpected(t, "m/"+e.Repo, e)
				tags[e.Repo+":"+e.Tag], repos[e.Repo] = true, true
			}
			reg.ForgetRequests()
			if r := s.cleanSync(t, rule); len(r.Copied) != 0 {
				t.Errorf("a second sync copied %+v", r.Copied)
			}
			got := reg.Requests()
			heads, lists, all := got.Count(http.MethodHead, sample.KindManifest), got.Count("", sample.KindTags), got.Count("", "")
			if heads != len(tags) || lists != len(repos) || all != heads+lists+got.Count("", sample.KindCatalog) {
				t.Errorf("a second sync of %d tags in %d repositories made %d HEAD, %d lists, %d requests in all", len(tags), len(repos), heads, lists, all)
			}
		})
	}
}

func startSample(t *testing.T, o sample.Options) *sample.Registry {
	t.Helper()
	reg, err := sample.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := reg.Close(); err != nil {
			t.Error(err)
		}
	})
	return reg
}

func (s *site) checkExpected(t *testing.T, repo string, e sample.Expect) {
	t.Helper()
	s.checkTag(t, repo, e.Tag, e.Digest)
	for _, c := range append(e.Image, e.Referrers...) {
		linked, err := s.store.Linked(t.Context(), repo, c.Descriptor, c.Manifest)
		if err != nil || !linked {
			t.Errorf("%s:%s: %s %s is not served: %v", e.Repo, e.Tag, c.MediaType, c.Digest, err)
			continue
		}
		if string(s.bytes(t, c.Digest)) != string(c.Raw) {
			t.Errorf("%s:%s: %s has other bytes", e.Repo, e.Tag, c.Digest)
		}
	}
}
