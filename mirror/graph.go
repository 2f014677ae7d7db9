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
	came   func(Manifest, []Ref) // hears of each manifest and what of it is copied; nil: nobody does

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
		By: cmp.Or(g.change.by, "sync"), Reason: fmt.Sprintf("rule %s: %s/%s: %s", g.rule.Name, g.rule.host, g.change.source(), g.change.reason),
	})
}

// unmoved refuses to put a tag over what somebody else, another sync or a
// person who rolled it back, put there since the plan.
func (g *graph) unmoved(ctx context.Context) error {
	if g.change.tag == "" {
		return nil
	}
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
	kept := slices.Collect(g.rule.kept(m))
	for _, r := range kept {
		g.want(r.Descriptor)
	}
	selected, absent := split(m, platforms)
	g.absent = append(g.absent, absent...)
	if g.came != nil {
		g.came(m, append(kept, selected...))
	}
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
	err = g.traffic().do(ctx, claim{digest: desc.Digest}, func(*flight) error {
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
