package mirror_test

import (
	"context"
	"fmt"
	"io/fs"
	"iter"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
)

// crowdedSource has a hundred thousand tags of one image, and looks at the
// memory whenever it is asked for one.
type crowdedSource struct {
	*shelf
	img  ocispec.Descriptor
	most atomic.Uint64
}

const crowd = 100_000

func (s *crowdedSource) Tags(context.Context, string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for i := range crowd {
			if !yield(fmt.Sprintf("1.%d.%d-alpine3.%d", i/1000, i%1000, i%20), nil) {
				return
			}
		}
	}
}

func (s *crowdedSource) Head(_ context.Context, _, tag string) (ocispec.Descriptor, error) {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	for now := sample[0].Value.Uint64(); ; {
		most := s.most.Load()
		if now <= most || s.most.CompareAndSwap(most, now) {
			return s.img, nil
		}
	}
}

// everywhere is a local registry in which every tag is at one image.
type everywhere struct {
	mirror.Destination
	img ocispec.Descriptor
	raw []byte
}

func (e everywhere) Resolve(context.Context, string, string) (digest.Digest, error) {
	return e.img.Digest, nil
}

func (e everywhere) Manifest(_ context.Context, _ string, d digest.Digest) (ocispec.Descriptor, []byte, error) {
	if d != e.img.Digest {
		return ocispec.Descriptor{}, nil, fs.ErrNotExist
	}
	return e.img, e.raw, nil
}

func (e everywhere) Linked(context.Context, string, ocispec.Descriptor, bool) (bool, error) {
	return true, nil
}

func TestAHundredThousandTagsArePlannedInLittleMemory(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(50))
	up := newShelf()
	src := &crowdedSource{shelf: up, img: up.image("app", "img")}
	e := &mirror.Engine{Dest: everywhere{img: src.img, raw: up.blobs[src.img.Digest]}, Source: from(src), Now: (&clock{}).Now}
	for _, rule := range []mirror.Rule{
		{From: "reg.test/app"},
		{From: "reg.test/app", Tags: mirror.TagFilter{Semver: ">=1", Latest: 1000, Per: "minor"}},
	} {
		p, err := e.Plan(t.Context(), []mirror.Rule{rule})
		if err != nil {
			t.Fatal(err)
		}
		if p.Changes() != 0 || p.Failed() != 0 {
			t.Errorf("%d changes and %d failures", p.Changes(), p.Failed())
		}
	}
	if most := src.most.Load(); most > 100<<20 {
		t.Errorf("%d MiB were in use", most>>20)
	} else {
		t.Logf("%d MiB were in use", most>>20)
	}
}
