package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/opencontainers/go-digest"

	"lastro/store/layout"
	"lastro/store/ledger"
)

// InUseError says that something stays because a manifest refers to it.
type InUseError struct {
	Digest digest.Digest // what was to go
	By     digest.Digest // the manifest, served by the same repository
}

func (e *InUseError) Error() string {
	return fmt.Sprintf("%s is part of manifest %s: delete that first", e.Digest, e.By)
}

// shut lets nobody publish into a repository or take something out of it.
func (s *Store) shut(repo string) (open func()) {
	s.taking.RLock()
	gate := s.gates.shut(repo)
	return func() {
		gate()
		s.taking.RUnlock()
	}
}

// Unpublish removes a manifest from a repository: first all its tags, each with
// e as its event, then the manifest itself, all of it durably. Its content
// stays. Before anything goes, keep is asked for each tag, and for "", and its
// error ends it. A manifest that an index of the repository lists is an
// [InUseError]; one that the repository does not serve is fs.ErrNotExist.
func (s *Store) Unpublish(ctx context.Context, repo string, d digest.Digest, e ledger.Event, keep func(tag string) error) error {
	if err := errors.Join(layout.CheckRepository(repo), layout.CheckDigest(d)); err != nil {
		return err
	}
	defer s.shut(repo)()
	if err := s.unpublish(ctx, repo, d, e, keep); err != nil {
		return fmt.Errorf("unpublish %s@%s: local registry: %w", repo, d, layout.Explain(err))
	}
	return nil
}

func (s *Store) unpublish(ctx context.Context, repo string, d digest.Digest, e ledger.Event, keep func(string) error) error {
	if err := s.revision(repo, d); err != nil {
		return err
	}
	tags, err := s.tagsOf(ctx, repo, d)
	if err != nil {
		return err
	}
	for _, tag := range append(tags, "") {
		if err := keep(tag); err != nil {
			return err
		}
	}
	if err := s.unused(ctx, repo, d); err != nil {
		return err
	}
	for _, tag := range tags {
		if err := s.untag(ctx, repo, tag, e); err != nil {
			return err
		}
	}
	if err := s.tree.Remove(path.Dir(layout.Revision(repo, d))); err != nil {
		return err
	}
	return s.ledger.RecordUnlinked(context.WithoutCancel(ctx), repo, d)
}

// UntagUnless removes a tag, durably and with e as its event, and says what it
// was at. Before, keep is asked about that, and its error ends it: meanwhile
// nobody publishes into the repository, so what was asked about is what goes. A
// tag that is not there is fs.ErrNotExist.
func (s *Store) UntagUnless(ctx context.Context, repo, tag string, e ledger.Event, keep func(digest.Digest) error) (digest.Digest, error) {
	if err := errors.Join(layout.CheckRepository(repo), layout.CheckTag(tag)); err != nil {
		return "", err
	}
	defer s.shut(repo)()
	d, err := s.Resolve(ctx, repo, tag)
	if err == nil {
		err = keep(d)
	}
	if err == nil {
		err = s.untag(ctx, repo, tag, e)
	}
	if err != nil {
		return "", fmt.Errorf("untag %s:%s: local registry: %w", repo, tag, layout.Explain(err))
	}
	return d, nil
}

// tagsOf are the tags that are at a manifest. One that cannot be read may be at
// it, and is an error.
func (s *Store) tagsOf(ctx context.Context, repo string, d digest.Digest) (tags []string, err error) {
	for tag, err := range s.Tags(ctx, repo) {
		if errors.Is(err, errForeign) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if tag.Digest == d {
			tags = append(tags, tag.Name)
		}
	}
	return tags, nil
}

// unused says whether no manifest that repo serves refers to d. A manifest that
// the ledger does not know may do so.
func (s *Store) unused(ctx context.Context, repo string, d digest.Digest) error {
	parents, err := s.ledger.Parents(ctx, d)
	if err != nil {
		return err
	}
	for _, parent := range parents {
		err := s.revision(repo, parent)
		if err == nil {
			return &InUseError{d, parent}
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return s.allKnown(ctx, repo)
}

func (s *Store) allKnown(ctx context.Context, repo string) error {
	for d, err := range s.Revisions(ctx, repo) {
		if errors.Is(err, errForeign) {
			continue
		}
		known := false
		if err == nil {
			known, err = s.ledger.Linked(ctx, repo, d)
		}
		if err == nil && !known {
			err = fmt.Errorf("the ledger does not know manifest %s, which may refer to what is to go: run lastro rebuild", d)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Unlink removes a blob from a repository, durably. Its content stays. A blob
// that a manifest of the repository refers to is an [InUseError]; one that the
// repository does not serve is fs.ErrNotExist.
func (s *Store) Unlink(ctx context.Context, repo string, d digest.Digest) error {
	if err := errors.Join(layout.CheckRepository(repo), layout.CheckDigest(d)); err != nil {
		return err
	}
	defer s.shut(repo)()
	err := s.linked(layout.Layer(repo, d), d)
	if err == nil {
		err = s.unused(ctx, repo, d)
	}
	if err == nil {
		err = s.tree.Remove(path.Dir(layout.Layer(repo, d)))
	}
	if err == nil {
		s.sentences.put(ledger.Review{Held: ledger.Held{Digest: d}, Due: s.now(), Why: "it left " + repo})
	}
	if err != nil {
		return fmt.Errorf("unlink %s@%s: local registry: %w", repo, d, layout.Explain(err))
	}
	return nil
}
