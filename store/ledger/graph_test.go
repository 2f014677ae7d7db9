package ledger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
)

// every yields items as a listing does, and then err when it is not nil.
func every[T any](err error, items ...T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, item := range items {
			if !yield(item, nil) {
				return
			}
		}
		if err != nil {
			yield(*new(T), err)
		}
	}
}

func TestTheGraphTellsWhatRefersToWhat(t *testing.T) {
	l := inMay(t)
	amd := image("amd", config(ocispec.MediaTypeImageConfig), layer("shared"))
	arm := image("arm", layer("shared"), layer("own"))
	arm.Refs[0].Platform = &ocispec.Platform{OS: "linux", Architecture: "arm64"}
	arm.Refs[0].Data = []byte("embedded")
	arm.Refs[1].Role, arm.Refs[1].URLs = mirror.RoleForeign, []string{"https://example.com/l"}
	both := index("both", amd, arm)
	both.Annotations = map[string]string{"k": "v"}
	must(t, l.RecordGraph(t.Context(), "r", []mirror.Manifest{amd, arm, both}, nil))

	node, err := l.Manifest(t.Context(), both.Descriptor.Digest)
	must(t, err)
	if diff := cmp.Diff(Node{MediaType: ocispec.MediaTypeImageIndex, Size: 4, Annotations: both.Annotations}, node); diff != "" {
		t.Error(diff)
	}
	children, err := l.Children(t.Context(), arm.Descriptor.Digest)
	must(t, err)
	arm.Refs[0].Data = nil // embedded content stays in the manifest
	if diff := cmp.Diff(arm.Refs, children); diff != "" {
		t.Error(diff)
	}
	parents, err := l.Parents(t.Context(), dig("shared"))
	must(t, err)
	if diff := cmp.Diff(sorted(dig("amd"), dig("arm")), parents); diff != "" {
		t.Error(diff)
	}
	if none, err := l.Parents(t.Context(), dig("unknown")); len(none) != 0 || err != nil {
		t.Errorf("parents of what nobody refers to: %v, %v", none, err)
	}
	for _, ask := range []func(context.Context, digest.Digest) error{
		func(ctx context.Context, d digest.Digest) error { _, err := l.Manifest(ctx, d); return err },
		func(ctx context.Context, d digest.Digest) error { _, err := l.Children(ctx, d); return err },
	} {
		if err := ask(t.Context(), dig("unknown")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a manifest that is not known: got %v, want fs.ErrNotExist", err)
		}
	}
}

func TestLinksBelongToOneRepository(t *testing.T) {
	l := inMay(t)
	must(t, l.RecordGraph(t.Context(), "r", []mirror.Manifest{image("a"), image("b")}, nil))
	must(t, l.RecordGraph(t.Context(), "r/below", []mirror.Manifest{image("b"), image("c")}, nil))
	for repo, want := range map[string][]digest.Digest{"r": sorted(dig("a"), dig("b")), "r/below": sorted(dig("b"), dig("c")), "none": nil} {
		if diff := cmp.Diff(want, collect(t, l.Links(t.Context(), repo))); diff != "" {
			t.Errorf("%s: %s", repo, diff)
		}
	}
	for name, want := range map[string]bool{"a": true, "c": false, "unknown": false} {
		if got, err := l.Linked(t.Context(), "r", dig(name)); got != want || err != nil {
			t.Errorf("%s is linked in r: %v, %v; want %v", name, got, err, want)
		}
	}
}

