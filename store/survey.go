package store

import (
	"context"
	"errors"
	"io/fs"
	"path"

	"github.com/opencontainers/go-digest"

	"lastro/mirror"
	"lastro/store/layout"
	"lastro/store/ledger"
)

// Surveyed is what a survey calls with what is on disk.
type Surveyed struct {
	// Repository is called with what links a repository has.
	Repository func(repo string, manifests, blobs []digest.Digest) error
	// Contents is called with content, some at a time.
	Contents func([]digest.Digest) error
	// Doubt is called with what cannot be read, or is not understood: what it may
	// refer to is not known. Without a repository it is anything.
	Doubt func(repo string, err error)
}

// Survey goes through the names of all links and content. It makes the ledger know
// every manifest that is served, and no link that is not there: what a crash, a
// publication cut short or a foreign hand left. Others may publish meanwhile. Only
// the error of ctx, of the ledger or of a function ends it.
func (s *Store) Survey(ctx context.Context, v Surveyed) error {
	repos := map[string]bool{}
	err := s.Disk().Folders(ctx, func(repo string, _ []string) error {
		if err := layout.CheckRepository(repo); err != nil {
			v.Doubt("", err)
			return nil
		}
		repos[repo] = true
		return s.surveyRepository(ctx, repo, v)
	}, func(_ string, err error) { v.Doubt("", err) }, "_layers", "_manifests")
	if err != nil {
		return err
	}
	for repo, err := range s.ledger.Repositories(ctx) {
		if err == nil && !repos[repo] {
			err = s.dropLinks(ctx, repo)
		}
		if err != nil {
			return err
		}
	}
	return s.surveyContents(ctx, v)
}

func (s *Store) surveyRepository(ctx context.Context, repo string, v Surveyed) error {
	manifests, err := s.surveyManifests(ctx, repo, v)
	if err != nil {
		return err
	}
	if err := s.dropLinks(ctx, repo); err != nil {
		return err
	}
	blobs, err := s.digestsIn(layout.Layers(repo))
	if err != nil {
		v.Doubt(repo, err)
		return nil
	}
	return v.Repository(repo, manifests, blobs)
}

// surveyManifests teaches the ledger those that it does not know.
func (s *Store) surveyManifests(ctx context.Context, repo string, v Surveyed) (ds []digest.Digest, err error) {
	for d, err := range s.Revisions(ctx, repo) {
		if errors.Is(err, errForeign) {
			continue
		}
		if err != nil {
			v.Doubt(repo, err)
			continue
		}
		known, err := s.ledger.Linked(ctx, repo, d)
		if err != nil {
			return nil, err
		}
		if !known {
			if err := s.learnOne(ctx, repo, d, v); err != nil {
				return nil, err
			}
		}
		ds = append(ds, d)
	}
	return ds, ctx.Err()
}

func (s *Store) learnOne(ctx context.Context, repo string, d digest.Digest, v Surveyed) error {
	found, err := s.find(ctx, repo, d)
	if errors.Is(err, fs.ErrNotExist) && s.revision(repo, d) != nil {
		return nil // it went meanwhile
	}
	if err != nil {
		v.Doubt(repo, err)
		return nil
	}
	if err := s.ledger.RecordGraph(ctx, repo, []mirror.Manifest{found.Manifest}, found.Absent); err != nil {
		return err
	}
	return s.endAbsence(ctx, repo, d)
}

// dropLinks makes the ledger forget what a repository does not serve.
func (s *Store) dropLinks(ctx context.Context, repo string) error {
	for d, err := range s.ledger.Links(ctx, repo) {
		if err != nil {
			return err
		}
		if !errors.Is(s.revision(repo, d), fs.ErrNotExist) {
			continue
		}
		err = s.Quiet(repo, "", func() error {
			if !errors.Is(s.revision(repo, d), fs.ErrNotExist) {
				return nil
			}
			return s.dropLink(ctx, repo, d)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// dropLink leaves alone what a served manifest has among its parts: that is damage,
// for check to tell of, and the rest of that image stays for its repair.
func (s *Store) dropLink(ctx context.Context, repo string, d digest.Digest) error {
	tags, err := s.ledger.Needs(ctx, []ledger.Held{{Repo: repo, Digest: d}}, s.now(), nil)
	if err != nil || tags[0] != "" {
		return err
	}
	return s.ledger.RecordUnlinked(ctx, repo, d)
}

func (s *Store) surveyContents(ctx context.Context, v Surveyed) error {
	algorithms, err := s.tree.Entries(layout.Blobs)
	if err != nil {
		v.Doubt("", err)
		return nil
	}
	for _, algorithm := range algorithms {
		dir := path.Join(layout.Blobs, algorithm.Name())
		prefixes, err := s.tree.Entries(dir)
		if err != nil {
			v.Doubt("", err)
			continue
		}
		for _, prefix := range prefixes {
			if err := ctx.Err(); err != nil {
				return err
			}
			ds, err := s.digestsOf(algorithm.Name(), path.Join(dir, prefix.Name()))
			if err != nil {
				v.Doubt("", err)
				continue
			}
			if err := v.Contents(ds); err != nil {
				return err
			}
		}
	}
	return nil
}

// digestsIn are the digests that have a folder below each algorithm's.
func (s *Store) digestsIn(dir string) (ds []digest.Digest, err error) {
	algorithms, err := s.tree.Entries(dir)
	for _, a := range algorithms {
		if err != nil {
			break
		}
		var some []digest.Digest
		some, err = s.digestsOf(a.Name(), path.Join(dir, a.Name()))
		ds = append(ds, some...)
	}
	return ds, err
}

// digestsOf leaves out what is named otherwise.
func (s *Store) digestsOf(algorithm, dir string) (ds []digest.Digest, err error) {
	entries, err := s.tree.Entries(dir)
	for _, e := range entries {
		d := digest.NewDigestFromEncoded(digest.Algorithm(algorithm), e.Name())
		if e.IsDir() && layout.CheckDigest(d) == nil {
			ds = append(ds, d)
		}
	}
	return ds, err
}
