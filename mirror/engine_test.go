package mirror_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
)

func TestASecondSyncAsksForEachTagOnceAndGetsNothing(t *testing.T) {
	up := newShelf()
	img := up.index("app", on("linux/amd64", up.image("app", "amd64", up.layer("a", 100))))
	up.tag("app", "1", img.Digest)
	up.tag("app", "latest", img.Digest)
	up.about("app", "sbom", img)
	sig := up.image("app", "sig", up.layer("sig", 10))
	up.tag("app", attachedTag(img.Digest, ".sig"), sig.Digest)
	up.tag("app", attachedTag(sig.Digest, ".sig"), up.image("app", "sig of sig").Digest)
	s := newSite(t, up)
	s.cleanSync(t, everything)
	up.forget()
	r := s.cleanSync(t, everything)
	if len(r.Copied) != 0 || r.Unchanged != 2 {
		t.Errorf("got %+v", r)
	}
	want := map[string]int{
		"TAGS app": 1, "HEAD app:1": 1, "HEAD app:latest": 1,
		"HEAD app:" + attachedTag(img.Digest, ".sig"): 1, "HEAD app:" + attachedTag(sig.Digest, ".sig"): 1,
	}
	if got := up.asked; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("asked %v, want %v", got, want)
	}
}

func TestReferrersOfAnImageThatDidNotMoveAreLookedForDaily(t *testing.T) {
	up := newShelf()
	img := up.image("app", "img")
	up.tag("app", "1", img.Digest)
	s := newSite(t, up)
	s.cleanSync(t, everything)
	sbom := up.about("app", "sbom", img)
	s.cleanSync(t, everything)
	if s.serves(t, "reg.test/app", sbom.Digest) {
		t.Error("the referrers were asked for before the day was over")
	}
	s.clock.pass(24 * time.Hour)
	if r := s.cleanSync(t, everything); len(r.Copied) != 0 || r.Unchanged != 1 {
		t.Errorf("got %+v", r)
	}
	if !s.serves(t, "reg.test/app", sbom.Digest) {
		t.Error("the new referrer was not copied")
	}
}

func TestWhatIsAttachedToAnUnmovedImageComesAtTheNextSync(t *testing.T) {
	up := newShelf()
	img := up.image("app", "img")
	up.tag("app", "1", img.Digest)
	s := newSite(t, up)
	s.cleanSync(t, everything)
	tag := attachedTag(img.Digest, ".sig")
	up.tag("app", tag, up.image("app", "sig").Digest)
	if r := s.cleanSync(t, everything); !slices.Equal(tagsOf(r.Copied), []string{tag}) || r.Copied[0].Reason != "attached to 1" {
		t.Errorf("got %+v", r)
	}
	s.checkWhole(t)
}

func TestReferrersAreCopiedHoweverTheyAreFound(t *testing.T) {
	for _, api := range []bool{true, false} {
		t.Run(fmt.Sprintf("with the API %v", api), func(t *testing.T) {
			up := newShelf()
			up.referrers = api
			child := up.image("app", "child")
			img := up.index("app", on("linux/amd64", child))
			up.tag("app", "1", img.Digest)
			sbom := up.about("app", "sbom", child)
			sig := up.about("app", "signature", sbom)
			if !api {
				up.tag("app", attachedTag(child.Digest, ""), up.index("app", sbom).Digest)
				up.tag("app", attachedTag(sbom.Digest, ""), up.index("app", sig).Digest)
			}
			s := newSite(t, up)
			s.cleanSync(t, everything)
			for subject, want := range map[digest.Digest]digest.Digest{child.Digest: sbom.Digest, sbom.Digest: sig.Digest} {
				list, err := s.store.Ledger().Referrers(t.Context(), "reg.test/app", subject)
				if err != nil || len(list) != 1 || list[0].Digest != want {
					t.Errorf("referrers of %s: got %v, %v, want %s", subject, list, err, want)
				}
			}
			s.checkWhole(t)
		})
	}
}