func TestReferrersAreListedAsTheAPIWantsThem(t *testing.T) {
	l := inMay(t)
	subject := image("subject")
	typed := about(subject, image("typed", config("application/vnd.unused")))
	typed.Descriptor.ArtifactType = "application/spdx+json"
	typed.Annotations = map[string]string{"org.opencontainers.image.created": "2026-05-01"}
	byConfig := about(subject, image("by config", config("application/vnd.dev.cosign")))
	bare := about(subject, index("index"))
	elsewhere := about(subject, image("elsewhere"))
	unrelated := about(image("another subject"), image("unrelated"))

	// A referrer may be there before its subject.
	must(t, l.RecordGraph(t.Context(), "r", []mirror.Manifest{typed, byConfig, bare, unrelated, subject}, nil))
	must(t, l.RecordGraph(t.Context(), "other", []mirror.Manifest{elsewhere}, nil))

	want := map[digest.Digest]ocispec.Descriptor{
		dig("typed"):     {MediaType: ocispec.MediaTypeImageManifest, Digest: dig("typed"), Size: 5, ArtifactType: "application/spdx+json", Annotations: typed.Annotations},
		dig("by config"): {MediaType: ocispec.MediaTypeImageManifest, Digest: dig("by config"), Size: 9, ArtifactType: "application/vnd.dev.cosign"},
		dig("index"):     {MediaType: ocispec.MediaTypeImageIndex, Digest: dig("index"), Size: 5},
	}
	list, err := l.Referrers(t.Context(), "r", subject.Descriptor.Digest)
	must(t, err)
	got := map[digest.Digest]ocispec.Descriptor{}
	for _, desc := range list {
		got[desc.Digest] = desc
	}
	if diff := cmp.Diff(want, got); diff != "" || len(list) != len(want) {
		t.Errorf("%d referrers: %s", len(list), diff)
	}
	for _, c := range []struct {
		repo string
		d    digest.Digest
		want int
	}{{"other", dig("subject"), 1}, {"none", dig("subject"), 0}, {"r", dig("unknown"), 0}} {
		if list, err := l.Referrers(t.Context(), c.repo, c.d); len(list) != c.want || err != nil {
			t.Errorf("%s@%s: %d referrers, %v; want %d", c.repo, c.d, len(list), err, c.want)
		}
	}
}

func TestReferrersCheckedIsKeptPerRepository(t *testing.T) {
	l := inMay(t)
	must(t, l.RecordReferrersChecked(t.Context(), "r", at(1), dig("a"), dig("b")))
	must(t, l.RecordReferrersChecked(t.Context(), "r", at(2), dig("b")))
	for _, c := range []struct {
		repo, name string
		hour       int
	}{{"r", "a", 1}, {"r", "b", 2}} {
		if got, err := l.ReferrersChecked(t.Context(), c.repo, dig(c.name)); !got.Equal(at(c.hour)) || err != nil {
			t.Errorf("%s: %v, %v; want %v", c.name, got, err, at(c.hour))
		}
	}
	if got, err := l.ReferrersChecked(t.Context(), "other", dig("a")); !got.IsZero() || err != nil {
		t.Errorf("never checked: %v, %v; want the zero time", got, err)
	}
	must(t, l.RecordReferrersUnchecked(t.Context(), "other", dig("a"), dig("b")))
	must(t, l.RecordReferrersUnchecked(t.Context(), "r", dig("a"), dig("never")))
	for name, want := range map[string]time.Time{"a": {}, "b": at(2)} {
		if got, err := l.ReferrersChecked(t.Context(), "r", dig(name)); !got.Equal(want) || err != nil {
			t.Errorf("%s then: %v, %v; want %v", name, got, err, want)
		}
	}
}

func TestALargeClosureIsRecordedInPages(t *testing.T) {
	l := inMay(t)
	var ms []mirror.Manifest
	for i := range 10_000 {
		ms = append(ms, image(fmt.Sprint(i)))
	}
	root := index("root", ms...)
	must(t, l.RecordGraph(t.Context(), "r", append(ms, root), nil))
	children, err := l.Children(t.Context(), root.Descriptor.Digest)
	must(t, err)
	if len(children) != len(ms) || children[9_999].Digest != dig("9999") {
		t.Errorf("%d children, want %d in their order", len(children), len(ms))
	}
	if got := len(collect(t, l.Links(t.Context(), "r"))); got != len(ms)+1 {
		t.Errorf("%d links, want %d", got, len(ms)+1)
	}
}

func TestARebuildReplacesTheGraphAndNothingElse(t *testing.T) {
	l := inMay(t)
	must(t, l.RecordEvent(t.Context(), ev(1, Seen, dig("old"))))
	must(t, l.RecordGraph(t.Context(), "r", []mirror.Manifest{about(image("s"), image("old", layer("x")))}, []digest.Digest{dig("left out")}))
	found := []RepoManifest{
		{Repo: "r", Manifest: image("new", layer("x")), Absent: []digest.Digest{dig("also left out")}},
		{Repo: "q", Manifest: about(image("new"), image("signature"))},
	}
	must(t, l.RebuildGraph(t.Context(), every(nil, found...)))

	if diff := cmp.Diff([]digest.Digest{dig("new")}, collect(t, l.Links(t.Context(), "r"))); diff != "" {
		t.Error(diff)
	}
	if _, err := l.Manifest(t.Context(), dig("old")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the old manifest: got %v, want fs.ErrNotExist", err)
	}
	if parents, err := l.Parents(t.Context(), dig("x")); len(parents) != 1 || parents[0] != dig("new") || err != nil {
		t.Errorf("parents: %v, %v", parents, err)
	}
	if list, err := l.Referrers(t.Context(), "q", dig("new")); len(list) != 1 || err != nil {
		t.Errorf("referrers: %v, %v", list, err)
	}
	for _, d := range []string{"left out", "also left out"} {
		if absent, err := l.Absent(t.Context(), "r", dig(d)); !absent || err != nil {
			t.Errorf("%s is absent: %v, %v", d, absent, err)
		}
	}
	if s, err := l.Tag(t.Context(), "r", "t"); s.Digest != dig("old") || err != nil {
		t.Errorf("the tag: %v, %v", s, err)
	}
}

