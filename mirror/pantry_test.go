package mirror_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
)

// pantry is a local registry in memory, for tests of many runs. It keeps what
// a broken download brought, and refuses to publish what is not whole.
type pantry struct {
	mu      sync.Mutex
	content map[digest.Digest][]byte
	partial map[digest.Digest][]byte
	types   map[digest.Digest]string // of manifests
	linked  map[string]bool          // "repo@digest"
	tags    map[string]digest.Digest // "repo:tag"
	checked map[string]time.Time     // "repo@digest"
	absent  map[string]bool          // "repo@digest"
}

var _ mirror.Destination = (*pantry)(nil)

func newPantry() *pantry {
	return &pantry{
		content: map[digest.Digest][]byte{}, partial: map[digest.Digest][]byte{}, types: map[digest.Digest]string{},
		linked: map[string]bool{}, tags: map[string]digest.Digest{}, checked: map[string]time.Time{}, absent: map[string]bool{},
	}
}

func in(repo string, d digest.Digest) string { return repo + "@" + d.String() }

func (p *pantry) Resolve(_ context.Context, repo, tag string) (digest.Digest, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if d, ok := p.tags[repo+":"+tag]; ok {
		return d, nil
	}
	return "", fs.ErrNotExist
}

func (p *pantry) Manifest(_ context.Context, repo string, d digest.Digest) (ocispec.Descriptor, []byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	mediaType, ok := p.types[d]
	if !ok || repo != "" && !p.linked[in(repo, d)] {
		return ocispec.Descriptor{}, nil, fs.ErrNotExist
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(p.content[d]))}, p.content[d], nil
}

func (p *pantry) Has(_ context.Context, desc ocispec.Descriptor) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.has(desc.Digest), nil
}

func (p *pantry) has(d digest.Digest) bool { _, ok := p.content[d]; return ok }

func (p *pantry) Linked(_ context.Context, repo string, desc ocispec.Descriptor, _ bool) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.has(desc.Digest) && p.linked[in(repo, desc.Digest)], nil
}

func (p *pantry) ReferrersChecked(_ context.Context, repo string, d digest.Digest) (time.Time, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.checked[in(repo, d)], nil
}

// Ingest continues what an earlier call left, and begins once more from the
// start when that proves wrong.
func (p *pantry) Ingest(ctx context.Context, desc ocispec.Descriptor, fetch mirror.Fetch) error {
	if has, _ := p.Has(ctx, desc); has {
		return nil
	}
	p.mu.Lock()
	held := p.partial[desc.Digest]
	p.mu.Unlock()
	raw, err := receive(ctx, held, desc, fetch)
	if err == nil && digest.FromBytes(raw) != desc.Digest && len(held) > 0 {
		raw, err = receive(ctx, nil, desc, fetch)
	}
	if err == nil && digest.FromBytes(raw) != desc.Digest {
		err = fmt.Errorf("wrong digest: %w", mirror.ErrContent)
		raw = nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.partial[desc.Digest] = raw
		return err
	}
	delete(p.partial, desc.Digest)
	p.content[desc.Digest] = raw
	if strings.Contains(desc.MediaType, ".manifest.") || strings.Contains(desc.MediaType, ".index.") {
		p.types[desc.Digest] = desc.MediaType
	}
	return nil
}

// receive adds to held what is missing, as far as it comes.
func receive(ctx context.Context, held []byte, desc ocispec.Descriptor, fetch mirror.Fetch) ([]byte, error) {
	if int64(len(held)) == desc.Size && desc.Size > 0 {
		return held, nil
	}
	body, start, err := fetch(ctx, int64(len(held)))
	if err != nil {
		return held, err
	}
	defer body.Close()
	got := bytes.NewBuffer(slices.Clone(held[:start]))
	_, err = io.Copy(got, io.LimitReader(body, desc.Size-start+1))
	if err == nil && int64(got.Len()) != desc.Size {
		return nil, fmt.Errorf("wrong size: got %d bytes, want %d: %w", got.Len(), desc.Size, mirror.ErrContent)
	}
	return got.Bytes(), err
}

func (p *pantry) Publish(ctx context.Context, pub mirror.Publication) (mirror.Published, error) {
	if err := ctx.Err(); err != nil {
		return mirror.Published{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range pub.Absent {
		p.absent[in(pub.Repo, d)] = true
	}
	for _, m := range pub.Manifests {
		if err := p.link(pub.Repo, m); err != nil {
			return mirror.Published{}, err
		}
	}
	if pub.Checked {
		p.checked[in(pub.Repo, pub.Root.Digest)] = time.Now()
	}
	name := pub.Repo + ":" + pub.Tag
	previous := p.tags[name]
	p.tags[name] = pub.Root.Digest
	return mirror.Published{Previous: previous, Changed: previous != pub.Root.Digest}, nil
}

// link refuses a manifest before what it refers to.
func (p *pantry) link(repo string, m mirror.Manifest) error {
	for _, r := range m.Refs {
		child := r.Role == mirror.RoleChild
		switch {
		case r.Role == mirror.RoleForeign, child && (p.linked[in(repo, r.Digest)] || p.absent[in(repo, r.Digest)]):
		case child || !p.has(r.Digest):
			return fmt.Errorf("publish %s: %s %s of %s is not here", repo, r.Role, r.Digest, m.Descriptor.Digest)
		default:
			p.linked[in(repo, r.Digest)] = true
		}
	}
	if !p.has(m.Descriptor.Digest) {
		return fmt.Errorf("publish %s: manifest %s is not here", repo, m.Descriptor.Digest)
	}
	p.linked[in(repo, m.Descriptor.Digest)] = true
	return nil
}

// holds are the digests that are stored whole.
func (p *pantry) holds() map[digest.Digest]bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	held := map[digest.Digest]bool{}
	for d := range p.content {
		held[d] = true
	}
	return held
}

// checkWhole fails when something visible is not whole, bit for bit.
func (p *pantry) checkWhole(t fataler) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for d, raw := range p.content {
		if digest.FromBytes(raw) != d {
			t.Fatalf("%s is stored, and is something else", d)
		}
	}
	for _, at := range slices.Sorted(maps.Keys(p.linked)) {
		d := digest.Digest(at[len(at)-71:])
		if !p.has(d) {
			t.Fatalf("%s is visible and not here", at)
		}
		if _, ok := p.types[d]; ok {
			p.checkManifest(t, at[:len(at)-72], d)
		}
	}
	for name, d := range p.tags {
		if _, ok := p.types[d]; !ok {
			t.Fatalf("%s is at %s, which is not here", name, d)
		}
	}
}

func (p *pantry) checkManifest(t fataler, repo string, d digest.Digest) {
	t.Helper()
	m, err := mirror.ParseManifest(ocispec.Descriptor{MediaType: p.types[d], Digest: d, Size: int64(len(p.content[d]))}, p.content[d])
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range m.Refs {
		if r.Role != mirror.RoleForeign && !p.absent[in(repo, r.Digest)] && !p.linked[in(repo, r.Digest)] {
			t.Fatalf("%s of %s is visible, and its %s %s is not", d, repo, r.Role, r.Digest)
		}
	}
}
