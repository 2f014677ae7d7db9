package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/mirror"
	"lastro/store/layout"
)

// Tag is a tag as it lies on disk.
type Tag struct {
	Name   string
	Digest digest.Digest
}

// Repositories yields the repositories on disk, ordered by name.
func (s *Store) Repositories(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) { s.repositories(ctx, "", yield) }
}

func (s *Store) repositories(ctx context.Context, prefix string, yield func(string, error) bool) bool {
	if err := ctx.Err(); err != nil {
		yield("", err)
		return false
	}
	entries, err := s.tree.Entries(strings.TrimSuffix(layout.Repositories+"/"+prefix, "/"))
	if err != nil {
		yield("", fmt.Errorf("local registry: list repositories: %w", err))
		return false
	}
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), "_") {
			continue
		}
		name := prefix + e.Name()
		if _, err := s.tree.Stat(layout.Repositories + "/" + name + "/_manifests"); err == nil && !yield(name, nil) {
			return false
		}
		if !s.repositories(ctx, name+"/", yield) {
			return false
		}
	}
	return true
}

// errForeign says that something on disk is none of a registry's.
var errForeign = errors.New("no part of a registry")

// Tags yields the tags of a repository on disk, ordered by name. A tag whose
// link cannot be read is yielded with its name and the error, and the rest
// follows; so is what is no tag.
func (s *Store) Tags(ctx context.Context, repo string) iter.Seq2[Tag, error] {
	return func(yield func(Tag, error) bool) {
		if err := layout.CheckRepository(repo); err != nil {
			yield(Tag{}, err)
			return
		}
		entries, err := s.tree.Entries(layout.Tags(repo))
		if err != nil {
			yield(Tag{}, fmt.Errorf("local %s: list tags: %w", repo, err))
			return
		}
		for _, e := range entries {
			if err := ctx.Err(); err != nil {
				yield(Tag{}, err)
				return
			}
			tag, err := s.tag(repo, e)
			if !errors.Is(err, fs.ErrNotExist) && !yield(tag, err) {
				return
			}
		}
	}
}

func (s *Store) tag(repo string, e fs.DirEntry) (Tag, error) {
	if layout.CheckTag(e.Name()) != nil || !e.IsDir() {
		return Tag{Name: e.Name()}, fmt.Errorf("local %s: %q among the tags is %w", repo, e.Name(), errForeign)
	}
	d, err := s.tree.ReadLink(layout.Tag(repo, e.Name()))
	if err != nil {
		err = fmt.Errorf("local %s:%s: %w", repo, e.Name(), err)
	}
	return Tag{e.Name(), d}, err
}

// Revisions yields the manifests that a repository serves. One that cannot be
// read is yielded with the error, and the rest follows. Without a digest, the
// error is that of a folder that cannot be listed, or is of something foreign.
func (s *Store) Revisions(ctx context.Context, repo string) iter.Seq2[digest.Digest, error] {
	return func(yield func(digest.Digest, error) bool) {
		if err := layout.CheckRepository(repo); err != nil {
			yield("", err)
			return
		}
		algorithms, err := s.tree.Entries(layout.Revisions(repo))
		if err != nil {
			yield("", fmt.Errorf("local %s: list manifests: %w", repo, err))
			return
		}
		for _, algorithm := range algorithms {
			if !s.revisions(ctx, repo, algorithm.Name(), yield) {
				return
			}
		}
	}
}

func (s *Store) revisions(ctx context.Context, repo, algorithm string, yield func(digest.Digest, error) bool) bool {
	info, err := s.tree.Stat(layout.Revisions(repo) + "/" + algorithm)
	if err == nil && !info.IsDir() {
		return yield("", fmt.Errorf("local %s: %q among the manifests is %w", repo, algorithm, errForeign))
	}
	entries, err := s.tree.Entries(layout.Revisions(repo) + "/" + algorithm)
	if err != nil {
		return yield("", fmt.Errorf("local %s: list manifests: %w", repo, err))
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			yield("", err)
			return false
		}
		d := digest.NewDigestFromEncoded(digest.Algorithm(algorithm), e.Name())
		if d.Validate() != nil {
			if !yield("", fmt.Errorf("local %s: %q among the manifests is %w", repo, e.Name(), errForeign)) {
				return false
			}
			continue
		}
		if err := s.revision(repo, d); !errors.Is(err, fs.ErrNotExist) && !yield(d, err) {
			return false
		}
	}
	return true
}

// revision says whether repo serves a manifest; fs.ErrNotExist.
func (s *Store) revision(repo string, d digest.Digest) error {
	return s.linked(layout.Revision(repo, d), d)
}

func (s *Store) linked(name string, d digest.Digest) error {
	got, err := s.tree.ReadLink(name)
	if err != nil {
		return err
	}
	if got != d {
		return fmt.Errorf("local registry: link %s says %s", name, got)
	}
	return nil
}

