package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"

	"lastro/mirror"
	"lastro/store/layout"
	"lastro/store/ledger"
)

// behind is a comparison that goes on while the store is used already.
type behind struct {
	cancel context.CancelFunc
	ended  chan struct{}
	err    error // once it has ended
}

// compareBehind starts one. Close ends it: the next Open compares again.
func (s *Store) compareBehind() {
	ctx, cancel := context.WithCancel(context.Background())
	b := &behind{cancel: cancel, ended: make(chan struct{})}
	s.behind = b
	go func() {
		defer close(b.ended)
		defer s.ledger.Relax(ctx)
		if b.err = s.reconcile(ctx); b.err != nil && ctx.Err() == nil {
			s.log.Error("the registry could not be compared with the ledger: it is when lastro starts again", "err", layout.Explain(b.err))
		}
	}()
}

// Compared waits until the registry was compared with the ledger, see
// Options.Behind, and is the error of that.
func (s *Store) Compared(ctx context.Context) error {
	if s.behind == nil {
		return nil
	}
	select {
	case <-s.behind.ended:
		return s.behind.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stop ends a comparison and waits for its end.
func (b *behind) stop() {
	if b != nil {
		b.cancel()
		<-b.ended
	}
}

// reconcile mends what a crash left: a tag that moved in the registry and not
// in the ledger is adopted, a tag that went is removed. What cannot be read is
// left alone. Others may publish meanwhile.
func (s *Store) reconcile(ctx context.Context) error {
	compared := map[string]bool{}
	for repo, err := range s.Repositories(ctx) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err != nil {
			s.log.Warn("the rest of the repositories cannot be listed and is left as it is", "err", err)
			break
		}
		if err := s.compare(ctx, repo); err != nil {
			return err
		}
		if err := s.endMarks(ctx, repo); err != nil {
			return err
		}
		compared[repo] = true
	}
	return s.dropVanished(ctx, compared)
}

// compare makes the ledger's tags of a repository those of the registry.
func (s *Store) compare(ctx context.Context, repo string) error {
	known := map[string]digest.Digest{}
	for state, err := range s.ledger.Tags(ctx, repo) {
		if err != nil {
			return err
		}
		known[state.Tag] = state.Digest
	}
	learn := sync.OnceValue(func() error { return s.learn(ctx, repo) })
	for tag, err := range s.Tags(ctx, repo) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err != nil {
			s.log.Warn("a tag cannot be read and is left as it is", "repo", repo, "err", err)
		} else if known[tag.Name] != tag.Digest {
			if err := learn(); err != nil {
				return err
			}
			if err := s.adopt(ctx, repo, tag.Name); err != nil {
				return err
			}
		}
		delete(known, tag.Name)
	}
	for _, tag := range slices.Sorted(maps.Keys(known)) {
		if err := s.dropIfVanished(ctx, repo, tag); err != nil {
			return err
		}
	}
	return nil
}

// adopt records what a tag is at, if the ledger does not say so. Nobody moves
// the tag meanwhile.
func (s *Store) adopt(ctx context.Context, repo, tag string) error {
	defer s.tags.lock(repo + ":" + tag)()
	now, err := s.Resolve(ctx, repo, tag)
	if err != nil {
		return ignoreGone(err)
	}
	known, err := s.ledger.Tag(ctx, repo, tag)
	if err != nil && !errors.Is(err, fs.ErrNotExist) || known.Digest == now {
		return ignoreGone(err)
	}
	return s.ledger.RecordEvent(ctx, ledger.Event{Time: s.now(), Repo: repo, Tag: tag, Digest: now, Previous: known.Digest,
		Event: ledger.Adopted, By: "reconcile", Reason: "found in the registry's files"})
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

// dropVanished removes the tags of repositories that are no longer there.
func (s *Store) dropVanished(ctx context.Context, compared map[string]bool) error {
	for repo, err := range s.ledger.Repositories(ctx) {
		if err != nil {
			return err
		}
		if compared[repo] {
			continue
		}
		for known, err := range s.ledger.Tags(ctx, repo) {
			if err == nil {
				err = s.dropIfVanished(ctx, repo, known.Tag)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// dropIfVanished removes a tag of the ledger that is not in the registry.
// Nobody moves the tag meanwhile.
func (s *Store) dropIfVanished(ctx context.Context, repo, tag string) error {
	defer s.tags.lock(repo + ":" + tag)()
	if _, err := s.Resolve(ctx, repo, tag); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	known, err := s.ledger.Tag(ctx, repo, tag)
	if err != nil {
		return ignoreGone(err)
	}
	e := ledger.Event{Time: s.now(), Repo: repo, Tag: tag, Previous: known.Digest,
		Event: ledger.Removed, By: "reconcile", Reason: "no longer in the registry's files"}
	if err := s.ledger.RecordEvent(ctx, e); err != nil {
		return fmt.Errorf("%s:%s: %w", repo, tag, err)
	}
	return nil
}
