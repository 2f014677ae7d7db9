package mirror

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// maxManifests bounds the manifests of one image together, which are in memory
// until it is published.
const maxManifests = 64 << 20

// graph copies the closure of one image. Manifests are walked one after the
// other, because each says what comes next; blobs are fetched beside each other.
type graph struct {
	*applying
	src    Source
	rule   *rule
	change change

	mu    sync.Mutex // ready and size, which are written beside each other
	ready map[digest.Digest]Manifest

	seen      map[digest.Digest]bool // manifests
	content   map[digest.Digest]bool // blobs
	tags      map[string]bool        // attached ones that were copied, by graphs above and below too
	manifests []Manifest             // children before parents, referrers after subjects
	absent    []digest.Digest
	wanted    []ocispec.Descriptor
	size      int64 // of the manifests
	checked   bool
}

func (a *applying) graph(src Source, r *rule, c change) *graph {
	return &graph{applying: a, src: src, rule: r, change: c,
		ready: map[digest.Digest]Manifest{}, seen: map[digest.Digest]bool{}, content: map[digest.Digest]bool{}, tags: map[string]bool{}}
}

func (g *graph) copy(ctx context.Context) (Published, error) {
	if err := g.root(ctx); err != nil {
		return Published{}, err
	}
	if g.rule.Referrers {
		if err := g.referrers(ctx); err != nil {
			return Published{}, err
		}
		if err := g.attached(ctx); err != nil {
			return Published{}, err
		}
	}
	if err := g.fetchBlobs(ctx); err != nil {
		return Published{}, err
	}
	if err := g.unmoved(ctx); err != nil {
		return Published{}, err
	}
	return g.Dest.Publish(ctx, Publication{
		Repo: g.change.to, Tag: g.change.tag, Root: g.change.desc,
		Manifests: g.manifests, Absent: g.absent, Checked: g.checked,
		By: "sync", Reason: fmt.Sprintf("rule %s: %s/%s:%s: %s", g.rule.Name, g.rule.host, g.change.repository, g.change.tag, g.change.reason),
	})
}

// unmoved refuses to put a tag over what somebody else, another sync or a
// person who rolled it back, put there since the plan.
func (g *graph) unmoved(ctx context.Context) error {
	now, err := g.Dest.Resolve(ctx, g.change.to, g.change.tag)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("local %s:%s: %w", g.change.to, g.change.tag, err)
	}
	if now != g.change.previous && now != g.change.desc.Digest {
		return fmt.Errorf("local %s:%s moved to %s while it was copied: it is left there, sync again", g.change.to, g.change.tag, cmp.Or(now, "nothing"))
	}
	return nil
}

// root reads the image itself. Its index may have none of the platforms, but
// then what would be copied is no image.
func (g *graph) root(ctx context.Context) error {
	if err := g.manifest(ctx, g.change.desc, g.rule.platforms, 0); err != nil {
		return err
	}
	if len(g.absent) > 0 && !slices.ContainsFunc(g.manifests, func(m Manifest) bool { return !m.IsIndex() }) {
		return fmt.Errorf("index %s has none of the platforms %v, only %s", g.change.desc.Digest, g.rule.Platforms, platformsOf(g.manifests))
	}
	return nil
}

// manifest reads one manifest and all below it that is for the platforms.
func (g *graph) manifest(ctx context.Context, desc ocispec.Descriptor, platforms []Platform, depth int) error {
	if g.seen[desc.Digest] {
		return nil
	}
	if depth > maxDepth {
		return fmt.Errorf("manifest %s: indexes inside each other more than %d deep", desc.Digest, maxDepth)
	}
	g.seen[desc.Digest] = true
	m, err := g.take(ctx, desc)
	if err != nil {
		return err
	}
	for r := range g.rule.kept(m) {
		g.want(r.Descriptor)
	}
	selected, absent := split(m, platforms)
	g.absent = append(g.absent, absent...)
	if err := g.prepare(ctx, selected); err != nil {
		return err
	}
	for _, child := range selected {
		if err := g.manifest(ctx, child.Descriptor, platforms, depth+1); err != nil {
			return err
		}
	}
	g.manifests = append(g.manifests, m)
	return nil
}

func (g *graph) want(desc ocispec.Descriptor) {
	if !g.content[desc.Digest] {
		g.content[desc.Digest] = true
		g.wanted = append(g.wanted, desc)
	}
}

// take reads a manifest, unless it was read ahead.
func (g *graph) take(ctx context.Context, desc ocispec.Descriptor) (Manifest, error) {
	if m, ok := g.ready[desc.Digest]; ok {
		delete(g.ready, desc.Digest)
		return m, nil
	}
	return g.read(ctx, desc)
}

