package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"lastro/store/layout"
)

// Stock is how much the local registry holds.
type Stock struct {
	Repositories int
	Tags         int
	Manifests    int // that a repository serves; one that two serve counts twice
	Blobs        int // files of content, manifests among them
	Bytes        int64
}

// Stock counts what is on disk. It reads every folder of the registry, so its
// cost grows with it; what comes or goes meanwhile may be counted or not.
func (s *Store) Stock(ctx context.Context) (Stock, error) {
	var n Stock
	for repo, err := range s.Repositories(ctx) {
		if err != nil {
			return n, err
		}
		n.Repositories++
		for range s.Tags(ctx, repo) {
			n.Tags++
		}
		for range s.Revisions(ctx, repo) {
			n.Manifests++
		}
	}
	if err := s.countContent(ctx, layout.Blobs, 3, &n); err != nil {
		return n, fmt.Errorf("local registry: count content: %w", err)
	}
	return n, nil
}

// countContent counts the files data that lie depth folders below dir.
func (s *Store) countContent(ctx context.Context, dir string, depth int, n *Stock) error {
	if depth == 0 {
		info, err := s.tree.Stat(path.Join(dir, "data"))
		if err == nil {
			n.Blobs++
			n.Bytes += info.Size()
		}
		return ignoreGone(err)
	}
	entries, err := s.tree.Entries(dir)
	if err != nil {
		return ignoreGone(err)
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !e.IsDir() {
			continue
		}
		if err := s.countContent(ctx, path.Join(dir, e.Name()), depth-1, n); err != nil {
			return err
		}
	}
	return nil
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