func TestATagThatIsAttachedToItselfEnds(t *testing.T) {
	up := newShelf()
	a := up.image("app", "a")
	b := up.image("app", "b")
	up.tag("app", "1", a.Digest)
	up.tag("app", attachedTag(a.Digest, ""), a.Digest)
	up.tag("app", attachedTag(a.Digest, ".sig"), b.Digest)
	up.tag("app", attachedTag(b.Digest, ".sig"), a.Digest)
	s := newSite(t, up)
	s.cleanSync(t, everything)
	s.cleanSync(t, everything)
	s.checkTag(t, "reg.test/app", attachedTag(b.Digest, ".sig"), a.Digest)
}

func TestASignatureThatIsBrokenUpstreamFailsItsImage(t *testing.T) {
	up := newShelf()
	img := up.image("app", "img")
	up.tag("app", "1", img.Digest)
	up.tag("app", "2", up.image("app", "other").Digest)
	sig := up.image("app", "sig")
	up.tag("app", attachedTag(img.Digest, ".sig"), sig.Digest)
	s := newSite(t, deniedSource{up, "GET " + sig.Digest.String(), fs.ErrNotExist})
	r := s.mustSync(t, everything)
	want := "reg.test/app:1 → reg.test/app:1: attached tag " + attachedTag(img.Digest, ".sig") + ": upstream manifest " + sig.Digest.String() + ": file does not exist"
	if len(r.Failed) != 1 || r.Failed[0].Error != want {
		t.Errorf("got %+v, want %q", r.Failed, want)
	}
	s.checkTag(t, "reg.test/app", "1", "")
}

func TestAPlatformFilterMakesASparseIndexThatAWiderOneFills(t *testing.T) {
	up := newShelf()
	amd64, arm64 := up.image("app", "amd64", up.layer("amd64", 100)), up.image("app", "arm64", up.layer("arm64", 100))
	about := up.image("app", "attestation of arm64")
	bare := up.image("app", "without a platform")
	nested := up.index("app", on("windows/amd64", up.image("app", "windows")))
	img := up.index("app", on("linux/amd64", amd64), on("linux/arm64/v8", arm64), attestation(arm64, about), bare, nested, on("linux/s390x", amd64))
	up.tag("app", "1", img.Digest)
	s := newSite(t, up)
	narrow := mirror.Rule{From: "reg.test/app", Platforms: []string{"linux/amd64"}}
	s.cleanSync(t, narrow)
	check := func(want bool, ds ...ocispec.Descriptor) {
		t.Helper()
		for _, d := range ds {
			if got := s.serves(t, "reg.test/app", d.Digest); got != want {
				t.Errorf("%s is served: %v, want %v", d.Digest, got, want)
			}
		}
	}
	check(true, img, amd64, bare, nested)
	check(false, arm64, about)
	if string(s.bytes(t, img.Digest)) != string(up.blobs[img.Digest]) {
		t.Error("the index has other bytes than upstream's")
	}
	s.checkWhole(t)
	if r := s.cleanSync(t, narrow); r.Unchanged != 1 {
		t.Errorf("a second sync changed something: %+v", r)
	}
	narrow.Platforms = append(narrow.Platforms, "linux/arm64")
	if r := s.cleanSync(t, narrow); len(r.Copied) != 1 || r.Copied[0].Reason != "not whole here" {
		t.Errorf("got %+v", r)
	}
	check(true, arm64, about)
	narrow.Platforms = []string{"plan9/mips"}
	img = up.index("app", on("linux/amd64", amd64))
	up.tag("app", "2", img.Digest)
	r := s.mustSync(t, narrow)
	if want := "reg.test/app:2 → reg.test/app:2: index " + img.Digest.String() + " has none of the platforms [plan9/mips], only linux/amd64"; len(r.Failed) != 1 || r.Failed[0].Error != want {
		t.Errorf("got %+v, want %s", r.Failed, want)
	}
}

// slowSource gives no body before the gate is open.
type slowSource struct {
	*shelf
	gate *sync.WaitGroup
}

func (s slowSource) Blob(ctx context.Context, repo string, desc ocispec.Descriptor, offset int64) (io.ReadCloser, int64, error) {
	body, start, err := s.shelf.Blob(ctx, repo, desc, offset)
	s.gate.Wait()
	return body, start, err
}

