package mirror

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// referrers adds what the upstream's referrers API says of every manifest,
// referrers of referrers included: manifests grows meanwhile.
func (g *graph) referrers(ctx context.Context) error {
	for asked := 0; asked < len(g.manifests); {
		subjects := g.manifests[asked:]
		found, err := g.ask(ctx, subjects)
		if errors.Is(err, errors.ErrUnsupported) {
			break
		}
		if err != nil {
			return err
		}
		asked += len(subjects)
		if err := g.referring(ctx, found); err != nil {
			return err
		}
	}
	g.checked = true
	return nil
}

// ask gets the referrers of manifests.
func (g *graph) ask(ctx context.Context, subjects []Manifest) ([][]ocispec.Descriptor, error) {
	found := make([][]ocispec.Descriptor, len(subjects))
	one := func(ctx context.Context, i int) (err error) {
		subject := subjects[i].Descriptor.Digest
		if found[i], err = g.src.Referrers(ctx, g.change.repository, subject); err != nil {
			return fmt.Errorf("upstream referrers of %s: %w", subject, err)
		}
		return nil
	}
	if err := g.knowing(ctx, func() error { return one(ctx, 0) }); err != nil {
		return nil, err
	}
	eg, gctx := errgroup.WithContext(ctx)
	eg.SetLimit(readsPerImage)
	for i := 1; i < len(subjects); i++ {
		eg.Go(func() error { return one(gctx, i) })
	}
	return found, eg.Wait()
}

// knowing runs fn, which asks for referrers, unless it is known that the
// upstream repository has no such API. One image finds that out for all.
func (g *graph) knowing(ctx context.Context, fn func() error) error {
	made, _ := g.referrersOf.LoadOrStore(g.rule.host+"/"+g.change.repository, &knowledge{turn: make(chan struct{}, 1)})
	k := made.(*knowledge)
	select {
	case k.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	if k.known {
		<-k.turn
		if k.none {
			return errors.ErrUnsupported
		}
		return fn()
	}
	defer func() { <-k.turn }()
	err := fn()
	k.none = errors.Is(err, errors.ErrUnsupported)
	k.known = err == nil || k.none
	return err
}

// knowledge is whether an upstream repository has the referrers API. Whoever
// holds turn reads and writes the rest.
type knowledge struct {
	turn        chan struct{}
	known, none bool
}

// referring adds the manifests that were found to refer to others.
func (g *graph) referring(ctx context.Context, found [][]ocispec.Descriptor) error {
	for _, list := range found {
		for _, desc := range list {
			if err := g.manifest(ctx, bare(desc), nil, 0); err != nil {
				return fmt.Errorf("referrer %s: %w", desc.Digest, err)
			}
		}
	}
	return nil
}

// bare is what a referrers list says of a manifest that its own bytes do not.
func bare(desc ocispec.Descriptor) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size}
}

// attached copies the tags that attach something to the image before its own
// tag moves, so that nobody sees the image without its signature.
func (g *graph) attached(ctx context.Context) error {
	for _, m := range g.manifests {
		for _, tag := range g.change.attached.to(m.Descriptor.Digest) {
			if g.tags[tag] {
				continue
			}
			g.tags[tag] = true
			if err := g.attachedTag(ctx, tag); err != nil {
				return fmt.Errorf("attached tag %s: %w", tag, err)
			}
		}
	}
	return nil
}

func (g *graph) attachedTag(ctx context.Context, tag string) error {
	desc, err := g.src.Head(ctx, g.change.repository, tag)
	if !g.change.attached.listed && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("upstream: %w", err)
	}
	c := g.change.attachedChange(tag)
	c.desc = desc
	if c.previous, err = g.Dest.Resolve(ctx, c.to, tag); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("local: %w", err)
	}
	sub := g.graph(g.src, g.rule.unfiltered(), c)
	sub.tags = g.tags
	_, err = sub.copy(ctx)
	return err
}
