package store

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"lastro/mirror"
	"lastro/store/storetest"
)

func open(t testing.TB, dir string, o Options) *Store {
	t.Helper()
	if o.Now == nil {
		o.Now = storetest.Now
	}
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// checkWhole fails unless every visible tag's closure is here and verified, and
// of every manifest that is served the ledger knows the edges and the blobs are
// served. It returns the tags.
func checkWhole(t testing.TB, s *Store) map[string]digest.Digest {
	t.Helper()
	tags, err := wholeTags(t.Context(), s)
	if err != nil {
		t.Error(err)
	}
	return tags
}

func wholeTags(ctx context.Context, s *Store) (map[string]digest.Digest, error) {
	tags := map[string]digest.Digest{}
	for repo, err := range s.Repositories(ctx) {
		if err != nil {
			return nil, err
		}
		for d, err := range s.Revisions(ctx, repo) {
			if err != nil {
				return nil, err
			}
			if err := isKnownAndWhole(ctx, s, repo, d); err != nil {
				return nil, err
			}
		}
		for tag, err := range s.Tags(ctx, repo) {
			if err != nil {
				return nil, err
			}
			tags[repo+":"+tag.Name] = tag.Digest
			if err := verifyClosure(ctx, s, repo, tag.Digest); err != nil {
				return nil, fmt.Errorf("%s:%s: %w", repo, tag.Name, err)
			}
			known, err := s.Ledger().Tag(ctx, repo, tag.Name)
			if err != nil || known.Digest != tag.Digest {
				return nil, fmt.Errorf("%s:%s is at %s and the ledger says %s (%v)", repo, tag.Name, tag.Digest, known.Digest, err)
			}
		}
	}
	return tags, nil
}

func verifyClosure(ctx context.Context, s *Store, repo string, root digest.Digest) error {
	closure, err := s.Closure(ctx, repo, root)
	if err != nil {
		return err
	}
	for _, c := range closure {
		f, err := s.OpenContent(ctx, c.Digest)
		if err != nil {
			return err
		}
		got, err := c.Digest.Algorithm().FromReader(f)
		f.Close()
		if err != nil || got != c.Digest {
			return fmt.Errorf("content %s hashes to %s (%v)", c.Digest, got, err)
		}
	}
	return nil
}

func isKnownAndWhole(ctx context.Context, s *Store, repo string, d digest.Digest) error {
	desc, raw, err := s.Manifest(ctx, repo, d)
	if err != nil {
		return err
	}
	m, err := mirror.ParseManifest(desc, raw)
	if err != nil {
		return err
	}
	linked, err := s.Ledger().Linked(ctx, repo, d)
	if err != nil || !linked {
		return fmt.Errorf("%s@%s is served and the ledger does not know it (%v)", repo, d, err)
	}
	known, err := s.Ledger().Children(ctx, d)
	if err != nil || len(known) != len(m.Refs) {
		return fmt.Errorf("%s@%s has %d references and the ledger knows %d (%v)", repo, d, len(m.Refs), len(known), err)
	}
	for blob := range m.Blobs() {
		served, err := s.Linked(ctx, repo, blob.Descriptor, false)
		if err != nil || !served {
			return fmt.Errorf("%s@%s is served without its %s %s (%v)", repo, d, blob.Role, blob.Digest, err)
		}
	}
	return nil
}

// copyOf is a copy of a data folder, as another process would find it now.
func copyOf(t testing.TB, dir string) string {
	t.Helper()
	to := filepath.Join(storetest.Folder(t), "copy")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}
