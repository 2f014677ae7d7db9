package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/opencontainers/go-digest"

	"lastro/mirror"
	"lastro/store/ledger"
)

// reconcile mends what a crash left: a tag that moved in the registry and not
// in the ledger is adopted, a tag that went is removed. What cannot be read is
// left alone.
func (s *Store) reconcile(ctx context.Context) error {
	for repo, err := range s.Repositories(ctx) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err != nil {
			s.log.Warn("the rest of the repositories cannot be listed and is left as it is", "err", err)
			break
		}
		if err := s.adopt(ctx, repo); err != nil {
			return err
		}
		if err := s.endMarks(ctx, repo); err != nil {
			return err
		}
	}
	return s.dropVanished(ctx)
}

func (s *Store) adopt(ctx context.Context, repo string) error {
	learned := false
	for tag, err := range s.Tags(ctx, repo) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err != nil {
			s.log.Warn("a tag cannot be read and is left as it is", "repo", repo, "err", err)
			continue
		}
		known, err := s.ledger.Tag(ctx, repo, tag.Name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if known.Digest == tag.Digest {
			continue
		}
		if !learned {
			if err := s.learn(ctx, repo); err != nil {
				return err
			}
			learned = true
		}
		e := ledger.Event{Time: s.now(), Repo: repo, Tag: tag.Name, Digest: tag.Digest, Previous: known.Digest,
			Event: ledger.Adopted, By: "reconcile", Reason: "found in the registry's files"}
		if err := s.ledger.RecordEvent(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// learn records the manifests of a repository that the ledger does not know.
func (s *Store) learn(ctx context.Context, repo string) error {
	for d, err := range s.Revisions(ctx, repo) {
		if err := ctx.Err(); err != nil {
			return err
		}
		known := false
		if err == nil {
			known, err = s.ledger.Linked(ctx, repo, d)
		}
		var found found
		if err == nil && !known {
			found, err = s.find(ctx, repo, d)
		}
		if err != nil {
			s.log.Warn("a manifest cannot be read and is left as it is", "repo", repo, "digest", d, "err", err)
			continue
		}
		if known {
			continue
		}
		if err := s.ledger.RecordGraph(ctx, repo, []mirror.Manifest{found.Manifest}, found.Absent); err != nil {
			return err
		}
		if err := s.endAbsence(ctx, repo, d); err != nil {
			return err
		}
	}
	return nil
}

// endMarks ends the absence of what repo serves, where a crash came between the
// link and that.
func (s *Store) endMarks(ctx context.Context, repo string) error {
	if !s.ledger.Unclean() {
		return nil
	}
	var ds []digest.Digest
	for d, err := range s.ledger.LeftOut(ctx, repo) {
		if err != nil {
			return err
		}
		ds = append(ds, d)
	}
	return s.endAbsence(ctx, repo, ds...)
}

func (s *Store) dropVanished(ctx context.Context) error {
	for known, err := range s.ledger.Tags(ctx, "") {
		if err != nil {
			return err
		}
		_, err := s.Resolve(ctx, known.Repo, known.Tag)
		if !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		e := ledger.Event{Time: s.now(), Repo: known.Repo, Tag: known.Tag, Previous: known.Digest,
			Event: ledger.Removed, By: "reconcile", Reason: "no longer in the registry's files"}
		if err := s.ledger.RecordEvent(ctx, e); err != nil {
			return fmt.Errorf("%s:%s: %w", known.Repo, known.Tag, err)
		}
	}
	return nil
}
