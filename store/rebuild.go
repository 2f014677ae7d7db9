package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

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
// kept, and nothing on disk is changed. A manifest that cannot be read is a
// problem of the result and keeps what the ledger knew of it; a folder that
// cannot be listed is an error, and the ledger stays as it was. Nothing may be
// published meanwhile.
func (s *Store) Rebuild(ctx context.Context) (Rebuilt, error) {
	r := rebuild{s, Rebuilt{Problems: []string{}}}
	if err := s.ledger.RebuildGraph(ctx, r.manifests(ctx)); err != nil {
		return r.out, fmt.Errorf("rebuild: %w", layout.Explain(err))
	}
	if err := s.reconcile(ctx); err != nil {
		return r.out, fmt.Errorf("rebuild: %w", layout.Explain(err))
	}
	return r.out, nil
}

type rebuild struct {
	*Store
	out Rebuilt
}

func (r *rebuild) problem(format string, args ...any) {
	r.out.Problems = append(r.out.Problems, fmt.Sprintf(format, args...))
}

// manifests yields every manifest of every repository.
func (r *rebuild) manifests(ctx context.Context) iter.Seq2[ledger.RepoManifest, error] {
	return func(yield func(ledger.RepoManifest, error) bool) {
		r.foreign(layout.Repositories)
		for repo, err := range r.Repositories(ctx) {
			if err != nil {
				yield(ledger.RepoManifest{}, err)
				return
			}
			if err := layout.CheckRepository(repo); err != nil {
				r.problem("%v: its folder is left as it is", err)
				continue
			}
			r.out.Repositories++
			if !r.manifestsOf(ctx, repo, yield) {
				return
			}
			r.tags(ctx, repo)
		}
	}
}

// foreign reports files among the folders of repositories. What cannot be
// listed is an error elsewhere.
func (r *rebuild) foreign(dir string) {
	entries, _ := r.tree.Entries(dir)
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		switch {
		case !e.IsDir():
			r.problem("%s is no part of a registry, and is left as it is", name)
		case !strings.HasPrefix(e.Name(), "_"):
			r.foreign(name)
		}
	}
}

func (r *rebuild) manifestsOf(ctx context.Context, repo string, yield func(ledger.RepoManifest, error) bool) bool {
	for d, err := range r.Revisions(ctx, repo) {
		var m ledger.RepoManifest
		switch {
		case errors.Is(err, errForeign):
			r.problem("%v", err)
			continue
		case d != "":
			m, err = r.manifest(ctx, repo, d, err)
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if !yield(m, err) || err != nil {
			return false
		}
	}
	return true
}

// manifest is a manifest as it is on disk, or else as the ledger knows it.
// fault is what is known to be wrong with it.
func (r *rebuild) manifest(ctx context.Context, repo string, d digest.Digest, fault error) (ledger.RepoManifest, error) {
	var found found
	if fault == nil {
		found, fault = r.find(ctx, repo, d)
	}
	if err := ctx.Err(); err != nil {
		return ledger.RepoManifest{}, err
	}
	if fault != nil {
		r.problem("%s@%s: %v", repo, d, fault)
		return r.known(ctx, repo, d)
	}
	for _, missing := range found.missing {
		r.problem("%s@%s: its manifest %s is missing", repo, d, missing)
	}
	r.out.Manifests++
	return found.RepoManifest, nil
}

// known is what the ledger knows of a manifest that repo holds; fs.ErrNotExist.
func (r *rebuild) known(ctx context.Context, repo string, d digest.Digest) (ledger.RepoManifest, error) {
	none := ledger.RepoManifest{}
	linked, err := r.ledger.Linked(ctx, repo, d)
	if err == nil && !linked {
		err = fs.ErrNotExist
	}
	if err != nil {
		return none, err
	}
	node, err := r.ledger.Manifest(ctx, d)
	if err != nil {
		return none, err
	}
	refs, err := r.ledger.Children(ctx, d)
	if err != nil {
		return none, err
	}
	m := mirror.Manifest{Refs: refs, Annotations: node.Annotations}
	m.Descriptor = ocispec.Descriptor{MediaType: node.MediaType, ArtifactType: node.ArtifactType, Digest: d, Size: node.Size}
	if node.Subject != "" {
		m.Subject = &ocispec.Descriptor{Digest: node.Subject}
	}
	return ledger.RepoManifest{Repo: repo, Manifest: m}, nil
}

func (r *rebuild) tags(ctx context.Context, repo string) {
	for tag, err := range r.Tags(ctx, repo) {
		if err == nil {
			_, _, err = r.Manifest(ctx, repo, tag.Digest)
		}
		if err != nil {
			r.problem("%s:%s: %v", repo, tag.Name, err)
			continue
		}
		r.out.Tags++
	}
}

// found is a manifest on disk. missing are children that should be there.
type found struct {
	ledger.RepoManifest
	missing []digest.Digest
}

// find reads a manifest. A child that the repository does not serve is absent on
// purpose when the ledger says so, or when it does not know the manifest and
// other children are there; else it is missing.
func (s *Store) find(ctx context.Context, repo string, d digest.Digest) (found, error) {
	desc, raw, err := s.Manifest(ctx, repo, d)
	if err != nil {
		return found{}, err
	}
	m, err := mirror.ParseManifest(desc, raw)
	if err != nil {
		return found{}, err
	}
	known, err := s.ledger.Linked(ctx, repo, d)
	if err != nil {
		return found{}, err
	}
	f := found{RepoManifest: ledger.RepoManifest{Repo: repo, Manifest: m}}
	held := 0
	var gone []digest.Digest
	for child := range m.Children() {
		switch _, err := s.tree.ReadLink(layout.Revision(repo, child.Digest)); {
		case err == nil:
			held++
		case errors.Is(err, fs.ErrNotExist):
			gone = append(gone, child.Digest)
		}
	}
	for _, child := range gone {
		absent, err := s.ledger.Absent(ctx, repo, child)
		if err != nil {
			return found{}, err
		}
		if absent || !known && held > 0 {
			f.Absent = append(f.Absent, child)
		} else {
			f.missing = append(f.missing, child)
		}
	}
	return f, nil
}