// Resolve returns what a tag points at; fs.ErrNotExist.
func (s *Store) Resolve(_ context.Context, repo, tag string) (digest.Digest, error) {
	if err := errors.Join(layout.CheckRepository(repo), layout.CheckTag(tag)); err != nil {
		return "", err
	}
	return s.tree.ReadLink(layout.Tag(repo, tag))
}

// Manifest returns a manifest that repo serves, or any repository when repo is
// empty. The bytes were checked against the digest. Missing is fs.ErrNotExist;
// bytes that are wrong are layout.ErrDigest.
func (s *Store) Manifest(ctx context.Context, repo string, d digest.Digest) (ocispec.Descriptor, []byte, error) {
	none := ocispec.Descriptor{}
	if err := layout.CheckDigest(d); err != nil {
		return none, nil, err
	}
	if repo != "" {
		if err := layout.CheckRepository(repo); err != nil {
			return none, nil, err
		}
		if err := s.revision(repo, d); err != nil {
			return none, nil, err
		}
	}
	raw, err := s.readSmall(d)
	if err != nil {
		return none, nil, err
	}
	desc := ocispec.Descriptor{Digest: d, Size: int64(len(raw))}
	if desc.MediaType, err = s.mediaType(ctx, desc, raw); err != nil {
		return none, nil, err
	}
	return desc, raw, ctx.Err()
}

// mediaType is what a manifest says that it is, or else what it was given as
// when it came.
func (s *Store) mediaType(ctx context.Context, desc ocispec.Descriptor, raw []byte) (string, error) {
	m, err := mirror.ParseManifest(desc, raw)
	if err != nil {
		return "", err
	}
	node, err := s.ledger.Manifest(ctx, desc.Digest)
	if err != nil || node.MediaType == m.Descriptor.MediaType {
		return m.Descriptor.MediaType, ignoreGone(err)
	}
	desc.MediaType = node.MediaType
	if _, err := mirror.ParseManifest(desc, raw); err == nil {
		return node.MediaType, nil
	}
	return m.Descriptor.MediaType, nil
}

// readSmall reads content of a manifest's size, checked.
func (s *Store) readSmall(d digest.Digest) ([]byte, error) {
	f, err := s.tree.OpenContent(d)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, mirror.MaxManifest+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > mirror.MaxManifest {
		return nil, fmt.Errorf("local %s is larger than a manifest may be", d)
	}
	if got := d.Algorithm().FromBytes(raw); got != d {
		return nil, fmt.Errorf("local %s: the bytes on disk hash to %s: %w", d, got, layout.ErrDigest)
	}
	return raw, nil
}

// Has reports whether content with this size was ingested.
func (s *Store) Has(_ context.Context, desc ocispec.Descriptor) (bool, error) {
	if err := layout.CheckDigest(desc.Digest); err != nil {
		return false, err
	}
	s.sentences.tell("", desc.Digest, s.now)
	return s.tree.Has(desc)
}

// Linked reports whether repo serves content, and has it with this size.
func (s *Store) Linked(_ context.Context, repo string, desc ocispec.Descriptor, manifest bool) (bool, error) {
	s.sentences.tell(repo, desc.Digest, s.now)
	return s.isLinked(repo, desc, manifest)
}

// isLinked is Linked of a reader that will not build on it.
func (s *Store) isLinked(repo string, desc ocispec.Descriptor, manifest bool) (bool, error) {
	if err := layout.CheckDigest(desc.Digest); err != nil {
		return false, err
	}
	has, err := s.tree.Has(desc)
	if err != nil || !has {
		return false, err
	}
	link := layout.Layer
	if manifest {
		link = layout.Revision
	}
	err = s.linked(link(repo, desc.Digest), desc.Digest)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Absent reports whether d was left out of repo on purpose, and is not served.
func (s *Store) Absent(ctx context.Context, repo string, d digest.Digest) (bool, error) {
	if _, err := s.tree.ReadLink(layout.Revision(repo, d)); !errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return s.ledger.Absent(ctx, repo, d)
}

// Ingest stores content under its digest. Nothing becomes visible. Small content
// is durable from the next publication on; a crash before leaves it unfinished,
// to be continued without being fetched again.
func (s *Store) Ingest(ctx context.Context, desc ocispec.Descriptor, fetch mirror.Fetch) error {
	s.sentences.tell("", desc.Digest, s.now)
	return s.tree.Ingest(ctx, desc, fetch)
}

// OpenContent opens content by its digest; fs.ErrNotExist. It is not checked:
// who needs to be sure hashes it. The caller closes it.
func (s *Store) OpenContent(_ context.Context, d digest.Digest) (*os.File, error) {
	if err := layout.CheckDigest(d); err != nil {
		return nil, err
	}
	return s.tree.OpenContent(d)
}

// ReferrersChecked is when an upstream was last asked for the referrers of d.
func (s *Store) ReferrersChecked(ctx context.Context, repo string, d digest.Digest) (t time.Time, err error) {
	return s.ledger.ReferrersChecked(ctx, repo, d)
}
