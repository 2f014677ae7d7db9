package mirror_test

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"pgregory.net/rapid"

	"lastro/mirror"
	"lastro/store"
)

// both repositories in one rule.
var both = mirror.Rule{From: "reg.test/{app,lib}", Referrers: true}

// stopping ends a context at one of the store's steps, as a person or a signal
// does. A stopped step is the last that is seen.
type stopping struct {
	left   atomic.Int64
	cancel atomic.Pointer[context.CancelFunc]
}

func (s *stopping) step(string, string) {
	if s.left.Add(-1) == 0 {
		(*s.cancel.Load())()
	}
}

func TestWhateverHappensEveryTagIsWholeAndACleanSyncEqualsTheUpstream(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "model")
		if err != nil {
			rt.Fatal(err)
		}
		up, stop := newShelf(), &stopping{}
		s := openSite(t, dir, up, store.Options{Step: stop.step})
		w := &world{up: up, s: s, stop: stop, images: map[string][]ocispec.Descriptor{}}
		w.push(rt)
		rt.Repeat(map[string]func(*rapid.T){
			"push": w.push, "move": w.move, "delete": w.delete, "sign": w.sign,
			"sync": w.sync, "sync with a fault": w.faultySync, "stopped sync": w.stoppedSync,
			"": func(rt *rapid.T) { s.checkWhole(rt) },
		})
	})
}

// world is an upstream that changes and a mirror that follows it.
type world struct {
	up     *shelf
	s      *site
	stop   *stopping
	images map[string][]ocispec.Descriptor
	made   int
}

func (w *world) repo(rt *rapid.T) string {
	return rapid.SampledFrom([]string{"app", "lib"}).Draw(rt, "repo")
}

func (w *world) push(rt *rapid.T) {
	repo, tag := w.repo(rt), rapid.SampledFrom([]string{"1", "2", "latest"}).Draw(rt, "tag")
	w.made++
	shared := w.up.layer(fmt.Sprint("shared", rapid.IntRange(0, 2).Draw(rt, "layer")), 500)
	img := w.up.image(repo, fmt.Sprint(w.made), shared, w.up.layer(fmt.Sprint("own", w.made), 100))
	if rapid.Bool().Draw(rt, "index") {
		img = w.up.index(repo, on("linux/amd64", img))
	}
	w.images[repo] = append(w.images[repo], img)
	w.up.tag(repo, tag, img.Digest)
}

func (w *world) some(rt *rapid.T) (repo string, img ocispec.Descriptor) {
	repo = w.repo(rt)
	if len(w.images[repo]) == 0 {
		rt.Skip("nothing there")
	}
	return repo, rapid.SampledFrom(w.images[repo]).Draw(rt, "image")
}

func (w *world) move(rt *rapid.T) {
	repo, img := w.some(rt)
	w.up.tag(repo, "latest", img.Digest)
}

func (w *world) delete(rt *rapid.T) {
	w.up.untag(w.repo(rt), rapid.SampledFrom([]string{"1", "2", "latest"}).Draw(rt, "tag"))
}

func (w *world) sign(rt *rapid.T) {
	repo, img := w.some(rt)
	w.made++
	if rapid.Bool().Draw(rt, "by tag") {
		w.up.tag(repo, attachedTag(img.Digest, ".sig"), w.up.image(repo, fmt.Sprint("sig", w.made)).Digest)
		return
	}
	w.images[repo] = append(w.images[repo], w.up.about(repo, fmt.Sprint("sbom", w.made), img))
}

func (w *world) sync(rt *rapid.T) {
	w.s.engine.Source = from(w.up)
	r, err := w.s.sync(context.Background(), both)
	if err != nil || r.Failed() > 0 && !w.missing() {
		rt.Fatalf("%+v, %v", r, err)
	}
	for repo, tags := range w.up.tags {
		for tag, d := range tags {
			if got := w.s.at("reg.test/"+repo, tag); got != d && len(tag) < 10 {
				rt.Fatalf("%s:%s is at %s, want %s", repo, tag, got, d)
			}
			w.checkAttached(rt, repo, d)
		}
	}
}

func (w *world) checkAttached(rt *rapid.T, repo string, d digest.Digest) {
	tag := attachedTag(d, ".sig")
	if sig, ok := w.up.tags[repo][tag]; ok && w.s.at("reg.test/"+repo, tag) != sig {
		rt.Fatalf("the signature of %s@%s is at %q, want %s", repo, d, w.s.at("reg.test/"+repo, tag), sig)
	}
}

// missing reports whether a repository was never made.
func (w *world) missing() bool { return len(w.up.manifests) < 2 }

func (w *world) faultySync(rt *rapid.T) {
	what := rapid.SampledFrom([]string{"BLOB sha256:", "GET sha256:", "HEAD ", "REFERRERS sha256:"}).Draw(rt, "fault")
	w.s.engine.Source = from(deniedSource{w.up, what + rapid.StringMatching("[0-9a-f]").Draw(rt, "of"), errFault})
	if _, err := w.s.sync(context.Background(), both); err != nil {
		rt.Fatal(err)
	}
}

func (w *world) stoppedSync(rt *rapid.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w.s.engine.Source = from(w.up)
	w.stop.cancel.Store(&cancel)
	w.stop.left.Store(int64(rapid.IntRange(1, 60).Draw(rt, "steps")))
	_, _ = w.s.sync(ctx, both) // whether it ended before is all the same
	w.stop.left.Store(0)
}