// prepare reads the children of an index ahead, beside each other.
func (g *graph) prepare(ctx context.Context, children []Ref) error {
	if len(children) < 2 {
		return nil
	}
	eg, gctx := errgroup.WithContext(ctx)
	eg.SetLimit(readsPerImage)
	for _, child := range children {
		if g.seen[child.Digest] {
			continue
		}
		eg.Go(func() error {
			m, err := g.read(gctx, child.Descriptor)
			if err != nil {
				return err
			}
			g.mu.Lock()
			defer g.mu.Unlock()
			g.ready[child.Digest] = m
			return nil
		})
	}
	return eg.Wait()
}

// read gets a manifest from the local registry, or from upstream into it. Tags
// that are copied beside each other often share manifests: who comes second
// waits, and then finds it here.
func (g *graph) read(ctx context.Context, desc ocispec.Descriptor) (m Manifest, err error) {
	m, err = g.held(ctx, desc)
	if !errors.Is(err, fs.ErrNotExist) {
		return m, err
	}
	err = g.flights.do(ctx, desc.Digest, func() error {
		m, err = g.held(ctx, desc)
		if errors.Is(err, fs.ErrNotExist) {
			m, err = g.fetchManifest(ctx, desc)
		}
		return err
	})
	return m, err
}

// held reads a manifest that the local registry has, in whatever repository.
func (g *graph) held(ctx context.Context, desc ocispec.Descriptor) (Manifest, error) {
	held, raw, err := g.Dest.Manifest(ctx, "", desc.Digest)
	if err != nil {
		return Manifest{}, fmt.Errorf("local manifest %s: %w", desc.Digest, err)
	}
	if desc.MediaType == "" {
		desc.MediaType = held.MediaType
	}
	return g.parse(desc, raw)
}

func (g *graph) fetchManifest(ctx context.Context, desc ocispec.Descriptor) (Manifest, error) {
	got, raw, err := g.src.Manifest(ctx, g.change.repository, desc.Digest.String())
	if err != nil {
		return Manifest{}, fmt.Errorf("upstream manifest %s: %w", desc.Digest, err)
	}
	g.transferred.Add(int64(len(raw)))
	if desc.MediaType == "" {
		desc.MediaType = got.MediaType
	}
	m, err := g.parse(desc, raw)
	if err != nil {
		return Manifest{}, fmt.Errorf("upstream: %w", err)
	}
	fetch := func(context.Context, int64) (io.ReadCloser, int64, error) {
		return io.NopCloser(bytes.NewReader(raw)), 0, nil
	}
	if err := g.Dest.Ingest(ctx, m.Descriptor, fetch); err != nil {
		return Manifest{}, fmt.Errorf("local manifest %s: %w", desc.Digest, err)
	}
	return m, nil
}

// parse refuses a size that is not what the parent says.
func (g *graph) parse(desc ocispec.Descriptor, raw []byte) (Manifest, error) {
	if desc.Size > 0 && desc.Size != int64(len(raw)) {
		return Manifest{}, fmt.Errorf("manifest %s has %d bytes where its descriptor says %d", desc.Digest, len(raw), desc.Size)
	}
	desc.Size = int64(len(raw))
	if g.grown(desc.Size) > maxManifests {
		return Manifest{}, fmt.Errorf("manifest %s: the manifests of one image are more than %d bytes", desc.Digest, int64(maxManifests))
	}
	return ParseManifest(desc, raw)
}

// grown adds to the size of the manifests.
func (g *graph) grown(n int64) int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.size += n
	return g.size
}

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

// fetchBlobs fetches what is missing, when the disk has room for it.
func (g *graph) fetchBlobs(ctx context.Context) error {
	missing, size, err := g.missing(ctx)
	if err != nil {
		return err
	}
	promises, err := g.promise(ctx, missing)
	if err != nil {
		return err
	}
	eg, gctx := errgroup.WithContext(ctx)
	eg.SetLimit(waitsPerImage)
	for i, desc := range missing {
		eg.Go(func() error {
			defer promises[i].end()
			return g.blob(gctx, missingBlob{desc, size, promises[i]})
		})
	}
	return eg.Wait()
}

// missingBlob is a blob to fetch.
type missingBlob struct {
	ocispec.Descriptor
	image int64 // what its image has to fetch
	room  *promise
}

// missing are the blobs that are not here, and their size together.
func (g *graph) missing(ctx context.Context) (missing []ocispec.Descriptor, size int64, err error) {
	for _, desc := range g.wanted {
		has, err := g.Dest.Has(ctx, desc)
		if err != nil {
			return nil, 0, fmt.Errorf("local blob %s: %w", desc.Digest, err)
		}
		if !has {
			missing = append(missing, desc)
			size += desc.Size
		}
	}
	return missing, size, nil
}
