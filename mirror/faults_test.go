package mirror_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"lastro/mirror"
)

// Each of these is an upstream with one fault.

// deniedSource answers an error to what is asked with a prefix.
type deniedSource struct {
	mirror.Source
	what string // "HEAD", "GET", "BLOB", "REFERRERS", "TAGS", then a space and of what
	err  error
}

func (s deniedSource) denies(verb, of string) error {
	if strings.HasPrefix(verb+" "+of, s.what) {
		return s.err
	}
	return nil
}

func (s deniedSource) Head(ctx context.Context, repo, ref string) (ocispec.Descriptor, error) {
	if err := s.denies("HEAD", ref); err != nil {
		return ocispec.Descriptor{}, err
	}
	return s.Source.Head(ctx, repo, ref)
}

func (s deniedSource) Manifest(ctx context.Context, repo, ref string) (ocispec.Descriptor, []byte, error) {
	if err := s.denies("GET", ref); err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	return s.Source.Manifest(ctx, repo, ref)
}

func (s deniedSource) Blob(ctx context.Context, repo string, desc ocispec.Descriptor, offset int64) (io.ReadCloser, int64, error) {
	if err := s.denies("BLOB", desc.Digest.String()); err != nil {
		return nil, 0, err
	}
	return s.Source.Blob(ctx, repo, desc, offset)
}

func (s deniedSource) Referrers(ctx context.Context, repo string, d digest.Digest) ([]ocispec.Descriptor, error) {
	if err := s.denies("REFERRERS", d.String()); err != nil {
		return nil, err
	}
	return s.Source.Referrers(ctx, repo, d)
}

func (s deniedSource) Tags(ctx context.Context, repo string) iter.Seq2[string, error] {
	if err := s.denies("TAGS", repo); err != nil {
		return each(nil, err)
	}
	return s.Source.Tags(ctx, repo)
}

// spoilingSource changes the body of a blob.
type spoilingSource struct {
	mirror.Source
	of    digest.Digest
	spoil func(io.Reader) io.Reader
}

func (s spoilingSource) Blob(ctx context.Context, repo string, desc ocispec.Descriptor, offset int64) (io.ReadCloser, int64, error) {
	body, start, err := s.Source.Blob(ctx, repo, desc, offset)
	if err == nil && desc.Digest == s.of {
		body = io.NopCloser(s.spoil(body))
	}
	return body, start, err
}

func cutShort(r io.Reader) io.Reader { return io.LimitReader(r, 50) }

func tooLong(r io.Reader) io.Reader { return io.MultiReader(r, strings.NewReader("more")) }

func oneByteWrong(r io.Reader) io.Reader {
	raw, err := io.ReadAll(r)
	raw[len(raw)/2] ^= 1
	return io.MultiReader(bytes.NewReader(raw), failing{err})
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) {
	if f.err == nil {
		return 0, io.EOF
	}
	return 0, f.err
}

// breaksAfter ends each body with an error after n bytes.
func breaksAfter(n int64) func(io.Reader) io.Reader {
	return func(r io.Reader) io.Reader {
		return io.MultiReader(io.LimitReader(r, n), failing{io.ErrUnexpectedEOF})
	}
}

// fromTheStartSource does not know ranges.
type fromTheStartSource struct{ mirror.Source }

func (s fromTheStartSource) Blob(ctx context.Context, repo string, desc ocispec.Descriptor, _ int64) (io.ReadCloser, int64, error) {
	return s.Source.Blob(ctx, repo, desc, 0)
}

// lyingSource answers other bytes for one manifest.
type lyingSource struct {
	mirror.Source
	about digest.Digest
	raw   []byte
}

func (s lyingSource) Manifest(ctx context.Context, repo, ref string) (ocispec.Descriptor, []byte, error) {
	desc, raw, err := s.Source.Manifest(ctx, repo, ref)
	if ref == s.about.String() {
		raw = s.raw
	}
	return desc, raw, err
}

// fullDisk is a destination without room for one digest.
type fullDisk struct {
	mirror.Destination
	of digest.Digest
}

func (d fullDisk) Ingest(ctx context.Context, desc ocispec.Descriptor, fetch mirror.Fetch) error {
	if desc.Digest == d.of {
		return unix.ENOSPC
	}
	return d.Destination.Ingest(ctx, desc, fetch)
}