func TestSharedContentIsFetchedOnceAcrossImagesRulesAndSyncs(t *testing.T) {
	up := newShelf()
	var layers []ocispec.Descriptor
	for i := range 8 {
		layers = append(layers, up.layer(fmt.Sprint(i), 10_000))
	}
	for i := range 12 {
		repo := fmt.Sprintf("app%d", i%3)
		up.tag(repo, fmt.Sprint(i), up.image(repo, fmt.Sprint(i%3), layers...).Digest) // four tags an image
	}
	gate := new(sync.WaitGroup)
	gate.Add(1)
	s := newSite(t, slowSource{up, gate})
	rules := []mirror.Rule{{From: "reg.test/app0"}, {From: "reg.test/{app1,app2}"}}
	var syncs sync.WaitGroup
	for range 2 {
		syncs.Go(func() {
			r, err := s.sync(t.Context(), rules...)
			if err != nil || r.Failed() != 0 {
				t.Errorf("got %+v, %v", r, err)
			}
		})
	}
	for up.count("BLOB") < 9 { // all of them, although four tags wait for each
		runtime.Gosched()
	}
	gate.Done()
	syncs.Wait()
	for what, n := range up.asked {
		if what[:4] == "BLOB" && n != 1 || what[:4] == "GET " && n != 1 {
			t.Errorf("%s: %d times", what, n)
		}
	}
	s.checkWhole(t)
}

func TestATagThatSomebodyElseMovedIsLeftAlone(t *testing.T) {
	up := newShelf()
	first, second := up.image("app", "first"), up.image("app", "second")
	up.tag("app", "1", first.Digest)
	s := newSite(t, up)
	late, err := s.engine.Plan(t.Context(), []mirror.Rule{everything})
	if err != nil {
		t.Fatal(err)
	}
	up.tag("app", "1", second.Digest)
	s.cleanSync(t, everything)
	r, err := s.engine.Apply(t.Context(), late)
	if err != nil || r.Failed() != 1 {
		t.Errorf("got %+v, %v, want one failure", r, err)
	}
	s.checkTag(t, "reg.test/app", "1", second.Digest)
}

