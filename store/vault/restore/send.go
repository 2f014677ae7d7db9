package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"lastro/store/vault/bucket"
	"lastro/store/vault/catalog"
	"lastro/store/vault/layout"
)

// repository sends what a target lacks of one, images last.
func (x *copying) repository(ctx context.Context, r copyPlan) error {
	broken, err := x.blobs(ctx, r)
	if err != nil {
		return err
	}
	for _, u := range r.units {
		if err := x.unit(ctx, r, u, broken); err != nil {
			return err
		}
	}
	return x.to.Flush(ctx, r.name)
}

// blobs sends the blobs, and returns those that cannot be.
func (x *copying) blobs(ctx context.Context, r copyPlan) (map[digest.Digest]error, error) {
	var mu sync.Mutex
	broken := map[digest.Digest]error{}
	g, ctx := errgroup.WithContext(ctx)
	for _, desc := range r.fetch {
		select {
		case x.slots <- struct{}{}:
		case <-ctx.Done():
			return nil, cmp.Or(g.Wait(), ctx.Err())
		}
		g.Go(func() error {
			defer func() { <-x.slots }()
			why, err := x.blob(ctx, r.name, desc)
			mu.Lock()
			defer mu.Unlock()
			if why != nil {
				broken[desc.Digest] = why
			}
			return err
		})
	}
	return broken, g.Wait()
}

// blob sends one. why is what is wrong with it alone.
func (x *copying) blob(ctx context.Context, repo string, desc ocispec.Descriptor) (why, err error) {
	turn := x.turn(desc.Digest)
	turn.Lock()
	defer turn.Unlock()
	src := &outgoing{x: x, desc: desc}
	err = x.to.Blob(ctx, repo, desc, src.open)
	x.progress.Done(desc.Digest.String(), err)
	_, damaged := catalog.Damage(src.err)
	switch {
	case err == nil:
		if src.opened {
			x.sent(desc)
		}
		return nil, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case damaged:
		return src.err, nil
	case src.err != nil:
		return nil, src.err
	case refused(err):
		return err, nil
	}
	return nil, err
}

// turn lets one at a time bring a blob: who comes next finds it there.
func (x *copying) turn(d digest.Digest) *sync.Mutex {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.turns[d] == nil {
		x.turns[d] = new(sync.Mutex)
	}
	return x.turns[d]
}

// sent counts each content once, into however many repositories it went.
func (x *copying) sent(desc ocispec.Descriptor) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.counted[desc.Digest] {
		x.counted[desc.Digest] = true
		x.report.Blobs++
		x.report.Bytes += desc.Size
	}
}

// unit sends the manifests of an image, its name last.
func (x *copying) unit(ctx context.Context, r copyPlan, u unit, broken map[digest.Digest]error) error {
	why := brokenIn(u, broken)
	if why == nil {
		why = x.manifests(ctx, r, u)
	}
	_, damaged := catalog.Damage(why)
	if why != nil && !damaged && !refused(why) || ctx.Err() != nil {
		return errors.Join(ctx.Err(), why)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case why != nil:
		x.report.Failed = append(x.report.Failed, catalog.Failure{Repo: r.name, Tag: layout.TagOf(u.desc), Digest: u.desc.Digest, Error: why.Error()})
	case !u.attached():
		x.report.Images++
		x.Log.Info("image copied", "repo", r.name, "tag", layout.TagOf(u.desc), "digest", u.desc.Digest)
	}
	return nil
}

func brokenIn(u unit, broken map[digest.Digest]error) error {
	if i := slices.IndexFunc(u.blobs, func(d digest.Digest) bool { return broken[d] != nil }); i >= 0 {
		return fmt.Errorf("blob %s: %w", u.blobs[i], broken[u.blobs[i]])
	}
	return nil
}

func (x *copying) manifests(ctx context.Context, r copyPlan, u unit) error {
	for _, m := range u.manifests {
		d := m.Descriptor.Digest
		if d == u.desc.Digest || !r.lacks[d] {
			continue
		}
		raw, err := x.raw(ctx, m.Descriptor)
		if err == nil {
			err = x.to.Manifest(ctx, r.name, m.Descriptor, raw)
		}
		if err != nil {
			return err
		}
		x.sent(m.Descriptor)
		delete(r.lacks, d)
	}
	return x.publish(ctx, r, u)
}

// publish gives an image its name, unless it has it. What refers to others is
// published again: a run may have been stopped before it was listed.
func (x *copying) publish(ctx context.Context, r copyPlan, u unit) error {
	desc, tag := u.desc, layout.TagOf(u.desc)
	if !r.lacks[desc.Digest] && tag != "" && r.now[tag] == desc.Digest && !u.attached() {
		return nil
	}
	raw, err := x.raw(ctx, desc)
	if err != nil {
		return err
	}
	desc.Annotations = nil
	if err := x.to.Publish(ctx, r.name, tag, desc, raw); err != nil {
		return err
	}
	if r.lacks[desc.Digest] {
		x.sent(desc)
		delete(r.lacks, desc.Digest)
	}
	return nil
}

func (x *copying) raw(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	_, raw, err := x.Manifest(ctx, desc)
	return raw, err
}

// outgoing is a blob on its way out of the vault, and what was wrong with it.
type outgoing struct {
	x      *copying
	desc   ocispec.Descriptor
	opened bool
	err    error
}

func (s *outgoing) open(ctx context.Context) (io.ReadCloser, error) {
	s.opened, s.err = true, nil
	body, info, err := s.x.OpenBlob(ctx, s.desc.Digest, 0)
	if err == nil && info.Size != s.desc.Size {
		err = errors.Join(s.damage(fmt.Errorf("%d bytes, not %d", info.Size, s.desc.Size)), body.Close())
	}
	if err != nil {
		s.err = err
		return nil, err
	}
	return &passing{outgoing: s, ctx: ctx, body: body, hash: s.desc.Digest.Algorithm().Hash()}, nil
}

func (s *outgoing) damage(err error) error {
	return fmt.Errorf("vault %s: blob %s: %w: %w", s.x.Bucket, s.desc.Digest, layout.ErrDamaged, err)
}

// passing keeps back the last bytes of what is not right.
type passing struct {
	*outgoing
	ctx    context.Context
	body   io.ReadCloser
	hash   hash.Hash
	passed int64
}

func (p *passing) Read(b []byte) (int, error) {
	n, err := p.body.Read(b)
	p.x.progress.Bytes(int64(n))
	p.hash.Write(b[:n])
	p.passed += int64(n)
	ended := err == io.EOF
	switch {
	case err != nil && !ended:
	case p.passed > p.desc.Size || ended && p.passed < p.desc.Size:
		err = p.damage(fmt.Errorf("it has not the %d bytes that it should", p.desc.Size))
	case p.passed == p.desc.Size && digest.NewDigest(p.desc.Digest.Algorithm(), p.hash) != p.desc.Digest:
		err = p.damage(bucket.ErrWrongBytes)
	default:
		return n, err
	}
	if p.err = err; p.ctx.Err() != nil {
		p.err = p.ctx.Err()
	}
	return 0, p.err
}

func (p *passing) Close() error { return p.body.Close() }