// pair is an upstream with two images: one that is to be broken, one not.
func pair() (up *shelf, broken, sound, layer, config ocispec.Descriptor) {
	up = newShelf()
	layer = up.layer("broken", 300_000)
	broken, sound = up.image("app", "broken", up.layer("shared", 2000), layer), up.image("app", "sound", up.layer("shared", 2000), up.layer("sound", 1000))
	up.tag("app", "broken", broken.Digest)
	up.tag("app", "sound", sound.Digest)
	m, err := mirror.ParseManifest(broken, up.blobs[broken.Digest])
	if err != nil {
		panic(err)
	}
	return up, broken, sound, layer, m.Refs[0].Descriptor
}

func TestABrokenImageFailsAloneAndTheNextSyncBringsIt(t *testing.T) {
	up, broken, sound, layer, config := pair()
	denied := func(what string, of ocispec.Descriptor, err error) mirror.Source {
		return deniedSource{up, what + " " + of.Digest.String(), err}
	}
	spoilt := func(spoil func(io.Reader) io.Reader) mirror.Source {
		return spoilingSource{up, layer.Digest, spoil}
	}
	tests := []struct {
		name string
		up   mirror.Source
		says string
	}{
		{"the tag's HEAD is refused", deniedSource{up, "HEAD broken", errFault}, "upstream reg.test/app:broken: a fault"},
		{"the manifest is gone", denied("GET", broken, fs.ErrNotExist), "upstream manifest " + broken.Digest.String() + ": file does not exist"},
		{"the manifest is denied", denied("GET", broken, fs.ErrPermission), "upstream manifest " + broken.Digest.String() + ": permission denied"},
		{"the manifest is a web page", lyingSource{up, broken.Digest, []byte("<html>log in</html>")}, "upstream: manifest"},
		{"the manifest has other bytes", lyingSource{up, broken.Digest, up.blobs[sound.Digest]}, "upstream: manifest"},
		{"the manifest is larger than any", lyingSource{up, broken.Digest, make([]byte, mirror.MaxManifest+1)}, "where its descriptor says"},
		{"the referrers are denied", denied("REFERRERS", broken, errFault), "upstream referrers of " + broken.Digest.String() + ": a fault"},
		{"a layer is gone", denied("BLOB", layer, fs.ErrNotExist), "upstream reg.test: file does not exist"},
		{"a config is denied", denied("BLOB", config, errFault), "upstream reg.test: a fault"},
		{"a layer ends too early", spoilt(cutShort), "upstream reg.test: blob " + layer.Digest.String() + ": wrong size: got 50 bytes, want 300000"},
		{"a layer is too long", spoilt(tooLong), "upstream reg.test: blob " + layer.Digest.String() + ": wrong size: more than the 300000 bytes"},
		{"a layer has one wrong byte", spoilt(oneByteWrong), "upstream reg.test: blob " + layer.Digest.String() + ": wrong digest: got sha256:"},
		{"a layer breaks off at once, always", spoilt(breaksAfter(0)), "upstream reg.test: blob " + layer.Digest.String() + " of 300000 bytes: the download broke off: unexpected EOF"},
		{"a layer comes in drops", spoilt(breaksAfter(10)), "the download broke off"},
		{"a layer breaks off and begins anew, always", fromTheStartSource{spoilt(breaksAfter(200_000))}, "the download broke off"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, tt.up)
			checkOnlyBrokenFails(t, s, sound, tt.says)
			s.engine.Source = from(up)
			s.cleanSync(t, everything)
			s.checkTag(t, "reg.test/app", "broken", broken.Digest)
			s.checkWhole(t)
		})
	}
	t.Run("the disk is full", func(t *testing.T) {
		s := newSite(t, up)
		s.engine.Dest = fullDisk{s.store, layer.Digest}
		checkOnlyBrokenFails(t, s, sound, "no space left on device")
		s.engine.Dest = s.store
		s.cleanSync(t, everything)
		s.checkTag(t, "reg.test/app", "broken", broken.Digest)
		s.checkWhole(t)
	})
}

func checkOnlyBrokenFails(t *testing.T, s *site, sound ocispec.Descriptor, says string) {
	t.Helper()
	r := s.mustSync(t, everything)
	if len(r.Failed) != 1 || r.Failed[0].Tag != "broken" || !strings.Contains(r.Failed[0].Error, says) {
		t.Fatalf("got %+v, want only broken to fail, with %q", r.Failed, says)
	}
	s.checkTag(t, "reg.test/app", "sound", sound.Digest)
	s.checkTag(t, "reg.test/app", "broken", "")
	s.checkWhole(t)
}

func TestADownloadThatBreaksOffIsContinuedWhereItDid(t *testing.T) {
	up, _, _, layer, _ := pair()
	s := newSite(t, spoilingSource{up, layer.Digest, breaksAfter(100_000)})
	s.cleanSync(t, everything)
	if got := up.count("BLOB " + layer.Digest.String()); got != 3 && got != 4 {
		t.Errorf("the layer was asked for %d times, want 3 or 4", got)
	}
	s.checkWhole(t)
}