func TestATagThatMovesAfterItsHeadIsCopiedAsItWas(t *testing.T) {
	up := newShelf()
	first := up.image("app", "first")
	up.tag("app", "1", first.Digest)
	s := newSite(t, up)
	p, err := s.engine.Plan(t.Context(), []mirror.Rule{everything})
	if err != nil {
		t.Fatal(err)
	}
	up.tag("app", "1", up.image("app", "second").Digest)
	if _, err := s.engine.Apply(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	s.checkTag(t, "reg.test/app", "1", first.Digest)
}

func TestATagThatIsGoneUpstreamStaysHere(t *testing.T) {
	up := newShelf()
	img := up.image("app", "img")
	up.tag("app", "1", img.Digest)
	s := newSite(t, up)
	s.cleanSync(t, everything)
	up.untag("app", "1")
	s.cleanSync(t, everything)
	s.checkTag(t, "reg.test/app", "1", img.Digest)
}

func TestContentOfEveryKindIsCopiedBitForBit(t *testing.T) {
	foreign := ocispec.Descriptor{MediaType: "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", Digest: digest.FromString("elsewhere"), Size: 9, URLs: []string{"https://example.com"}}
	up := newShelf()
	docker := up.put("app", "application/vnd.docker.distribution.manifest.v2+json", fmt.Appendf(nil,
		`{"schemaVersion":2, "mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":%s,"layers":[%s,%s]}`,
		asJSON(up.blob("application/vnd.docker.container.image.v1+json", []byte("{}"))), asJSON(up.layer("docker", 10)), asJSON(foreign)))
	list := up.put("app", "application/vnd.docker.distribution.manifest.list.v2+json", fmt.Appendf(nil,
		"{\"schemaVersion\":2,\n\"mediaType\":\"application/vnd.docker.distribution.manifest.list.v2+json\",\"manifests\":[%s]}", asJSON(on("linux/amd64", docker))))
	artifact := up.put("app", "application/vnd.oci.artifact.manifest.v1+json", fmt.Appendf(nil,
		`{"mediaType":"application/vnd.oci.artifact.manifest.v1+json","artifactType":"x/y","blobs":[%s]}`, asJSON(up.layer("artifact", 10))))
	strange := up.put("app", "application/vnd.nobody.knows+json", []byte(`{"mediaType":"application/vnd.nobody.knows+json","what":"ever"}`))
	empty := up.image("app", "empty", up.layer("", 0))
	for tag, d := range map[string]ocispec.Descriptor{"list": list, "artifact": artifact, "strange": strange, "empty": empty, "nested": up.index("app", up.index("app", list))} {
		up.tag("app", tag, d.Digest)
	}
	s := newSite(t, up)
	s.cleanSync(t, everything)
	s.checkWhole(t)
	for tag, d := range up.tags["app"] {
		s.checkTag(t, "reg.test/app", tag, d)
		if string(s.bytes(t, d)) != string(up.blobs[d]) {
			t.Errorf("%s has other bytes", tag)
		}
	}
	if has, _ := s.store.Has(t.Context(), foreign); has || up.count("BLOB "+foreign.Digest.String()) > 0 {
		t.Error("the foreign layer was fetched")
	}
}

func asJSON(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(raw)
}

var long = flag.Bool("long", false, "run the long variants")

func TestAnIndexOfManyIsCopied(t *testing.T) {
	many := 200
	if *long {
		many = 10_000
	}
	up := newShelf()
	children := make([]ocispec.Descriptor, many)
	layer := up.layer("shared", 10)
	config := up.blob(ocispec.MediaTypeImageConfig, []byte("{}"))
	for i := range children {
		children[i] = up.document("app", ocispec.MediaTypeImageManifest, ocispec.Manifest{Config: config, Layers: []ocispec.Descriptor{layer}, Annotations: map[string]string{"n": fmt.Sprint(i)}})
	}
	up.tag("app", "1", up.index("app", children...).Digest)
	s := newSite(t, up)
	s.cleanSync(t, mirror.Rule{From: "reg.test/app"})
	if n := up.count("BLOB"); n != 2 {
		t.Errorf("%d blobs were fetched, want 2", n)
	}
}

func TestIndexesTooDeepInsideEachOtherAreRefused(t *testing.T) {
	up := newShelf()
	d := up.image("app", "img")
	for range 18 {
		d = up.index("app", d)
	}
	up.tag("app", "1", d.Digest)
	s := newSite(t, up)
	if r := s.mustSync(t, everything); len(r.Failed) != 1 {
		t.Errorf("got %+v, want a failure", r)
	}
}

func TestAPatternOfRepositoriesCopiesThoseOfTheCatalog(t *testing.T) {
	up := newShelf()
	for _, repo := range []string{"org/a", "org/b/c", "other/d", "org/../e"} {
		up.tag(repo, "1", up.image(repo, repo).Digest)
	}
	s := newSite(t, up)
	s.cleanSync(t, mirror.Rule{From: "reg.test/org/**", To: "m"})
	var repos []string
	for repo := range s.store.Repositories(t.Context()) {
		repos = append(repos, repo)
	}
	if !slices.Equal(repos, []string{"m/a", "m/b/c"}) {
		t.Errorf("got %v", repos)
	}
	r := s.mustSync(t, mirror.Rule{From: "reg.test/nothing/*"})
	if len(r.Failed) != 1 || r.Failed[0].Error != `reg.test: no repository matches "reg.test/nothing/*"` {
		t.Errorf("got %+v", r.Failed)
	}
}

func TestTwoUpstreamsCannotGoToOneRepository(t *testing.T) {
	s := newSite(t, newShelf())
	_, err := s.engine.Plan(t.Context(), []mirror.Rule{{From: "a.test/x", To: "m"}, {Name: "second", From: "b.test/x", To: "m"}})
	if err == nil || err.Error() != `rule "second": b.test/x would go to m, where a.test/x goes already: give one of them another to` {
		t.Errorf("got %v", err)
	}
}