func TestARebuildThatFailsLeavesTheOldGraph(t *testing.T) {
	fault := errors.New("cannot read a manifest")
	for name, rebuild := range map[string]func(context.Context, *Ledger) (got, want error){
		"what it reads fails": func(ctx context.Context, l *Ledger) (error, error) {
			return l.RebuildGraph(ctx, every(fault, RepoManifest{Repo: "r", Manifest: image("new")})), fault
		},
		"a repository has no name": func(ctx context.Context, l *Ledger) (error, error) {
			err := l.RebuildGraph(ctx, every(nil, RepoManifest{Manifest: image("new")}))
			return err, err
		},
		"it is interrupted": func(ctx context.Context, l *Ledger) (error, error) {
			ctx, cancel := context.WithCancel(ctx)
			return l.RebuildGraph(ctx, func(yield func(RepoManifest, error) bool) {
				yield(RepoManifest{Repo: "r", Manifest: image("new")}, nil)
				cancel()
			}), context.Canceled
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := inMay(t)
			must(t, l.RecordGraph(t.Context(), "r", []mirror.Manifest{image("old")}, nil))
			before := dump(t, l)
			if got, want := rebuild(t.Context(), l); got == nil || !errors.Is(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
			if diff := cmp.Diff(before, dump(t, l)); diff != "" {
				t.Errorf("the ledger changed: %s", diff)
			}
		})
	}
}

func TestWhatIsRecordedDuringARebuildIsInBothGraphs(t *testing.T) {
	l := inMay(t)
	must(t, l.RecordGraph(t.Context(), "r", []mirror.Manifest{image("old")}, nil))
	err := l.RebuildGraph(t.Context(), func(yield func(RepoManifest, error) bool) {
		must(t, l.RecordGraph(t.Context(), "r", []mirror.Manifest{image("meanwhile")}, nil))
		if linked, err := l.Linked(t.Context(), "r", dig("meanwhile")); !linked || err != nil {
			t.Errorf("during the rebuild: %v, %v", linked, err)
		}
		yield(RepoManifest{Repo: "r", Manifest: image("found")}, nil)
	})
	must(t, err)
	if diff := cmp.Diff(sorted(dig("found"), dig("meanwhile")), collect(t, l.Links(t.Context(), "r"))); diff != "" {
		t.Error(diff)
	}
}

func TestASecondRebuildWaitsForTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := mustOpen(t, ledgerPath(t), Options{})
		first, second := make(chan error), make(chan error)
		goOn := make(chan struct{})
		go func() {
			first <- l.RebuildGraph(t.Context(), func(yield func(RepoManifest, error) bool) {
				<-goOn
				yield(RepoManifest{Repo: "r", Manifest: image("first")}, nil)
			})
		}()
		synctest.Wait()
		hurried, cancel := context.WithCancel(t.Context())
		go func() {
			second <- l.RebuildGraph(t.Context(), every(nil, RepoManifest{Repo: "r", Manifest: image("second")}))
		}()
		go func() { second <- l.RebuildGraph(hurried, every[RepoManifest](nil)) }()
		synctest.Wait()
		cancel()
		if err := <-second; !errors.Is(err, context.Canceled) {
			t.Errorf("one that gives up waiting: got %v, want context.Canceled", err)
		}
		close(goOn)
		must(t, errors.Join(<-first, <-second))
		if diff := cmp.Diff([]digest.Digest{dig("second")}, collect(t, l.Links(t.Context(), "r"))); diff != "" {
			t.Error(diff)
		}
		must(t, l.Close())
	})
}