func TestWhenTheListIsRefusedTheRepositoryFailsAlone(t *testing.T) {
	up, _, _, _, _ := pair()
	up.tag("other", "1", up.image("other", "o", up.layer("o", 100)).Digest)
	s := newSite(t, deniedSource{up, "TAGS app", errFault})
	r := s.mustSync(t, mirror.Rule{From: "reg.test/{app,other}"})
	if len(r.Failed) != 1 || r.Failed[0].Error != "upstream reg.test/app: list tags: a fault" {
		t.Errorf("got %+v", r.Failed)
	}
	if s.at("reg.test/other", "1") == "" {
		t.Error("the other repository was not copied")
	}
}

func TestNamedTagsNeedNoListAndTheirSignaturesAreLookedFor(t *testing.T) {
	up, _, sound, _, _ := pair()
	sig := up.image("app", "sig", up.layer("sig", 50))
	up.tag("app", attachedTag(sound.Digest, ".sig"), sig.Digest)
	s := newSite(t, deniedSource{up, "TAGS", errFault})
	r := s.cleanSync(t, mirror.Rule{From: "reg.test/app", Tags: mirror.TagFilter{Include: []string{"sound"}}, Referrers: true})
	if len(r.Copied) != 1 {
		t.Errorf("copied %v, want sound", tagsOf(r.Copied))
	}
	s.checkTag(t, "reg.test/app", attachedTag(sound.Digest, ".sig"), sig.Digest)
}

// stuckSource gives no byte of a blob until its context ends.
type stuckSource struct {
	mirror.Source
	stuck chan struct{} // closed when the first body is waited for
	once  *atomic.Bool
}

func (s stuckSource) Blob(ctx context.Context, repo string, desc ocispec.Descriptor, offset int64) (io.ReadCloser, int64, error) {
	return io.NopCloser(readerFunc(func([]byte) (int, error) {
		if s.once.CompareAndSwap(false, true) {
			close(s.stuck)
		}
		<-ctx.Done()
		return 0, ctx.Err()
	})), offset, nil
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestACancelledSyncEndsAtOnceAndLeavesTagsWhereTheyWere(t *testing.T) {
	up, broken, _, _, _ := pair()
	s := newSite(t, up)
	s.cleanSync(t, everything)
	up.tag("app", "broken", up.image("app", "next", up.layer("next", 5000)).Digest)
	stuck := stuckSource{up, make(chan struct{}), new(atomic.Bool)}
	s.engine.Source = from(stuck)
	ctx, cancel := context.WithCancel(t.Context())
	var ended time.Duration
	go func() { <-stuck.stuck; cancel() }()
	began := time.Now()
	r, err := s.sync(ctx, everything)
	ended = time.Since(began)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that it was cancelled", err)
	}
	if r.Failed() != 0 {
		t.Errorf("what was interrupted is no failure: %+v", r)
	}
	if ended > time.Second {
		t.Errorf("it took %s", ended)
	}
	s.checkTag(t, "reg.test/app", "broken", broken.Digest)
	s.checkWhole(t)
}

func TestEveryFailureIsReportedInOrder(t *testing.T) {
	up := newShelf()
	for i := range 20 {
		up.tag("app", fmt.Sprintf("%02d", i), up.image("app", fmt.Sprint(i)).Digest)
	}
	s := newSite(t, deniedSource{up, "BLOB", errFault})
	failed := failedTags(s.mustSync(t, everything).Failed)
	if len(failed) != 20 || failed[0] != "00" || failed[19] != "19" {
		t.Errorf("got %v", failed)
	}
}

func TestAnImageWhoseManifestsAreTooMuchTogetherIsRefused(t *testing.T) {
	up := newShelf()
	var children []ocispec.Descriptor
	for i := range 10 {
		children = append(children, up.document("app", ocispec.MediaTypeImageManifest, ocispec.Manifest{
			Config: up.blob(ocispec.MediaTypeImageConfig, []byte("{}")), Annotations: map[string]string{"much": fmt.Sprint(i) + strings.Repeat("x", 7<<20)},
		}))
	}
	up.tag("app", "1", up.index("app", children...).Digest)
	s := newSite(t, up)
	r := s.mustSync(t, everything)
	if len(r.Failed) != 1 || !strings.Contains(r.Failed[0].Error, "the manifests of one image are more than") {
		t.Errorf("got %+v", r)
	}
}
