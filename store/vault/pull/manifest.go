package pull

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	"lastro/store/vault/catalog"
)

// Manifest is a manifest by tag or digest. Without an error and a descriptor the
// answer is what the store serves.
func (s *Snapshot) Manifest(ctx context.Context, repo, ref string) (ocispec.Descriptor, []byte, error) {
	if s.o.Local && s.here(ctx, repo, ref) {
		s.want(repo, ref)
		return ocispec.Descriptor{}, nil, nil
	}
	r, err := s.repository(ctx, repo)
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	desc, ok := r.manifest(ref)
	if !ok && digest.Digest(ref).Validate() == nil {
		if err := s.walk(ctx, r); err != nil {
			return ocispec.Descriptor{}, nil, err
		}
		desc, ok = r.manifest(ref)
	}
	if !ok {
		return ocispec.Descriptor{}, nil, fs.ErrNotExist
	}
	s.want(repo, ref)
	raw, err := s.manifest(ctx, r, desc)
	return desc, raw, err
}

// here reports whether the store itself answers.
func (s *Snapshot) here(ctx context.Context, repo, ref string) bool {
	if d := digest.Digest(ref); d.Validate() == nil {
		return s.store.ServesManifest(repo, d) == nil
	}
	_, err := s.store.Resolve(ctx, repo, ref)
	return !errors.Is(err, fs.ErrNotExist)
}

// want counts a pull, for who fills the store.
func (s *Snapshot) want(repo, ref string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pulls[Name{repo, ref}]++
	close(s.asked)
	s.asked = make(chan struct{})
}

// Pulls is how often each tag, or digest, was asked for.
func (s *Snapshot) Pulls() map[Name]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.pulls)
}

// Asked closes when the next manifest is asked for.
func (s *Snapshot) Asked() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// manifest reads a manifest, and takes down what it refers to.
func (s *Snapshot) manifest(ctx context.Context, r *repository, desc ocispec.Descriptor) ([]byte, error) {
	t, err := s.share("manifest "+desc.Digest.String(), func(ctx context.Context, _ func()) (any, error) {
		return s.read(ctx, desc)
	})
	if err == nil {
		err = t.wait(ctx)
	}
	if err != nil {
		return nil, s.refused(ctx, r.name, desc.Digest, err)
	}
	raw := t.result.([]byte)
	m, err := mirror.ParseManifest(desc, raw)
	if err != nil {
		return nil, s.refused(ctx, r.name, desc.Digest, damaged(err))
	}
	s.grew(r.learn(m, s.foreign))
	return raw, nil
}

// read reads a manifest near: from the store, or else from the vault into it.
func (s *Snapshot) read(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	if _, raw, err := s.store.Manifest(ctx, "", desc.Digest); err == nil && int64(len(raw)) == desc.Size {
		return raw, nil
	}
	leave, err := s.place(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	_, raw, err := s.catalog.Manifest(ctx, desc)
	if err != nil {
		return nil, err
	}
	err = s.store.Ingest(ctx, desc, func(context.Context, int64) (io.ReadCloser, int64, error) {
		return io.NopCloser(bytes.NewReader(raw)), 0, nil
	})
	if err != nil && ctx.Err() == nil { // it is answered all the same
		s.log.Warn("manifest from the vault not kept", "digest", desc.Digest, "err", err)
	}
	return raw, nil
}

// walk reads all manifests of a repository, once.
func (s *Snapshot) walk(ctx context.Context, r *repository) error {
	if r.whole() {
		return nil
	}
	t, err := s.share("walk "+r.name, func(ctx context.Context, _ func()) (any, error) {
		w := s.catalog.Walker(func(ctx context.Context, desc ocispec.Descriptor) (mirror.Manifest, error) {
			raw, err := s.read(ctx, desc)
			if err != nil {
				return mirror.Manifest{}, err
			}
			return mirror.ParseManifest(desc, raw)
		})
		if err := w.Load(ctx, r.images); err != nil {
			return nil, err
		}
		return nil, s.walked(ctx, r, w)
	})
	if err == nil {
		err = t.wait(ctx)
	}
	if err != nil {
		return s.refused(ctx, r.name, "", err)
	}
	return nil
}

// walked takes a walk for whole when what is missing is damaged; a vault that did
// not answer is asked again.
func (s *Snapshot) walked(ctx context.Context, r *repository, w *catalog.Walker) error {
	for d, m := range w.Loaded {
		if m.Err == nil {
			continue
		}
		if err := s.explain(ctx, m.Err); errors.Is(err, errUnreachable) {
			return err
		}
		s.log.Warn("an image in the vault is not whole", "repo", r.name, "digest", d, "err", m.Err)
	}
	s.grew(r.learnAll(w, s.foreign))
	return nil
}
