package store

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lastro/store/layout"
)

// ServesManifest says whether repo serves a manifest: nil when it does,
// fs.ErrNotExist when not. It reads no content.
func (s *Store) ServesManifest(repo string, d digest.Digest) error {
	if err := errors.Join(layout.CheckRepository(repo), layout.CheckDigest(d)); err != nil {
		return err
	}
	s.sentences.tell(repo, d, s.now)
	return s.revision(repo, d)
}

// BlobSize is the length of a blob that repo serves; fs.ErrNotExist.
func (s *Store) BlobSize(repo string, d digest.Digest) (int64, error) {
	if err := s.servesBlob(repo, d); err != nil {
		return 0, err
	}
	return s.tree.Size(d)
}

func (s *Store) servesBlob(repo string, d digest.Digest) error {
	if err := errors.Join(layout.CheckRepository(repo), layout.CheckDigest(d)); err != nil {
		return err
	}
	s.sentences.tell(repo, d, s.now)
	return s.linked(layout.Layer(repo, d), d)
}

// OpenBlob opens a blob that repo serves; fs.ErrNotExist. It is not checked: it
// was when it came. The caller closes it.
func (s *Store) OpenBlob(repo string, d digest.Digest) (*os.File, error) {
	if err := s.servesBlob(repo, d); err != nil {
		return nil, err
	}
	return s.tree.OpenFile(layout.Data(d))
}

// Referrers are the manifests that name subject as theirs and that repo
// serves. The ledger knows of more when a publication was cut short.
func (s *Store) Referrers(ctx context.Context, repo string, subject digest.Digest) ([]ocispec.Descriptor, error) {
	list, err := s.ledger.Referrers(ctx, repo, subject)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list, func(d ocispec.Descriptor) bool {
		_, err := s.tree.ReadLink(layout.Revision(repo, d.Digest))
		return errors.Is(err, fs.ErrNotExist)
	}), nil
}

// Serves reports whether a repository is here, with tags or without.
func (s *Store) Serves(repo string) (bool, error) {
	if err := layout.CheckRepository(repo); err != nil {
		return false, err
	}
	_, err := s.tree.Stat(layout.Repositories + "/" + repo + "/_manifests")
	return err == nil, ignoreGone(err)
}

// Follow opens content from an offset, held or coming: see [layout.Tree.Follow].
func (s *Store) Follow(ctx context.Context, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	return s.tree.Follow(ctx, desc, offset)
}

// Driver is the registry's folder as distribution sees it.
func (s *Store) Driver() *layout.Driver { return s.tree.Driver() }
