package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"

	"github.com/opencontainers/go-digest"

	"lastro/mirror"
	"lastro/store/layout"
	"lastro/store/ledger"
)

// Rebuilt is what a rebuild found.
type Rebuilt struct {
	Repositories int      `json:"repositories"`
	Manifests    int      `json:"manifests"`
	Tags         int      `json:"tags"`
	Problems     []string `json:"problems"`
}

// Print says it in words.
func (r Rebuilt) Print(w io.Writer) error {
	for _, p := range r.Problems {
		fmt.Fprintf(w, "problem: %s\n", p)
	}
	_, err := fmt.Fprintf(w, "rebuilt from %d repositories: %d manifests, %d tags\n", r.Repositories, r.Manifests, r.Tags)
	return err
}

// Rebuild makes the ledger's graph anew from the manifests on disk. History is
// kept. A manifest that cannot be read is a problem of the result and keeps what
// the ledger knew of it. Nothing may be published meanwhile.
func (s *Store) Rebuild(ctx context.Context) (Rebuilt, error) {
	out := Rebuilt{Problems: []string{}}
	if err := s.ledger.RebuildGraph(ctx, s.manifests(ctx, &out)); err != nil {
		return out, fmt.Errorf("rebuild: %w", err)
	}
	if err := s.reconcile(ctx); err != nil {
		return out, fmt.Errorf("rebuild: %w", err)
	}
	return out, nil
}

// manifests yields every manifest of every repository.
func (s *Store) manifests(ctx context.Context, out *Rebuilt) iter.Seq2[ledger.RepoManifest, error] {
	return func(yield func(ledger.RepoManifest, error) bool) {
		for repo, err := range s.Repositories(ctx) {
			if err != nil {
				yield(ledger.RepoManifest{}, err)
				return
			}
			out.Repositories++
			if !s.manifestsOf(ctx, repo, out, yield) {
				return
			}
			for _, err := range s.Tags(ctx, repo) {
				if err != nil {
					out.Problems = append(out.Problems, err.Error())
					continue
				}
				out.Tags++
			}
		}
	}
}

func (s *Store) manifestsOf(ctx context.Context, repo string, out *Rebuilt, yield func(ledger.RepoManifest, error) bool) bool {
	for d, err := range s.Revisions(ctx, repo) {
		if ctx.Err() != nil {
			yield(ledger.RepoManifest{}, ctx.Err())
			return false
		}
		var found ledger.RepoManifest
		if err == nil {
			found, err = s.found(ctx, repo, d)
		}
		if err != nil {
			out.Problems = append(out.Problems, fmt.Sprintf("%s@%s: %v", repo, d, err))
			continue
		}
		out.Manifests++
		if !yield(found, nil) {
			return false
		}
	}
	return true
}

// found reads a manifest, and takes children for absent on purpose that the
// repository does not serve and the ledger knew as such, or that belong to an
// index of which other children are there.
func (s *Store) found(ctx context.Context, repo string, d digest.Digest) (ledger.RepoManifest, error) {
	desc, raw, err := s.Manifest(ctx, repo, d)
	if err != nil {
		return ledger.RepoManifest{}, err
	}
	m, err := mirror.ParseManifest(desc, raw)
	if err != nil {
		return ledger.RepoManifest{}, err
	}
	found := ledger.RepoManifest{Repo: repo, Manifest: m}
	for child := range m.Children() {
		_, err := s.tree.ReadLink(layout.Revision(repo, child.Digest))
		if errors.Is(err, fs.ErrNotExist) {
			found.Absent = append(found.Absent, child.Digest)
		}
	}
	return found, nil
}
